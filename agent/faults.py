"""Faults of the agent's own that cost only what caused them: swallowed, counted, and logged once of each kind.

A guard stands around the work of one sample, one stream, one start, one query or one subscriber. What it swallows is a
bug, or a library that fails in a way nobody foresaw; errors that the code expects are caught where they arise.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import AbstractContextManager
from threading import Lock
from types import TracebackType

log = logging.getLogger(__name__)

LONGEST_LINE = 200
"""Characters of a message that are kept."""
KINDS = 256
"""Kinds of faults that are logged in a run; after that they are only counted."""
PLACES = 1024
"""Places that are counted by name; the faults of any further one are counted together, under `ELSEWHERE`."""
ELSEWHERE = "elsewhere"


class Faults:
    """Counts by place: the name of a sensor, a query, a subscriber. May be used from several threads."""

    def __init__(self) -> None:
        """Start with no faults."""
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._logged: set[tuple[str, str, str]] = set()

    def guard(self, where: str) -> AbstractContextManager[None]:
        """Within it an `Exception` ends the block, is counted under `where`, and goes no further."""
        return _Guard(self, where)

    def count(self, where: str, error: Exception) -> None:
        """Count an exception that was caught elsewhere, as `guard` does."""
        kind, line = type(error).__name__, _first_line(error)
        with self._lock:
            place = where if where in self._counts or len(self._counts) < PLACES else ELSEWHERE
            self._counts[place] += 1
            self._first.setdefault(place, f"{kind}: {line}" if line else kind)
            key = (place, kind, line)
            is_new = key not in self._logged and len(self._logged) < KINDS
            if is_new:
                self._logged.add(key)
        if is_new:
            log.error("%s: a fault of the agent's own; it goes on without what failed", where, exc_info=error)

    def of(self, where: str) -> int:
        """Return the number of faults in one place."""
        with self._lock:
            return self._counts[where]

    def counts(self) -> dict[str, int]:
        """Return the number of faults, by place."""
        with self._lock:
            return dict(self._counts)

    def first(self, where: str) -> str:
        """The first of a place, as one line; empty when there was none."""
        with self._lock:
            return self._first.get(where, "")


class _Guard:
    """A class of its own because it is entered for every sample, and a generator costs more."""

    __slots__ = ("_faults", "_where")

    def __init__(self, faults: Faults, where: str) -> None:
        self._faults, self._where = faults, where

    def __enter__(self) -> None:
        """Do nothing: only the end of the block matters."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._faults.count(self._where, error)
        return True


def _first_line(error: Exception) -> str:
    try:
        lines = str(error).splitlines()
    except Exception:  # noqa: BLE001  a message that cannot be made is not worth a run
        return ""
    return lines[0][:LONGEST_LINE] if lines else ""
