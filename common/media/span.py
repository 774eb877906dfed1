"""Part of a file as a file of its own, for a decoder that must not see the rest, or must see a field mended."""

from __future__ import annotations

import io
import mmap
from dataclasses import dataclass
from typing import BinaryIO

Data = bytes | mmap.mmap
"""A whole file, looked at in place."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `begin` to `end` of a file, some of them replaced, another head before them, zeros after them."""

    begin: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    """(offset in the whole file, bytes to be read there)."""
    head: bytes = b""
    zeros: int = 0
    """Bytes of zeros that seem to follow: a decoder that estimates the length by the file size then estimates more."""
    rows: int | None = None
    """Rows of sound in it, where its decoder would only estimate them."""


class SpanFile:
    """A span as a binary file that is read and sought in; closes the file under it."""

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self._file = file
        self._span = span
        self._at = 0
        self._head = len(span.head)
        self._size = self._head + span.end - span.begin + span.zeros

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset; behind the end nothing is read."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes; fewer at the end."""
        span, first, n = self._span, self._at, max(0, min(count, self._size - self._at))
        data = bytearray(span.head[first : first + n])
        at = span.begin + max(0, first - self._head)
        self._file.seek(at)
        data += self._file.read(max(0, min(n - len(data), span.end - at)))
        data += bytes(n - len(data))
        for offset, patch in span.patches:
            for i, byte in enumerate(patch, self._head + offset - span.begin - first):
                if 0 <= i < n:
                    data[i] = byte
        self._at += n
        return bytes(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
