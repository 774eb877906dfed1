"""Logs that nobody recorded: short files that stand for gigabytes, or say what no agent says. Bytes, made by code."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping

import zstandard

from agent.log.format import FACTS_RECORD, LoggedSensor, RunFacts
from agent.log.reading import MAGIC, MESSAGE_HEAD
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD

START_NS = 1_700_000_000_000_000_000
SIZE = 80_000
"""Bytes of a hostile file, about."""
MESSAGE, SCHEMA, CHANNEL, CHUNK, METADATA, DATA_END, FOOTER = 0x05, 0x03, 0x04, 0x06, 0x0C, 0x0F, 0x02
CONFIG = {"sensors": {"imu": {"type": "remote", "modality": "imu", "rate_hz": 100.0}}}


def record(opcode: int, body: bytes) -> bytes:
    """One record."""
    return RECORD_HEAD.pack(opcode, len(body)) + body


def text(value: str | bytes) -> bytes:
    """A string as MCAP has it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def mapping(values: Mapping[str, str]) -> bytes:
    """A map of strings."""
    data = b"".join(text(key) + text(value) for key, value in values.items())
    return struct.pack("<I", len(data)) + data


def schema(number: int = 1, data: bytes = b"") -> bytes:
    """A schema."""
    return record(SCHEMA, struct.pack("<H", number) + text("s") + text("") + text(data))


def channel(number: int = 1, topic: str = "/sensors/imu", metadata: bytes = b"\0\0\0\0", of: int = 0) -> bytes:
    """A channel; `metadata` is a packed map."""
    return record(CHANNEL, struct.pack("<HH", number, of) + text(topic) + text("protobuf") + metadata)


def message(number: int = 1, t_ns: int = START_NS, data: bytes = b"", sequence: int = 0) -> bytes:
    """A message."""
    return record(MESSAGE, MESSAGE_HEAD.pack(number, sequence, t_ns, t_ns) + data)


def chunk(data: bytes, *, size: int | None = None, compression: str = "zstd", level: int = 3) -> bytes:
    """A chunk whose checksum is right; `size` may say something else than the truth."""
    packed = zstandard.ZstdCompressor(level=level).compress(data) if compression == "zstd" else data
    head = CHUNK_HEAD.pack(START_NS, START_NS, len(data) if size is None else size, zlib.crc32(data), len(compression))
    return record(CHUNK, head + compression.encode() + struct.pack("<Q", len(packed)) + packed)


def facts(**changes: object) -> bytes:
    """The metadata record of a run with one inertial sensor; `changes` are fields of the record, as they are stored."""
    run = RunFacts("a1b2c3", START_NS, 0, {"imu": LoggedSensor("imu", 100.0)}, dict(CONFIG))
    stored = run.to_record() | {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()
    }
    return record(METADATA, text(FACTS_RECORD) + mapping(stored))


def log(*parts: bytes, run: bytes | None = None) -> bytes:
    """A file that begins and ends as MCAP does, without an index."""
    head = facts() if run is None else run
    return MAGIC + head + b"".join(parts) + record(DATA_END, bytes(4)) + record(FOOTER, bytes(20)) + MAGIC


def repeated(part: bytes, chunk_bytes: int = 256 * 2**20, size: int = SIZE, before: bytes = b"") -> bytes:
    """A file of about `size` bytes of equal chunks, each of which is one record over and over."""
    one = chunk(before + part * (chunk_bytes // len(part)))
    return log(one * max(1, size // len(one)))


_WITHIN = 14 * 2**20
"""Of a chunk that is not refused for its size alone."""


def _many_channels() -> bytes:
    return b"".join(channel(n, f"/sensors/s{n}") for n in range(1, 3000))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty records (256 MiB a chunk)": lambda: repeated(bytes(9)),
    "one such chunk": lambda: log(chunk(bytes(256 * 2**20))),
    "indexes in chunks": lambda: repeated(record(0x07, b"")),
    "private records in chunks": lambda: repeated(record(0x80, b"")),
    "empty messages, large chunks": lambda: repeated(message(), before=channel()),
    "empty messages, small chunks": lambda: repeated(message(), 2**20, before=channel()),
    "one channel over and over": lambda: repeated(channel(), _WITHIN),
    "one schema over and over": lambda: repeated(schema(), _WITHIN),
    "metadata in chunks": lambda: repeated(record(METADATA, text("a") + mapping({"a": "b"}))),
    "a map of millions in a channel": lambda: repeated(channel(metadata=text(text("") * 2**20)), _WITHIN),
    "maps of thousands in channels": lambda: repeated(channel(metadata=text(text("") * 2**13)), _WITHIN),
    "long topics": lambda: repeated(channel(topic="/" + "a" * 2**20), _WITHIN),
    "schemas of 4 MB": lambda: repeated(schema(data=bytes(2**22 - 40)), _WITHIN),
    "a schema of 200 MB": lambda: log(chunk(schema(data=bytes(200 * 10**6)))),
    "a topic of 200 MB": lambda: log(chunk(channel(topic="a" * 200 * 10**6))),
    "a topic of 30 MB and its message": lambda: log(chunk(channel(topic="/" + "a" * 30 * 10**6) + message())),
    "a message of 250 MB": lambda: log(chunk(channel() + message(data=bytes(250 * 10**6)))),
    "a message of 14 MB": lambda: log(chunk(channel() + message(data=bytes(14 * 10**6)))),
    "a chunk that lies about its size": lambda: log(chunk(bytes(256 * 2**20), size=1000) * 9),
    "chunks of chunks": lambda: log(chunk(chunk(bytes(256 * 2**20)) * 9)),
    "channels by the thousand": lambda: log(_many_channels(), *(message(n) for n in range(1, 3000))),
    "loose empty records": lambda: log(record(0x80, b"") * (SIZE // 9)),
    "metadata by the thousand": lambda: log(record(METADATA, text("") + mapping({})) * (SIZE // 17)),
    "a compression with a long name": lambda: log(record(CHUNK, CHUNK_HEAD.pack(0, 0, 0, 0, 70_000) + bytes(70_008))),
    "record of 2^60 bytes": lambda: log(RECORD_HEAD.pack(0x80, 2**60)),
    "no facts, empty messages": lambda: MAGIC + chunk(channel() + message() * 2**20) * 20,
    "sensors of a deep tree": lambda: log(run=facts(sensors="[" * 40_000)),
    "a config of a deep tree": lambda: log(run=facts(config='{"a":' * 13_000 + "1" + "}" * 13_000)),
    "a number of 70,000 digits": lambda: log(run=facts(config='{"sensors": {}, "a": ' + "9" * 70_000 + "}")),
    "20,000 queries": lambda: log(run=facts(config={**CONFIG, "queries": [{}] * 20_000})),
    "magic and zeros": lambda: MAGIC + bytes(SIZE),
    "magic and ones": lambda: MAGIC + b"\xff" * SIZE,
    "heads of chunks without end": lambda: MAGIC + facts() + chunk(b"abc", compression="")[:60] * (SIZE // 60),
}
"""By what is wrong with them, files of at most about SIZE bytes."""
