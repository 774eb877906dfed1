"""A ring of samples in memory that two processes share: one writes, one reads.

The writer never waits. It overwrites the oldest slot, and a reader that was lapped jumps forward and counts what it
lost. What is read is a view of its slot: the sample stays where the driver's process put it for as long as somebody
refers to it, and the writer passes over that slot. So a frame is copied once on its way to the windows. A reader that
keeps more than `views` of them is given copies.

The memory is an anonymous file (memfd) and the wake-up an eventfd, both inherited by file descriptor: they have no
name, so nothing of them can outlive the processes, however these end.

A slot belongs to whoever holds the lock on its byte of the file, number `slot` (fcntl(2), record locks): the writer
while it fills it, the reader while a view of it lives. The kernel decides between the two, orders the bytes of the
slot on processors that reorder stores (ARM), and takes the lock off a process that dies. A slot that is being filled
has no index, so one that was left half-filled is never read. Sample `i` becomes visible when the reader takes its
count from the eventfd; the word `i` of the directory, which is as long as the ring, says where it lies. Unread
samples are the last `depth`; one slot more is being filled, and one more may be read to be copied.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from contextlib import ExitStack, suppress
from enum import IntEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from common.descriptors import RESERVE
from drivers.driver import Modality, Sample
from drivers.forms import FORMS

_LINE = 64
"""Bytes of a cache line; header and slots are aligned to it."""
_WORD = 8
_DIRECTORY = 2 * _LINE // _WORD
"""First word of the directory; those before it are the integers shared."""
_SLOT_HEADER = 2 * _LINE
_INDEX, _T_NS, _RATE_HZ, _LOST, _NDIM, _SHAPE = range(6)
"""Words of a slot's header; the shape is the last, of as many words as there are dimensions."""
_DIMENSIONS = 3
_NO_INDEX = -1


class Word(IntEnum):
    """Integers that the two processes share beside the samples; the writer's to set."""

    WRITTEN = 0
    HEARTBEAT_NS = 1
    READING = 2
    TOO_LARGE = 3
    BAD_DATA = 4
    LOST_BY_DRIVER = 5


