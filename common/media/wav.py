"""How much sound a WAV file holds, whatever its head says of it.

A recorder writes the sizes last: one that was killed, or that writes to a pipe, leaves 0 or the largest number in their
place, and 32 bits overflow at 4 GiB. libsndfile believes a 0, and cuts a size down to the file's without a word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.media.span import Data, Span

_PIPED = 0x7FFF_F000
"""Least size that recorders write when they cannot know it: sox this one, arecord 2**31, ffmpeg 2**32 - 1."""
_FULL_32 = 2**32 - 1
_FORM_BYTES = 16
_MAX_FORM_BYTES = 4096
_DS64_BYTES = 28
_MAX_CHUNKS = 4096
_PLAIN = frozenset((1, 3, 6, 7, 0xFFFE))
"""Format tags whose rows have a fixed number of bytes: PCM, float, A-law, u-law, extensible."""


@dataclass(frozen=True, slots=True)
class WavHead:
    """What the head says and what is there."""

    span: Span | None
    """How to read the file when its sizes cannot be believed."""
    missing_bytes: int
    """Bytes of sound that the head states and the file lacks."""
    row_bytes: int
    """Bytes of a row; 0 where rows are compressed."""


def look(data: Data) -> WavHead | None:
    """Return what the head of a WAV or RF64 file tells; None when it has no sound that begins."""
    at, form, ds64_size = 12, b"", 0
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return None
        kind, size = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind == b"data":
            break
        if kind == b"ds64" and body + 16 <= len(data):
            ds64_size = struct.unpack_from("<Q", data, body + 8)[0]
        if kind == b"fmt ":
            form = data[at : body + min(size, _MAX_FORM_BYTES)]
        at = body + size + size % 2
    else:
        return None
    if len(form) < 8 + _FORM_BYTES:
        return None
    tag, _, _, _, align = struct.unpack_from("<HHIIH", form, 8)
    row_bytes = align if tag in _PLAIN else 0
    held = len(data) - body
    stated = ds64_size if data[:4] == b"RF64" and size == _FULL_32 else size
    if _is_known(data, body, stated, held):
        return WavHead(None, max(0, stated - held), row_bytes)
    return WavHead(Span(body, len(data), head=_head(form, held, row_bytes)), 0, row_bytes)


def _head(form: bytes, held: int, row_bytes: int) -> bytes:
    """A head that states the bytes of sound that are there."""
    form += bytes(len(form) % 2)
    size = 4 + len(form) + 8 + held
    if size <= _FULL_32:
        return b"RIFF" + struct.pack("<I", size) + b"WAVE" + form + b"data" + struct.pack("<I", held)
    rows = held // row_bytes if row_bytes else 0
    sizes = struct.pack("<QQQI", size + _DS64_BYTES + 8, held, rows, 0)
    full = struct.pack("<I", _FULL_32)
    return b"RF64" + full + b"WAVEds64" + struct.pack("<I", _DS64_BYTES) + sizes + form + b"data" + full


def _is_known(data: Data, body: int, stated: int, held: int) -> bool:
    if stated == 0:
        return held == 0 or _chunks_follow(data, body)
    if stated > held:
        return stated < _PIPED
    return stated == held or (held - stated) % 2**32 != 0


def _chunks_follow(data: Data, at: int) -> bool:
    """Return whether nothing but chunks stands from here to the end."""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, at)
        if not (kind.isascii() and kind.decode().isprintable()):
            return False
        at += 8 + size + size % 2
    return len(data) <= at <= len(data) + 1
