"""Which input is being run, and how many were: in a file that outlives the process, should the input end it."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Self

MOST_BYTES = 1 << 20
"""Of an input."""
_HEAD = struct.Struct("<QQ")


class Current:
    """The file, seen from the process that runs inputs, or from the one that watches it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    @classmethod
    def new(cls, path: Path) -> Self:
        """A file that says that nothing was run."""
        path.write_bytes(bytes(_HEAD.size + MOST_BYTES))
        return cls(path)

    def open(self) -> Self:
        """Begin to write."""
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        return self

    def begin(self, data: bytes) -> None:
        """Note an input that is about to be run."""
        self._count += 1
        part = data[:MOST_BYTES]
        self._map[: _HEAD.size + len(part)] = _HEAD.pack(self._count, len(part)) + part

    @property
    def executions(self) -> int:
        """How many inputs were begun."""
        return self._read()[0]

    @property
    def data(self) -> bytes:
        """The last of them."""
        return self._read()[1]

    def _read(self) -> tuple[int, bytes]:
        written = self._path.read_bytes()
        count, size = _HEAD.unpack_from(written)
        return count, written[_HEAD.size : _HEAD.size + size]