class Ring:
    """Holds up to `depth` samples of one modality, each of at most `sample_bytes`, and `views` that were read."""

    def __init__(
        self, memory_fd: int, event_fd: int, depth: int, sample_bytes: int, modality: Modality, views: int
    ) -> None:
        """Attach to what `create` made; takes over both file descriptors."""
        self.memory_fd = memory_fd
        self.event_fd = event_fd
        self.lapped = 0
        """Samples overwritten before they were read."""
        self.superseded = 0
        """Samples that `read_newest` skipped because a newer one was there."""
        self._dtype: np.dtype[Any] = FORMS[modality].dtype
        self._depth, self._views = depth, views
        self._slots = _slots(depth, views)
        self._sample_bytes = sample_bytes
        self._first = _first_slot(self._slots)
        self._stride = _slot_stride(sample_bytes)
        memory = mmap.mmap(memory_fd, self._first + self._slots * self._stride)
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        self._address: int = self._bytes.__array_interface__["data"][0] + self._first + _SLOT_HEADER
        """Of the first slot's data."""
        self._typestr = self._dtype.str
        self._words = memoryview(memory).cast("q")
        self._floats = memoryview(memory).cast("d")
        self._published = 0
        self._next = 0
        self._filled = -1
        """Slot written last."""
        self._held: set[int] = set()
        """Slots of which views live. Record locks keep processes apart, not a reader and a writer in one process."""
        self._releasing = threading.RLock()
        """Views end on any thread, and in the middle of anything."""

    @classmethod
    def create(cls, depth: int, sample_bytes: int, modality: Modality, views: int) -> Ring:
        """Make an empty ring; another process attaches with `Ring(*ring.fds, ...)` after inheriting `ring.fds`."""
        with ExitStack() as undo:
            memory_fd = os.memfd_create("sensebind-ring", os.MFD_CLOEXEC)
            undo.callback(os.close, memory_fd)
            slots = _slots(depth, views)
            os.ftruncate(memory_fd, _first_slot(slots) + slots * _slot_stride(sample_bytes))
            event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, event_fd)
            ring = cls(memory_fd, event_fd, depth, sample_bytes, modality, views)
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
        slot = self._filled = self._next_free()
        at = self._header(slot)
        self._words[at + _INDEX] = _NO_INDEX
        self._words[at + _T_NS] = sample.t_ns
        self._floats[at + _RATE_HZ] = sample.rate_hz
        self._words[at + _LOST] = sample.lost
        self._words[at + _NDIM] = data.ndim
        for dimension, size in enumerate(data.shape):
            self._words[at + _SHAPE + dimension] = size
        np.copyto(self._view(slot, data.shape), data)
        index = self._words[Word.WRITTEN]
        self._words[at + _INDEX] = index
        self._unlock(slot)
        self._words[_DIRECTORY + index % self._slots] = slot
        self._words[Word.WRITTEN] = index + 1
        os.eventfd_write(self.event_fd, 1)
        return True

    def read(self) -> Sample | None:
        """Return the next sample, or None when all were read."""
        while self._pending():
            self._next += 1  # first: a slot that cannot be read is not tried again
            sample = self._take(self._next - 1)
            if sample is not None:
                return sample
            self.lapped += 1
        return None

    def read_newest(self) -> Sample | None:
        """Return the newest sample that was not read yet, or None; the ones before it are skipped and counted."""
        while pending := self._pending():
            self.superseded += pending - 1
            self._next = self._published
            sample = self._take(self._published - 1)
            if sample is not None:
                return sample
            self.lapped += 1
        return None

    def close(self) -> None:
        """Close both file descriptors, and release the memory once no view of it lives; may be called again."""
        with self._releasing:
            if self.memory_fd < 0:
                return
            memory_fd, event_fd = self.memory_fd, self.event_fd
            self.memory_fd = self.event_fd = -1
        self._bytes = np.empty(0, np.uint8)
        self._words.release()
        self._floats.release()
        RESERVE.fill()  # a map holds a descriptor of its own, which is free now unless a view lives
        RESERVE.close(memory_fd)
        RESERVE.close(event_fd)

    def _pending(self) -> int:
        """Return the number of published samples that can still be read; skips those that were overwritten."""
        with suppress(BlockingIOError):  # nothing new
            self._published += os.eventfd_read(self.event_fd)
        oldest = min(self._words[Word.WRITTEN] - self._depth, self._published)
        if self._next < oldest:
            self.lapped += oldest - self._next
            self._next = oldest
        return self._published - self._next

    def _take(self, index: int) -> Sample | None:
        """Return the sample as a view of its slot, or None when the writer has come round to it."""
        slot = self._words[_DIRECTORY + index % self._slots]
        if not self._lock(slot):
            return None
        at = self._header(slot)
        if self._words[at + _INDEX] != index:
            self._unlock(slot)
            return None
        t_ns, lost, rate_hz = self._words[at + _T_NS], self._words[at + _LOST], self._floats[at + _RATE_HZ]
        shape = tuple(self._words[at + _SHAPE : at + _SHAPE + self._words[at + _NDIM]])
        if len(self._held) < self._views:
            self._held.add(slot)
            address = self._address + slot * self._stride
            data = np.asarray(cast(Any, _Held(self, slot, self._bytes, address, shape, self._typestr)))
        else:
            data = self._view(slot, shape).copy()
            self._unlock(slot)
        return Sample(t_ns, data, rate_hz, lost)

    def release(self, slot: int) -> None:
        """Let the writer have a slot again, since no view of it lives."""
        with self._releasing:
            self._held.discard(slot)
            if self.memory_fd >= 0:
                self._unlock(slot)
                return
        RESERVE.fill()  # with the last view of a closed ring its map has ended

    def _next_free(self) -> int:
        """Lock and return the slot written longest ago of those without a view. There are always some."""
        after = self._filled + 1
        return next(slot % self._slots for slot in range(after, after + self._slots) if self._lock(slot % self._slots))

    def _lock(self, slot: int) -> bool:
        """Take a slot; False if the other process, or a view, has it."""
        if slot in self._held:
            return False
        try:
            fcntl.lockf(self.memory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except (BlockingIOError, PermissionError):  # both are in use for it: fcntl(2), EAGAIN and EACCES
            return False
        return True

    def _unlock(self, slot: int) -> None:
        fcntl.lockf(self.memory_fd, fcntl.LOCK_UN, 1, slot)

    def _header(self, slot: int) -> int:
        """Return the first word of a slot."""
        return (self._first + slot * self._stride) // _WORD

    def _view(self, slot: int, shape: tuple[int, ...]) -> NDArray[Any]:
        offset = self._first + slot * self._stride + _SLOT_HEADER
        return np.ndarray(shape, self._dtype, buffer=self._bytes, offset=offset)


class _Held:
    """Owner of the arrays of one slot, however they are sliced: it ends with the last of them, and gives the slot
    back. The arrays are read-only (NumPy's array interface, version 3).
    """

    def __init__(
        self, ring: Ring, slot: int, memory: NDArray[np.uint8], address: int, shape: tuple[int, ...], typestr: str
    ) -> None:
        self._ring, self._slot = ring, slot
        self._memory = memory  # mapped as long as this lives, though the ring is closed
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": typestr, "data": (address, True)}

    def __del__(self) -> None:
        del self._memory
        self._ring.release(self._slot)


def _slots(depth: int, views: int) -> int:
    return depth + views + 2


def _first_slot(slots: int) -> int:
    """Bytes before the first slot: shared integers and directory, up to a cache line."""
    return -(-(_DIRECTORY + slots) * _WORD // _LINE) * _LINE


def _slot_stride(sample_bytes: int) -> int:
    """Bytes from one slot to the next: header and data, up to a cache line."""
    return _SLOT_HEADER + -(-sample_bytes // _LINE) * _LINE
