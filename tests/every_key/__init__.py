"""What every key of a configuration does: for each two values, and what may be seen of them in the part that obeys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

OTHER: Final = object()
"""Expected where only that the two values differ can be said beforehand: another scene, another picture."""


@dataclass(frozen=True)
class Row:
    """`behaviour(value, folder)` runs the real part under a value; the two expectations differ."""

    behaviour: Callable[[Any, Path], Any]
    first: tuple[Any, Any]
    """A value, and what is seen then."""
    second: tuple[Any, Any]


Rows = dict[str, Row]


def differing(behaviour: Callable[[Any, Path], Any], first: Any, second: Any) -> Row:
    """Two values under which something differs."""
    return Row(behaviour, (first, OTHER), (second, OTHER))
