"""The process's file descriptors: as many as the system allows, and some kept back for what must go on.

Every connection of a client takes one. When clients hold all that there are, a driver that died could not be replaced
and the next file of a recording could not be begun: what is opened for these may use the reserve.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import TypeVar

MOST = 65_536
"""Descriptors that a process asks for; some programs that it starts walk through all that they are allowed."""
KEPT = 24
"""Number in reserve: for two starts of drivers, and some files."""
FOR_A_START = 9
"""The start of a driver takes so many for a moment, and four for as long as it lives."""
LARGEST_SHARE = 8
"""No more than one in so many of those allowed is kept."""
NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})

T = TypeVar("T")


def raise_limit() -> None:
    """Raise the limit of open files of this process, and of those that it starts, up to `MOST`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Reserve:
    """Descriptors of this process that are open for nothing. Holds none before `keep`. For several threads."""

    def __init__(self) -> None:
        """Start with nothing in reserve."""
        self._lock = RLock()
        """Taken again by the thread that holds it: what ends in the middle of anything may give a place back."""
        self._size = 0
        self._lent = 0
        """Calls of `open` that use the reserve at present."""
        self._null_fd = -1
        self._held: list[int] = []

    def keep(self, count: int = KEPT) -> None:
        """Keep so many from now on, fewer where the process is allowed few; taken as they come free."""
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        with self._lock:
            self._size = count if allowed == resource.RLIM_INFINITY else min(count, allowed // LARGEST_SHARE)
        self.fill()

    def open(self, opening: Callable[[], T], needs: int = 1) -> T:
        """Return what `opening` returns; without a descriptor left it is called once more, with `needs` of the reserve.

        It must leave nothing open when it raises. Clients may be quicker to take what is free for it: then that fails,
        and the rest of the reserve is there for another attempt.
        """
        try:
            return opening()
        except OSError as error:
            if error.errno not in NONE_LEFT:
                raise
        with self._lock:
            self._lent += 1
            for _ in range(min(needs, len(self._held))):
                os.close(self._held.pop())
        try:
            return opening()
        finally:
            with self._lock:
                self._lent -= 1
            self.fill()

    def close(self, fd: int) -> None:
        """Close a descriptor. While the reserve is short it keeps the place, so that no client can come between."""
        with self._lock:
            if self._null_fd >= 0 and len(self._held) < self._size:
                os.dup2(self._null_fd, fd, inheritable=False)
                self._held.append(fd)
                return
        os.close(fd)

    def fill(self) -> None:
        """Refill the reserve, as far as descriptors are free."""
        with self._lock:
            if self._lent:
                return
            with suppress(OSError):
                if self._null_fd < 0 < self._size:
                    self._null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                while len(self._held) < self._size:
                    self._held.append(os.dup(self._null_fd))

    @property
    def held(self) -> int:
        """Number of descriptors in reserve."""
        return len(self._held)


RESERVE = Reserve()
"""The reserve of this process: the limit is the process's, too."""
