"""Memory that large calls have used goes back to the system once they are over.

Without this glibc keeps what was freed, in each of its arenas: hundreds of megabytes after a burst of pictures. Giving
back (`malloc_trim`) leaves the top of every arena but the main one, so there are few arenas.
"""

from __future__ import annotations

import asyncio
import ctypes

LARGE_BYTES = 2**20
"""A request from this size on."""
ARENAS = 2
"""The main one, and one that threads share; glibc's default is eight for each core."""
_M_ARENA_MAX = -8
QUIET_S = 1.0
"""After a large call; others that end meanwhile share one giving back, which takes a core for 1 to 5 ms."""


class FreeMemory:
    """Gives free memory back after large calls. Belongs to one asyncio loop; make it before there are many threads."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)  # glibc has it
        if self._trim is not None:
            libc.mallopt(_M_ARENA_MAX, ARENAS)
        self._due: asyncio.TimerHandle | None = None

    def note(self, request_bytes: int) -> None:
        """A call is over, whose request had this size."""
        if self._trim is not None and self._due is None and request_bytes >= LARGE_BYTES:
            self._due = asyncio.get_running_loop().call_later(QUIET_S, self._give_back)

    def _give_back(self) -> None:
        self._due = None
        assert self._trim is not None
        asyncio.get_running_loop().run_in_executor(None, self._trim, 0)
