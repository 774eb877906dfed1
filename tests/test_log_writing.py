from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.reader import make_reader
from mcap.records import Channel as ChannelRecord
from mcap.records import Message
from mcap.stream_reader import StreamReader
from other_reader import messages, metadata

from agent.log import writing
from agent.log.format import RecordError
from agent.log.reading import records
from agent.log.seeking import places_of
from agent.log.whole_file import whole_file, whole_log
from agent.log.writing import REDEFINE_CHUNKS, Channel, LogWriter

ANY = Channel("/any", "any.Thing", b"schema", "protobuf", "protobuf", (("unit", "m"),))
PLAIN = Channel("/plain", "", b"", "", "json")


def test_mcaps_own_reader_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with whole_log(path) as writer:
        writer.add_metadata("one", {"a": "b"})
        for number in range(1000):
            channel = PLAIN if number % 3 else ANY
            writer.add_message(channel, number, 10**18 + 1000 - number, 7, bytes([number % 256]) * number)
            if number == 500:
                writer.add_metadata("two", {})
    wanted = [(("/plain" if n % 3 else "/any"), 10**18 + 1000 - n, n, bytes([n % 256]) * n) for n in range(1000)]
    assert messages(path) == wanted
    assert metadata(path) == {"one": {"a": "b"}, "two": {}}
    with path.open("rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        in_time = [(m.log_time, m.sequence) for _, _, m in reader.iter_messages()]
        some = [m.sequence for _, _, m in reader.iter_messages("/any", starting_at=10**18 + 901)]
        stream.seek(0)
        loose = [r for r in StreamReader(stream, validate_crcs=True).records if isinstance(r, Message)]
    assert in_time == sorted((t, n) for _, t, n, _ in wanted), "by the index, in the order of time"
    assert some == list(range(99, -1, -3))
    assert len(loose) == 1000
    assert summary is not None
    assert summary.statistics is not None
    assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (10**18 + 1, 10**18 + 1000)
    assert {c.topic: (c.metadata, c.message_encoding, c.schema_id) for c in summary.channels.values()} == {
        "/any": ({"unit": "m"}, "protobuf", 1),
        "/plain": ({}, "json", 0),
    }
    assert [(s.name, s.encoding, s.data) for s in summary.schemas.values()] == [("any.Thing", "protobuf", b"schema")]
    with path.open("rb") as stream:
        assert places_of(stream).definitions is not None, "the checksum of the summary holds"


def test_a_log_without_messages_is_complete(tmp_path: Path) -> None:
    with whole_log(tmp_path / "a.mcap") as writer:
        writer.add_metadata("one", {"a": "b"})
    assert messages(tmp_path / "a.mcap") == []
    assert metadata(tmp_path / "a.mcap") == {"one": {"a": "b"}}


def test_a_long_index_goes_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "INDEX_BYTES_IN_MEMORY", 1000)
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = LogWriter(lambda data: [file.write(data)][0] and None, 100)
        for number in range(500):
            writer.add_message(ANY, number, number, number, bytes(90))
        writer.finish()
        writer.close()
        writer.close()
    assert len(messages(tmp_path / "a.mcap")) == 500


def test_channels_are_told_again() -> None:
    stream = io.BytesIO()
    writer = LogWriter(lambda data: [stream.write(data)][0] and None, 100)
    for number in range(3 * REDEFINE_CHUNKS):
        writer.add_message(ANY, number, number, number, bytes(90))
    writer.finish()
    writer.close()
    stream.seek(0)
    found = [record.topic for record in records(stream) if isinstance(record, ChannelRecord)]
    assert found == ["/any"] * 4, "three times in chunks, once in the summary"


def test_what_fails_to_be_written_can_be_tried_again() -> None:
    stream, fails = io.BytesIO(), [True]

    def write(data: bytes) -> None:
        if fails[0] and stream.tell() > 100:
            raise OSError("full")
        stream.write(data)

    writer = LogWriter(write, 1000)
    writer.add_message(ANY, 1, 2, 3, b"abc")
    with pytest.raises(OSError, match="full"):
        (writer.end_chunk(), writer.add_message(ANY, 2, 3, 4, b"def"), writer.end_chunk())
    fails[0] = False
    writer.end_chunk()
    writer.add_message(ANY, 3, 4, 5, b"ghi")
    writer.drop_chunk()
    writer.finish()
    writer.close()
    assert stream.tell() == writer.size
    stream.seek(0)
    counts = Counter(record.data for record in records(stream) if isinstance(record, Message))
    assert counts == {b"abc": 1, b"def": 1}


def write_and(path: Path, then: Callable[[], object]) -> None:
    with whole_file(path) as write:
        write(b"wh")
        assert not path.exists()
        write(b"ole")
        then()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    with pytest.raises(ZeroDivisionError):
        write_and(path, lambda: 1 / 0)
    assert list(tmp_path.iterdir()) == []
    write_and(path, list)
    assert path.read_bytes() == b"whole"
    with pytest.raises(RecordError, match="exists already"):
        write_and(other, lambda: other.write_bytes(b"theirs"))
    assert other.read_bytes() == b"theirs"
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "b"}
