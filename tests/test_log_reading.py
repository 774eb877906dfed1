from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import recorded_stream
import zstandard
from mcap.opcode import Opcode
from mcap.records import Channel, Message
from mcap.writer import CompressionType, Writer
from recorded_run import START_NS, record, samples

from agent.log.reading import MAGIC, MESSAGE_HEAD, chunk_records, records
from agent.log.unpacking import CHUNK_HEAD, MAX_CHUNK_BYTES, RECORD_HEAD, Allowance, Damaged, NotMcap
from agent.log.viewers.topics import viewer_topic


def wait_for(progress: Path, t_ns: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while struct.unpack("<q", progress.read_bytes())[0] < t_ns:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("seconds", [0.7, 2.3, 3.1])
def test_a_killed_recording_loses_at_most_100_ms(tmp_path: Path, seconds: float) -> None:
    path, progress = tmp_path / "run.mcap", tmp_path / "progress"
    progress.write_bytes(bytes(8))
    process = subprocess.Popen([sys.executable, recorded_stream.__file__, str(path), str(progress)])
    try:
        wait_for(progress, recorded_stream.START_NS + round(seconds * 1e9), process)
    finally:
        process.kill()
        process.wait()
    (handed_ns,) = struct.unpack("<q", progress.read_bytes())
    found: list[int] = []
    with path.open("rb") as stream, pytest.raises(Damaged):
        found.extend(record.log_time for record in records(stream) if isinstance(record, Message))
    wanted = [sample.t_ns for (_, sample), _ in zip(recorded_stream.stream(), found, strict=False)]
    assert found == wanted, "nothing is missing before the end"
    assert handed_ns - (found[-1] + recorded_stream.STEP_NS) <= 100_000_000


def chunk(data: bytes, compression: str = "", size: int | None = None, packed: bytes | None = None) -> bytes:
    """A chunk record; `size` and `packed` may say something else than the truth."""
    packed = data if packed is None else packed
    name = compression.encode()
    body = CHUNK_HEAD.pack(0, 0, len(data) if size is None else size, zlib.crc32(data), len(name)) + name
    body += struct.pack("<Q", len(packed)) + packed
    return RECORD_HEAD.pack(Opcode.CHUNK, len(body)) + body


def damage(data: bytes) -> str:
    """What reading says of bytes after the magic."""
    with pytest.raises(Damaged) as raised:
        list(records(io.BytesIO(MAGIC + data)))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def bomb(compression: str) -> bytes:
    """A gigabyte of zeros, packed."""
    if compression == "lz4":
        with io.BytesIO() as stream, lz4.frame.open(stream, "wb", block_size=lz4.frame.BLOCKSIZE_MAX4MB) as packer:
            for _ in range(1024):
                packer.write(bytes(2**20))
            packer.flush()
            return stream.getvalue()
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join(packer.compress(bytes(2**20)) for _ in range(1024)) + packer.flush()


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_decompression_bomb_is_not_unpacked(compression: str) -> None:
    packed = bomb(compression)
    assert len(packed) < 2**23
    honest = chunk(b"", compression, 2**30, packed)
    lying = chunk(b"", compression, 1000, packed)
    tracemalloc.start()
    assert "allowed" in damage(honest)
    assert "holds other than the 1000 bytes it declares" in damage(lying)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at byte 8: the file ends without its footer"),
        (b"\x06\x01", "at byte 8: the file ends inside a record"),
        (RECORD_HEAD.pack(5, 2**63), f"record 5 of {2**63} bytes; {MAX_CHUNK_BYTES} are allowed"),
        (RECORD_HEAD.pack(6, 2**63), "the file ends inside a record"),
        (RECORD_HEAD.pack(0, 0), "record 0"),
        (RECORD_HEAD.pack(6, 3) + b"abc", "not a chunk: unpack_from requires"),
        (RECORD_HEAD.pack(5, 3) + b"abc", "record 5 of 3 bytes"),
        (RECORD_HEAD.pack(3, 4) + b"abcd", "record 3 of 4 bytes"),
        (RECORD_HEAD.pack(4, 4) + struct.pack("<HH", 1, 9), "record 4 of 4 bytes"),
        (chunk(b"", packed=b"abc"), "holds other than the 0 bytes it declares"),
        (chunk(b"abc", "brotli"), "compressed by 'brotli'; lz4 and zstd are known"),
        (chunk(bytes(99), "lz4"), "cannot be decompressed"),
        (chunk(b"abc", "zstd"), "cannot be decompressed"),
        (chunk(b"abc"), "a chunk that ends inside a record"),
        (chunk(RECORD_HEAD.pack(5, 99)), "a chunk that ends inside a record"),
        (chunk(b"abcd")[:-1] + b"!", "checksum is wrong"),
        (RECORD_HEAD.pack(5, 22) + struct.pack("<HIQQ", 7, 0, 0, 0), "a message of channel 7, which was not declared"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(data: bytes, message: str) -> None:
    assert message in damage(data)


def test_other_files_are_told_from_logs() -> None:
    with pytest.raises(NotMcap):
        list(records(io.BytesIO(b"RIFF....WAVE")))


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunks", [True, False])
def test_files_of_another_writer_are_read(compression: CompressionType, chunks: bool) -> None:
    stream = io.BytesIO()
    writer = Writer(stream, compression=compression, use_chunking=chunks)
    writer.start()
    channel = writer.register_channel("/any", "json", writer.register_schema("any", "jsonschema", b"{}"))
    for number in range(20):
        writer.add_message(channel, 1000 * number, b"{}" * number, 5, number)
    writer.finish()
    stream.seek(0)
    found = [record for record in records(stream) if isinstance(record, Message)]
    assert [(m.log_time, m.data, m.sequence) for m in found] == [(1000 * n, b"{}" * n, n) for n in range(20)]


def test_chunks_that_are_not_wanted_give_their_channels_only(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(100))
    middle_ns = START_NS + 5 * 10**9
    with path.open("rb") as stream:
        found = list(records(stream, lambda _start_ns, end_ns: end_ns >= middle_ns))
    kinds = Counter(type(one).__name__ for one in found)
    channels = {one.id: one.topic for one in found if isinstance(one, Channel)}
    assert kinds["Channel"] == 2 * len(channels), "in the first chunk, which is not wanted, and in the summary"
    sampled = [one for one in found if isinstance(one, Message) and not viewer_topic(channels[one.channel_id])]
    times = [one.log_time for one in sampled]
    assert sum(t >= middle_ns for t in times) == 5 * 50
    assert min(times) > START_NS


PACK: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def message(number: int) -> bytes:
    """A record of 100 bytes of text."""
    body = MESSAGE_HEAD.pack(1, number, number, number) + b"text" * 25
    return RECORD_HEAD.pack(Opcode.MESSAGE, len(body)) + body


def numbers(body: bytes) -> list[int]:
    return [found.sequence for found in chunk_records(0, body, Allowance()) if isinstance(found, Message)]


@pytest.mark.parametrize("frames", [2, 9])
@pytest.mark.parametrize("compression", PACK)
def test_a_chunk_may_be_compressed_as_several_frames(compression: str, frames: int) -> None:
    rows = [message(i) for i in range(frames)]
    whole = chunk(b"".join(rows), compression, packed=b"".join(map(PACK[compression], rows)))[RECORD_HEAD.size :]
    assert numbers(whole) == list(range(frames))


@pytest.mark.parametrize("compression", PACK)
def test_a_further_frame_that_is_cut_off_or_unpacks_beyond_the_size_is_damage(compression: str) -> None:
    rows = message(1) + message(2)
    first, second = (PACK[compression](message(i)) for i in (1, 2))
    for packed, size in (
        (first + second[:-9], len(rows)),
        (first + second, len(rows) // 2),
        (first + b"something else", len(rows)),
    ):
        body = chunk(rows, compression, size, packed)[RECORD_HEAD.size :]
        with pytest.raises(Damaged):
            numbers(body)
