"""Plain values from elsewhere, as YAML and JSON give them: small enough for whatever is done with them. Pure."""

from __future__ import annotations

from datetime import date
from typing import Any

from common.printable import brief, shortened

MAX_LEVELS = 32
MAX_VALUES = 100_000
MAX_CHARACTERS = 10_000
"""Length of the longest text."""
MAX_NUMBER = 2**63
"""Limit of whole numbers; floats are unlimited."""


def fault_of(value: Any) -> str:
    """Return the first fault of a value, with the keys that lead to it; empty if it has none."""
    count, level = 0, [("", value)]
    for _ in range(MAX_LEVELS):
        inner: list[tuple[str, Any]] = []
        for where, outer in level:
            if fault := _fault_of_one(outer):
                return f"{where}: {fault}" if where else fault
            prefix = f"{where}." if where else ""
            if isinstance(outer, dict):
                for key in outer:
                    if not isinstance(key, str) or _fault_of_one(key):
                        return f"{prefix}{brief(key)}: is not a name for a key"
                inner += [(f"{prefix}{shortened(key)}", item) for key, item in outer.items()]
            elif isinstance(outer, list | tuple):
                inner += [(f"{prefix}{index}", item) for index, item in enumerate(outer)]
            if count + len(inner) > MAX_VALUES:
                return f"holds more than {MAX_VALUES} values"
        if not inner:
            return ""
        count, level = count + len(inner), inner
    return f"is nested more than {MAX_LEVELS} levels deep"


def _fault_of_one(value: Any) -> str:
    match value:
        case None | bool() | float() | dict() | list() | tuple() | date():
            return ""
        case int():
            return "" if abs(value) < MAX_NUMBER else f"{brief(value)} is too large a number"
        case str() if len(value) > MAX_CHARACTERS:
            return f"has {len(value)} characters; {MAX_CHARACTERS} are allowed"
        case str():
            return "" if value.isascii() or value == value.encode(errors="replace").decode() else "is not valid Unicode"
    return f"is {type(value).__name__}, which is not a plain value"
