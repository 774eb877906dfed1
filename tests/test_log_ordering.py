"""Valid files of other programs, in every order and with every kind of record: their messages come by time."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer
from recorded_run import SENSORS, facts, record, replayed, samples

from agent.log.editing.cutting import cut
from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.format import FACTS_RECORD, ReplayError
from agent.log.ordering import Given, by_time
from agent.log.replay.control import ReplayOptions
from agent.log.replay.samples import SampleReplay
from agent.log.seeking import places_of
from agent.log.unpacking import RECORD_HEAD, Damaged
from drivers.driver import Sample

PRIVATE = 0x93
TOPICS = 4


@dataclass(frozen=True)
class Row:
    topic: int
    t_ns: int
    data: bytes


def rows(count: int = 300, size: int = 50) -> list[Row]:
    """Messages of four topics, in turn."""
    return [Row(n % TOPICS, 1000 + 10 * n, b"%06d" % n + bytes(size)) for n in range(count)]


def by_topic(found: Sequence[Row]) -> list[Row]:
    return sorted(found, key=lambda row: row.topic)


def backwards(found: Sequence[Row]) -> list[Row]:
    return list(reversed(found))


def shuffled(found: Sequence[Row]) -> list[Row]:
    return random.Random("rows").sample(found, len(found))


def joined(found: Sequence[Row]) -> list[Row]:
    """Two recordings of the same time, end to end."""
    return [row for part in (0, 1) for row in found if row.topic % 2 == part]


ORDERS: list[Callable[[Sequence[Row]], list[Row]]] = [list, by_topic, backwards, shuffled, joined]


def written(
    found: Sequence[Row],
    compression: CompressionType = CompressionType.ZSTD,
    index: IndexType = IndexType.ALL,
    chunk_size: int = 1000,
    **options: bool,
) -> io.BytesIO:
    stream = io.BytesIO()
    writer = Writer(stream, chunk_size=chunk_size, compression=compression, index_types=index, **options)
    writer.start("", "another program")
    channels: dict[int, int] = {}
    for number, row in enumerate(found):
        if row.topic not in channels:
            schema = writer.register_schema(f"kind{row.topic}", "jsonschema", b"{}")
            channels[row.topic] = writer.register_channel(f"/{row.topic}", "json", schema)
        if number % 100 == 50:
            writer.add_metadata(f"note {number}", {"it": "is"})
        if number == 120:
            writer.add_attachment(row.t_ns, row.t_ns, "map.bin", "application/octet-stream", bytes(100_000))
        writer.add_message(channels[row.topic], row.t_ns, row.data, row.t_ns, number)
    writer.finish()
    stream.seek(0)
    return stream


def with_private_records(stream: io.BytesIO) -> io.BytesIO:
    """The same file with a private record after its header; without a summary, whose offsets would be wrong."""
    data = stream.getvalue()
    header = 8 + RECORD_HEAD.size + RECORD_HEAD.unpack_from(data, 8)[1]
    private = RECORD_HEAD.pack(PRIVATE, 70_000) + bytes(70_000)
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    end = RECORD_HEAD.pack(2, 20) + bytes(20) + data[:8]
    return io.BytesIO(data[:header] + private + data[header:summary] + end)


def read(given: Given) -> Row:
    assert given.schema.name == f"kind{given.channel.topic[1:]}"
    return Row(int(given.channel.topic[1:]), given.message.log_time, given.message.data)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("compression", list(CompressionType))
def test_messages_come_by_time_whatever_their_order(
    order: Callable[[Sequence[Row]], list[Row]], chunked: bool, compression: CompressionType
) -> None:
    stream = written(order(rows()), compression, use_chunking=chunked)
    assert [read(given) for given in by_time(stream)] == rows()
    assert [read(given) for given in by_time(with_private_records(stream))] == rows()


@pytest.mark.parametrize(
    "options",
    [
        {"index": IndexType.NONE},
        {"index": IndexType.CHUNK},
        {"index": IndexType.MESSAGE},
        {"repeat_channels": False, "repeat_schemas": False},
        {"use_summary_offsets": False, "use_statistics": False, "enable_crcs": False},
    ],
)
def test_a_summary_may_lack_anything(options: dict[str, bool]) -> None:
    stream = written(by_topic(rows()), **options)  # type: ignore[arg-type]
    assert [read(given) for given in by_time(stream)] == rows()
    late = rows()[200].t_ns
    found = [read(given) for given in by_time(stream, late)]
    assert found == sorted(found, key=lambda row: row.t_ns)
    assert [row for row in found if row.t_ns >= late] == rows()[200:]


def test_equal_times_keep_the_order_of_the_file() -> None:
    handed = [Row(n % TOPICS, 5000 + n // 10, b"%d" % n) for n in range(200)]
    assert [read(given) for given in by_time(written(handed))] == handed


@pytest.mark.parametrize("order", ORDERS)
def test_what_does_not_fit_is_read_again(order: Callable[[Sequence[Row]], list[Row]]) -> None:
    handed = rows(800, size=1000)
    stream = written(order(handed), chunk_size=20_000)
    held_bytes = 70_000
    assert [read(given) for given in by_time(stream, held_bytes=held_bytes)] == handed
    tracemalloc.start()
    try:
        assert sum(1 for _ in by_time(stream, held_bytes=held_bytes)) == len(handed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * held_bytes < 800 * 1000


def test_messages_that_are_larger_than_what_is_held_come_one_by_one() -> None:
    handed = rows(20, size=10_000)
    assert [read(given) for given in by_time(written(shuffled(handed)), held_bytes=3000)] == handed


def test_an_order_that_costs_more_than_the_file_explains_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.log.ordering.MOST_WORK", 50)
    stream = written(shuffled(rows(600)))
    with pytest.raises(ReplayError, match="too far out of order; sort the file by time first"):
        list(by_time(stream, held_bytes=2000))


@pytest.mark.parametrize("compression", list(CompressionType))
def test_chunks_beyond_the_limit_are_read_in_parts(
    log: Path, tmp_path: Path, compression: CompressionType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some tools write one chunk a file; the limit is lowered, so that the test needs no gigabyte."""
    for module in ("reading", "unpacking", "seeking"):
        monkeypatch.setattr(f"agent.log.{module}.MAX_CHUNK_BYTES", 100_000)
    handed = rows(2000, size=1000)
    stream = written(shuffled(handed), compression, chunk_size=2**30)
    assert [read(given) for given in by_time(stream, held_bytes=400_000)] == handed
    data = bytearray(stream.getvalue())
    chunk = places_of(stream)
    data[int(chunk.offsets[0] + chunk.lengths[0] // 2)] ^= 1
    with pytest.raises(Damaged, match=r"checksum is wrong|cannot be decompressed|declares"):
        list(by_time(io.BytesIO(bytes(data)), held_bytes=400_000))
    copy = tmp_path / "copy.mcap"
    rewritten(log, copy, list, 2**30, compression)
    wanted = Counter(name for name, _ in samples(60))
    assert Counter(name for name, _ in replayed(SampleReplay(copy))) == wanted
    assert {topic: found.count for topic, found in survey([copy]).topics.items() if topic != "/events"} == {
        f"/sensors/{name}": count for name, count in wanted.items()
    }
    assert cut([copy], tmp_path / "cut.mcap").messages["/sensors/imu"] == 60
    repaired = repair(copy, tmp_path / "repaired.mcap")
    assert (repaired.messages["/sensors/imu"], repaired.damages) == (60, [])


@pytest.mark.parametrize("order", ORDERS)
def test_what_stands_before_a_damage_is_given_by_time(order: Callable[[Sequence[Row]], list[Row]]) -> None:
    data = written(order(rows()), CompressionType.NONE).getvalue()
    cut_off = io.BytesIO(data[: len(data) * 2 // 3])
    found: list[Row] = []
    with pytest.raises(Damaged):
        found.extend(read(given) for given in by_time(cut_off))
    assert 40 < len(found) < 299
    assert found == sorted(found, key=lambda row: row.t_ns)
    assert {row.data for row in found} == {row.data for row in order(rows())[: len(found)]}


def test_messages_beside_chunks_are_not_overlooked() -> None:
    """The summary lists chunks only."""
    chunked, loose = written(rows()), written(rows(10), use_chunking=False)
    data, other = chunked.getvalue(), loose.getvalue()
    header = 8 + RECORD_HEAD.size + RECORD_HEAD.unpack_from(other, 8)[1]
    at = header
    while other[at] in (3, 4, 5):  # schemas, channels, messages
        at += RECORD_HEAD.size + RECORD_HEAD.unpack_from(other, at)[1]
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    data_end = summary - RECORD_HEAD.size - 4
    body = data[:data_end] + other[header:at] + data[data_end:-37]
    moved = at - header
    footer = RECORD_HEAD.pack(2, 20) + struct.pack("<QQI", summary + moved, 0, 0)
    mixed = io.BytesIO(body + footer + data[:8])
    assert [row.data for row in map(read, by_time(mixed))] == sorted(
        [row.data for row in rows()] + [row.data for row in rows(10)]
    )


def rewritten(
    log: Path,
    out: Path,
    order: Callable[[list[int]], list[int]],
    chunk_size: int = 200_000,
    compression: CompressionType = CompressionType.LZ4,
    **options: bool,
) -> None:
    """A log as another program copies it: other order, other chunks, attachments, the run's facts at the end."""
    with log.open("rb") as source, out.open("wb") as sink:
        writer = Writer(sink, compression=compression, chunk_size=chunk_size, **options)
        writer.start("", "another program")
        found = list(make_reader(source).iter_messages())
        writer.add_attachment(0, 0, "map.bin", "application/octet-stream", bytes(100_000))
        channels = {}
        for i in order(list(range(len(found)))):
            schema, channel, message = found[i]
            if channel.id not in channels:
                kind = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, kind)
            copy = channels[channel.id]
            writer.add_message(copy, message.log_time, message.data, message.publish_time, message.sequence)
        writer.add_metadata(FACTS_RECORD, facts().to_record())
        writer.finish()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ordering") / "run.mcap"
    record(path, samples(60), events=5)
    return path


def stamps(found: Sequence[tuple[str, Sample]]) -> list[tuple[str, int, int]]:
    return [(name, sample.t_ns, sample.lost) for name, sample in found]


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("order", ["by topic", "backwards", "shuffled"])
def test_a_log_in_any_order_replays_as_it_was_recorded(log: Path, tmp_path: Path, order: str, chunked: bool) -> None:
    places = [n for name in SENSORS for n, (other, _) in enumerate(samples(60)) if other == name]
    orders: dict[str, Callable[[list[int]], list[int]]] = {
        "by topic": lambda found: [found[i] for i in places] + found[len(places) :],
        "backwards": lambda found: found[::-1],
        "shuffled": lambda found: random.Random("log").sample(found, len(found)),
    }
    out = tmp_path / "copy.mcap"
    rewritten(log, out, orders[order], use_chunking=chunked)
    # Blocks come when their last row is there, pictures at once.
    wanted = sorted(replayed(SampleReplay(log)), key=lambda item: (item[1].end_ns, item[1].t_ns))
    found = replayed(SampleReplay(out))
    assert stamps(found) == stamps(wanted)
    middle_ns = wanted[150][1].t_ns
    late = replayed(SampleReplay(out, options=ReplayOptions(from_ns=middle_ns)))
    assert [row[:2] for row in stamps(late)] == [row[:2] for row in stamps(wanted) if row[1] >= middle_ns]


def test_attachments_larger_than_any_chunk_may_be_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    stream = written(rows())
    data = stream.getvalue()
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    huge = 300 * 2**20
    with path.open("wb") as file:
        file.write(data[: summary - 13])
        file.write(RECORD_HEAD.pack(9, huge))
        file.seek(huge, io.SEEK_CUR)  # a hole of the file: nothing lies on the disk
        file.write(data[summary - 13 : summary] + RECORD_HEAD.pack(2, 20) + bytes(20) + data[:8])
    with path.open("rb") as file:
        assert [read(given) for given in by_time(file)] == rows()


def test_a_huge_attachment_is_no_damage_to_the_tools_either(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    data = log.read_bytes()
    header = 8 + RECORD_HEAD.size + RECORD_HEAD.unpack_from(data, 8)[1]
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    huge = 300 * 2**20
    with path.open("wb") as file:
        file.write(data[:header] + RECORD_HEAD.pack(9, huge))
        file.seek(huge, io.SEEK_CUR)
        file.write(data[header:summary] + RECORD_HEAD.pack(2, 20) + bytes(20) + data[:8])
    seen = survey([path])
    assert not seen.damages
    assert seen.topics["/sensors/camera"].count == 60
    assert cut([path], tmp_path / "cut.mcap").messages["/sensors/imu"] == 60
    assert not repair(path, tmp_path / "repaired.mcap").damages
