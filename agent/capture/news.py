"""Which of a sensor's failures are news, and which repeat one that the log has already."""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 16
"""Kinds of failures that are news at once; a device that fails in ever new words is not heard for ever."""
_VARYING: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d+(?:\.\d+)?""")
"""Parts in which repetitions of a message differ: numbers, and quoted input of the device."""


class News:
    """Failures of one sensor since it was last sound."""

    def __init__(self) -> None:
        self._kinds: list[str] = []

    def take(self, message: str) -> bool:
        """Return whether a message is news. One that quotes an earlier one, or is quoted in it, is not."""
        kind = _VARYING.sub("#", message)
        if len(self._kinds) >= MOST or any(kind in known or known in kind for known in self._kinds):
            return False
        self._kinds.append(kind)
        return True

    def forget(self) -> None:
        """Begin anew: the next failure of any kind is news."""
        self._kinds.clear()
