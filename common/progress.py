"""Progress of long work, as those who do it tell it: what is done, how much of it, of how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, float, float | None], None]
"""Takes a step of the work in words, such as "examples read", the amount done, and that of all, None if not known.

Called in the order of the steps, as often as is convenient: whoever shows it limits the rate.
"""


def untold(what: str, done: float, of: float | None) -> None:
    """Show nothing."""
