"""Recordings of several files, whole, cut off, and with parts that are gone."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from mcap.opcode import Opcode
from mcap.writer import CompressionType, Writer
from recorded_run import SENSORS, START_NS, event, facts, record, replayed, samples

from agent.config.recording import RecordSettings
from agent.log.editing.cutting import cut
from agent.log.format import FACTS_RECORD, LogError, ReplayError, RunFacts
from agent.log.ordering import by_time
from agent.log.reading import records
from agent.log.recording.recorder import Recorder
from agent.log.replay.control import ReplayOptions
from agent.log.replay.samples import SampleReplay
from agent.log.seeking import places_of
from agent.log.timeline import Timeline
from agent.log.viewers.imu_rows import plotted_rows
from agent.log.viewers.topics import viewer_topic
from agent.policy import LOSSLESS
from drivers.driver import Sample

S = 1_000_000_000
STEPS = 60
"""Tenths of a second."""
Pairs = list[tuple[str, Sample]]


def stamps(pairs: Pairs) -> list[tuple[str, int]]:
    return [(name, sample.t_ns) for name, sample in pairs]


def last_ns(pairs: Pairs) -> int:
    """Capture time of the last row that the log holds as numbers: of 400.5 a second, the first of each hundredth."""
    blocks = [sample for name, sample in pairs if name == "imu"]
    return max(t_ns for block in blocks for t_ns, _ in plotted_rows(block, RecordSettings().imu_plot_hz))


def split(folder: Path, handed: Pairs, run: RunFacts | None = None) -> list[Path]:
    """Record into parts of about a second."""
    settings = RecordSettings(split_s=1.0, chunk_bytes=64 * 1024)
    with Recorder(folder / "run.mcap", run or facts(), settings, policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
    assert not recorder.report().drops
    return sorted(folder.glob("*.mcap"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    parts = split(tmp_path_factory.mktemp("split"), samples(STEPS))
    assert len(parts) >= 4
    return parts


def read(*logs: Path, from_ns: int | None = None) -> Pairs:
    return replayed(SampleReplay(Timeline(logs), options=ReplayOptions(from_ns=from_ns)))


def test_the_parts_of_a_recording_are_one_timeline(parts: list[Path]) -> None:
    shuffled = random.Random(3).sample(parts, len(parts))
    for logs in ([parts[0].parent], parts, shuffled):
        replay = SampleReplay(Timeline(logs))
        found = replayed(replay)
        assert stamps(found) == stamps(samples(STEPS))
        assert [sample.lost for _, sample in found] == [sample.lost for _, sample in samples(STEPS)]
        assert replay.reports()["camera"].drops == {}
        assert (replay.timeline.start_ns, replay.timeline.end_ns) == (START_NS, last_ns(samples(STEPS)))


def test_a_part_that_is_gone_is_seen_as_a_gap(parts: list[Path]) -> None:
    kept = [parts[0], *parts[2:]]
    replay = SampleReplay(Timeline(kept))
    found = replayed(replay)
    gone = {stamp for stamp in stamps(samples(STEPS)) if stamp not in stamps(found)}
    for name in SENSORS:
        missing = sum(sensor == name for sensor, _ in gone)
        assert missing > 0
        after = [sample.lost for sensor, sample in found if sensor == name and sample.lost]
        # The microphone had lost 3 rows of its own.
        assert sum(after) >= missing, name
        assert replay.reports()[name].drops["not recorded"] == sum(after)


def test_a_piece_of_what_is_there_anyway_is_no_gap(parts: list[Path], tmp_path: Path) -> None:
    piece = tmp_path / "piece.mcap"
    cut(parts[:1], piece, from_ns=START_NS + S // 5, to_ns=START_NS + S // 2)
    replay = SampleReplay(Timeline([*parts, piece]))
    lost = {name: sum(sample.lost for sensor, sample in replayed(replay) if sensor == name) for name in SENSORS}
    assert lost == {name: 3 if name == "microphone" else 0 for name in SENSORS}, "as it was recorded"


def test_a_part_that_is_cut_off_costs_its_end_only(parts: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / parts[1].name
    cut.write_bytes(parts[1].read_bytes()[:-20_000])
    replay = SampleReplay(Timeline([parts[0], cut, *parts[2:]]))
    found = replayed(replay)
    assert "cut off or damaged" in replay.timeline.unfinished
    assert stamps(found)[-1] == stamps(samples(STEPS))[-1]
    assert len(found) < STEPS * len(SENSORS)


def test_files_that_do_not_belong_together_are_refused(parts: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.mcap"
    with Recorder(other, replace(facts(), run_id="d4e5f6"), policy=LOSSLESS):
        pass
    with pytest.raises(ReplayError, match=r"are of different runs \(a1b2c3 and d4e5f6\); replay them one after"):
        Timeline([parts[0], other])
    copy = tmp_path / "copy.mcap"
    copy.write_bytes(parts[1].read_bytes())
    with pytest.raises(ReplayError, match="are both part 2 of one recording"):
        Timeline([*parts, copy])
    assert len(Timeline([parts[0], parts[0]]).files) == 1, "the same file twice is one file"


def test_a_time_is_found_in_every_kind_of_file(parts: list[Path], tmp_path: Path) -> None:
    """By the index, without it, and where the index lies."""
    handed = samples(STEPS)
    whole = tmp_path / "whole.mcap"
    with Recorder(whole, facts(), RecordSettings(chunk_bytes=64 * 1024), policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
    with whole.open("rb") as stream:
        assert places_of(stream).definitions is not None
        assert len(places_of(stream).offsets) > 10
    data = whole.read_bytes()
    summary = struct.unpack_from("<Q", data, len(data) - 28)[0]
    unfinished, lying = tmp_path / "unfinished.mcap", tmp_path / "lying.mcap"
    unfinished.write_bytes(data[:summary])
    lying.write_bytes(data[:summary] + bytes(b ^ 0x55 for b in data[summary : summary + 500]) + data[summary + 500 :])
    for log in (unfinished, lying):
        with log.open("rb") as stream:
            assert places_of(stream).definitions is None
    for t_ns in (START_NS + 1, START_NS + S, START_NS + 3 * S + 77, handed[-1][1].t_ns):
        wanted = [stamp for stamp in stamps(handed) if stamp[1] >= t_ns]
        for logs in ([whole], [unfinished], [lying], parts):
            assert stamps(read(*logs, from_ns=t_ns)) == wanted


@pytest.mark.parametrize("offset", [2**64 - 1, 2**63, 2**40])
def test_an_index_that_points_behind_the_file_is_not_believed(tmp_path: Path, offset: int) -> None:
    whole = tmp_path / "whole.mcap"
    with Recorder(whole, facts(), RecordSettings(chunk_bytes=64 * 1024), policy=LOSSLESS) as recorder:
        for name, sample in samples(STEPS):
            recorder.write_sample(name, sample)
    data = bytearray(whole.read_bytes())
    (at,) = struct.unpack_from("<Q", data, len(data) - 28)
    data[-12:-8] = bytes(4)  # no checksum
    places = []
    while data[at] != Opcode.FOOTER:
        if data[at] == Opcode.CHUNK_INDEX:
            places.append(at + 9 + 16)
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    middle = places[len(places) // 2]
    (t_ns,) = struct.unpack_from("<Q", data, middle - 8)
    struct.pack_into("<Q", data, middle, offset)
    whole.write_bytes(data)
    with whole.open("rb") as stream:
        assert len(places_of(stream).offsets) == len(places)
        late = {given.message.log_time for given in by_time(stream, t_ns)}
    assert late >= {sample.t_ns for _, sample in samples(STEPS) if sample.t_ns >= t_ns}


def test_seeking_reads_only_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(STEPS))
    with path.open("rb") as stream:
        late = [given for given in by_time(stream, START_NS + 5 * S) if not viewer_topic(given.channel.topic)]
        assert len(late) < STEPS * len(SENSORS) / 2
        assert list(by_time(stream, START_NS + 100 * S)) == []


def test_messages_outside_of_chunks_are_found(tmp_path: Path) -> None:
    """As other writers may leave them."""
    chunked, loose = tmp_path / "chunked.mcap", tmp_path / "loose.mcap"
    record(chunked, samples(20))
    with chunked.open("rb") as stream, loose.open("wb") as out:
        writer = Writer(out, use_chunking=False, compression=CompressionType.NONE)
        writer.start()
        writer.add_metadata(FACTS_RECORD, facts().to_record())
        schemas: dict[int, int] = {}
        channels: dict[int, int] = {}
        for found in records(stream):
            match type(found).__name__:
                case "Schema":
                    schemas[found.id] = writer.register_schema(found.name, found.encoding, found.data)
                case "Channel":
                    channels[found.id] = writer.register_channel(found.topic, "protobuf", schemas[found.schema_id])
                case "Message":
                    channel = channels[found.channel_id]
                    writer.add_message(channel, found.log_time, found.data, found.publish_time, found.sequence)
        writer.finish()
    assert Timeline([loose]).end_ns == last_ns(samples(20))
    t_ns = START_NS + S
    wanted = [stamp for stamp in stamps(samples(20)) if stamp[1] >= t_ns]
    assert sorted(stamps(read(loose, from_ns=t_ns))) == sorted(wanted)


def test_a_wrong_stamp_does_not_lengthen_a_log(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    handed = samples(20)
    name, sample = handed[42]
    handed[42] = name, replace(sample, t_ns=sample.t_ns + 3600 * S)
    record(path, handed)
    timeline = Timeline([path])
    assert timeline.end_ns <= last_ns(samples(20))
    assert timeline.end_ns > START_NS
    replay = SampleReplay(path, options=ReplayOptions(speed=1000.0))
    assert stamps(replayed(replay)) == stamps(handed)
    assert replay.clock.now_ns() == max(sample.end_ns for _, sample in samples(20)), "the clock does not follow it"


def test_random_damage_never_does_worse_than_an_error(parts: list[Path], tmp_path: Path) -> None:
    rng = random.Random(8)
    data = parts[1].read_bytes()
    path = tmp_path / "damaged.mcap"
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            # Half of it where the index is.
            at = rng.randrange(len(data) - 3000, len(data)) if rng.random() < 0.5 else rng.randrange(len(data))
            damaged[at] = rng.randrange(256)
        path.write_bytes(bytes(damaged[: rng.choice([len(data), rng.randrange(len(data))])]))
        try:
            timeline = Timeline([path])
            found = replayed(SampleReplay(timeline, options=ReplayOptions(from_ns=timeline.start_ns + S // 3)))
            outcomes.add(bool(found))
        except LogError:
            outcomes.add("refused")
    assert outcomes >= {True, "refused"}


def test_the_events_of_a_log_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(3), events=3)
    found = [message.data for message in Timeline([path]).events()]
    assert found == [event(seq).SerializeToString() for seq in (1, 2, 3)]
    assert Timeline([path]).model() == ""
