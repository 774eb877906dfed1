"""Memory that large requests took, given back to the system.

glibc keeps what is freed at the end of each thread's heap up to a threshold. The threshold grows to tens of MB with the
largest block that is freed, and gRPC takes a request in on any of its threads, so after a burst of large ones hundreds
of MB stay. While large requests come, and for some seconds after, the threshold is low; else it is as high as it grows
by itself, because the model's own buffers come and go with every tick.
"""

from __future__ import annotations

import asyncio
import ctypes

LARGE = 2**20
"""Bytes of a request from which on it counts."""
QUIET_S = 4.0
"""Quiet time after the last large request, which may take seconds to be answered."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LOW = 2**20
_MOST_MMAP = 32 * 2**20
_HIGH = 2 * _MOST_MMAP
"""Upper limit of glibc's own adjusting. Setting either of the two thresholds ends that adjusting, so both are set."""


class Heap:
    """Trims the heap for one asyncio loop. Does nothing where the C library is another one."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._known = hasattr(self._library, "mallopt") and hasattr(self._library, "malloc_trim")
        self._until = 0.0
        self._is_low = False

    def took(self, size: int) -> None:
        """Note a request of so many bytes."""
        if size < LARGE or not self._known:
            return
        self._until = asyncio.get_running_loop().time() + QUIET_S
        if not self._is_low:
            self._is_low = True
            self._library.mallopt(_TRIM_THRESHOLD, _LOW)
            self._wait()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._until - loop.time()
        if left_s > 0:
            loop.call_later(left_s, self._wait)
            return
        self._is_low = False
        loop.run_in_executor(None, self._restore)

    def _restore(self) -> None:
        self._library.malloc_trim(0)
        self._library.mallopt(_MMAP_THRESHOLD, _MOST_MMAP)
        self._library.mallopt(_TRIM_THRESHOLD, _HIGH)
