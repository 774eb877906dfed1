"""Logs out of recipes: any bytes are one, and the log has the lengths, the checksums and the ends that it must have.

A recipe is a row of steps: the record's kind (a byte), the length of its content (two bytes, little-endian, cut to what
is there), and its content. In a content, texts are held apart by the byte 0x1F. The content of a chunk is how it is
compressed (a byte), its two times, and a recipe of its own.
"""

from __future__ import annotations

import struct
import zlib

import lz4.frame
import zstandard
from mcap.opcode import Opcode

from agent.log.reading import MAGIC, frames
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD

STEP = struct.Struct("<BH")
APART = b"\x1f"
_FOOTER = RECORD_HEAD.pack(Opcode.FOOTER, 20) + bytes(20)
_COMPRESSIONS = (b"", b"lz4", b"zstd")


def log_of(recipe: bytes) -> bytes:
    """The log."""
    return MAGIC + _records(recipe, outermost=True) + _FOOTER + MAGIC


def step(kind: int, content: bytes) -> bytes:
    """One step of a recipe."""
    return STEP.pack(kind, len(content)) + content


def recipe_of(log: bytes) -> bytes:
    """A recipe of a log that the program wrote."""
    from io import BytesIO

    return b"".join(_step_of(kind, body) for _, kind, body in frames(BytesIO(log)) if kind in _KEPT)


def _records(recipe: bytes, outermost: bool = False) -> bytes:
    out, at = b"", 0
    while at + STEP.size <= len(recipe):
        kind, length = STEP.unpack_from(recipe, at)
        content = recipe[at + STEP.size : at + STEP.size + length]
        at += STEP.size + len(content)
        match kind:
            case Opcode.CHUNK if outermost and len(content) >= 17:
                body = _chunk(content)
            case Opcode.METADATA:
                name, *fields = content.split(APART)
                body = _text(name) + _map(fields)
            case Opcode.SCHEMA if len(content) >= 2:
                name, encoding, data = [*content[2:].split(APART, 2), b"", b""][:3]
                body = content[:2] + _text(name) + _text(encoding) + _text(data)
            case Opcode.CHANNEL if len(content) >= 4:
                topic, encoding, *fields = [*content[4:].split(APART), b""]
                body = content[:4] + _text(topic) + _text(encoding) + _map(fields[:-1])
            case _:
                body = content
        out += RECORD_HEAD.pack(kind, len(body)) + body
    return out


def _chunk(content: bytes) -> bytes:
    name = _COMPRESSIONS[content[0] % 3]
    start, end = struct.unpack_from("<QQ", content, 1)
    data = _records(content[17:])
    packed = {b"": lambda d: d, b"lz4": lz4.frame.compress, b"zstd": zstandard.compress}[name](data)
    return (
        CHUNK_HEAD.pack(start, end, len(data), zlib.crc32(data), len(name))
        + name
        + struct.pack("<Q", len(packed))
        + packed
    )


def _text(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def _map(fields: list[bytes]) -> bytes:
    return _text(b"".join(map(_text, fields[: len(fields) // 2 * 2])))


_KEPT = (Opcode.CHUNK, Opcode.METADATA, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE)


def _step_of(kind: int, body: bytes) -> bytes:
    if kind != Opcode.CHUNK:
        return step(kind, _content(kind, body))
    *_, name_length = CHUNK_HEAD.unpack_from(body)
    packed = body[CHUNK_HEAD.size + name_length + 8 :]
    data: bytes = lz4.frame.decompress(packed) if name_length else packed
    inner, at = b"", 0
    while at < len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, at)
        at += RECORD_HEAD.size + length
        if opcode in _KEPT:
            inner += step(opcode, _content(opcode, data[at - length : at]))
    return step(kind, bytes([int(bool(name_length))]) + body[:16] + inner)


def _content(kind: int, body: bytes) -> bytes:
    """What stands in a body, with texts apart instead of their lengths."""
    match kind:
        case Opcode.METADATA:
            name, rest = _first(body)
            return APART.join([name, *_fields(rest)])
        case Opcode.SCHEMA:
            name, rest = _first(body[2:])
            encoding, rest = _first(rest)
            return body[:2] + APART.join([name, encoding, _first(rest)[0]])
        case Opcode.CHANNEL:
            topic, rest = _first(body[4:])
            encoding, rest = _first(rest)
            return body[:4] + APART.join([topic, encoding, *_fields(rest)])
    return body


def _first(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from("<I", data)
    return data[4 : 4 + length], data[4 + length :]


def _fields(data: bytes) -> list[bytes]:
    rest, found = _first(data)[0], []
    while rest:
        text, rest = _first(rest)
        found.append(text)
    return found
