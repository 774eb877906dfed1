"""A ring of samples in memory that two processes share: one writes, one reads.

The writer never waits. It overwrites the oldest slot, and a reader that was lapped jumps forward and counts what it
lost. The memory is an anonymous file (memfd) and the wake-up an eventfd, both inherited by file descriptor: they
have no name, so nothing of them can outlive the processes, however these end.

Order of events, which also holds on processors that reorder stores (ARM): sample `i` becomes visible when the reader
takes its count from the eventfd, and going through the kernel orders the slot's bytes before it. In the same way the
mark `RESERVED = i + 1` is stored before sample `i` is published, so before the bytes of `i + 1` overwrite their slot.
The reader looks at the mark before and after its copy, and one slot more than the depth keeps the slot
being written apart from those that may be read.
"""

from __future__ import annotations

import mmap
import os
from contextlib import ExitStack, suppress
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.descriptors import RESERVE
from drivers.driver import Modality, Sample
from drivers.forms import FORMS

_LINE = 64
"""Bytes of a cache line; header and slots are aligned to it."""
_HEADER = 2 * _LINE
_SLOT_HEADER = 2 * _LINE
_DIMENSIONS = 3


class Word(IntEnum):
    """Integers that the two processes share beside the samples; the writer's to set."""

    RESERVED = 0
    HEARTBEAT_NS = 1
    READING = 2
    TOO_LARGE = 3
    BAD_DATA = 4
    LOST_BY_DRIVER = 5


class Ring:
    """Holds up to `depth` samples of one modality, each of at most `sample_bytes`."""

    def __init__(self, memory_fd: int, event_fd: int, depth: int, sample_bytes: int, modality: Modality) -> None:
        """Attach to what `create` made; takes over both file descriptors."""
        self.memory_fd = memory_fd
        self.event_fd = event_fd
        self.lapped = 0
        """Samples overwritten before they were read."""
        self.superseded = 0
        """Samples that `read_newest` skipped because a newer one was there."""
        self._dtype: np.dtype[Any] = FORMS[modality].dtype
        self._slots = depth + 1
        self._sample_bytes = sample_bytes
        self._stride = _slot_stride(sample_bytes)
        self._map = mmap.mmap(memory_fd, _HEADER + self._slots * self._stride)
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._words = memoryview(self._map).cast("q")
        self._floats = memoryview(self._map).cast("d")
        self._published = 0
        self._next = 0

    @classmethod
    def create(cls, depth: int, sample_bytes: int, modality: Modality) -> Ring:
        """Make an empty ring; another process attaches with `Ring(*ring.fds, ...)` after inheriting `ring.fds`."""
        with ExitStack() as undo:
            memory_fd = os.memfd_create("sensebind-ring", os.MFD_CLOEXEC)
            undo.callback(os.close, memory_fd)
            os.ftruncate(memory_fd, _HEADER + (depth + 1) * _slot_stride(sample_bytes))
            event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, event_fd)
            ring = cls(memory_fd, event_fd, depth, sample_bytes, modality)
            undo.pop_all()
        return ring

    @property
    def fds(self) -> tuple[int, int]:
        """The file descriptors that the other process must inherit."""
        return self.memory_fd, self.event_fd

    def word(self, word: Word) -> int:
        """Read a shared integer."""
        return self._words[word]

    def set_word(self, word: Word, value: int) -> None:
        """Set a shared integer; aligned, so the other process sees the old or the new value."""
        self._words[word] = value

    def add(self, word: Word, count: int) -> None:
        """Count on a shared integer."""
        self._words[word] += count

    def write(self, sample: Sample) -> bool:
        """Copy a sample into the ring; False for one that is larger than a slot, which is dropped and counted."""
        data = sample.data
        if data.nbytes > self._sample_bytes or data.ndim > _DIMENSIONS:
            self.add(Word.TOO_LARGE, 1)
            return False
        index = self._words[Word.RESERVED]
        offset = _HEADER + index % self._slots * self._stride
        at = offset // 8
        self._words[at] = sample.t_ns
        self._floats[at + 1] = sample.rate_hz
        self._words[at + 2] = sample.lost
        self._words[at + 3] = data.ndim
        for dimension, size in enumerate(data.shape):
            self._words[at + 4 + dimension] = size
        np.copyto(self._view(offset, data.shape), data)
        self._words[Word.RESERVED] = index + 1
        os.eventfd_write(self.event_fd, 1)
        return True

    def read(self) -> Sample | None:
        """Return the next sample, or None when all were read."""
        while self._pending():
            self._next += 1  # first: a slot that cannot be copied is not tried again
            sample = self._copy(self._next - 1)
            if sample is not None:
                return sample
            self.lapped += 1
        return None

    def read_newest(self) -> Sample | None:
        """Return the newest sample that was not read yet, or None; the ones before it are skipped and counted."""
        while pending := self._pending():
            self.superseded += pending - 1
            self._next = self._published
            sample = self._copy(self._published - 1)
            if sample is not None:
                return sample
            self.lapped += 1
        return None

    def close(self) -> None:
        """Release the memory and both file descriptors; may be called again."""
        if self.memory_fd < 0:
            return
        self._bytes = np.empty(0, np.uint8)
        self._words.release()
        self._floats.release()
        self._map.close()
        RESERVE.fill()  # a map holds a descriptor of its own, which is free now
        RESERVE.close(self.memory_fd)
        RESERVE.close(self.event_fd)
        self.memory_fd = self.event_fd = -1

    def _pending(self) -> int:
        """Return the number of published samples that can still be read; skips those that were overwritten."""
        with suppress(BlockingIOError):  # nothing new
            self._published += os.eventfd_read(self.event_fd)
        oldest = min(self._words[Word.RESERVED] - self._slots + 1, self._published)
        if self._next < oldest:
            self.lapped += oldest - self._next
            self._next = oldest
        return self._published - self._next

    def _copy(self, index: int) -> Sample | None:
        """Copy a sample out of its slot, or None when the writer has come round to it."""
        offset = _HEADER + index % self._slots * self._stride
        at = offset // 8
        t_ns, lost, dimensions = self._words[at], self._words[at + 2], self._words[at + 3]
        rate_hz = self._floats[at + 1]
        shape = tuple(self._words[at + 4 : at + 4 + dimensions])
        if self._overwritten(index):
            return None
        data = self._view(offset, shape).copy()
        if self._overwritten(index):
            return None
        return Sample(t_ns, data, rate_hz, lost)

    def _overwritten(self, index: int) -> bool:
        return self._words[Word.RESERVED] - self._slots >= index

    def _view(self, offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ndarray(shape, self._dtype, buffer=self._bytes, offset=offset + _SLOT_HEADER)


def _slot_stride(sample_bytes: int) -> int:
    """Bytes from one slot to the next: header and data, up to a cache line."""
    return _SLOT_HEADER + -(-sample_bytes // _LINE) * _LINE
