"""Text from elsewhere, made fit for one line of a terminal: names in files, what peers say, faulty values.

A log, a bag or a configuration may hold anything: escape sequences that recolour or retitle a terminal, marks that turn
the direction of writing around, a value of a gigabyte.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import date
from itertools import islice
from pathlib import PurePath
from typing import Any

SHOWN = 80
"""Characters of a value in a message."""
_MOST_ITEMS = 4
_MOST_LEVELS = 3
_MOST_BITS = 256
# C0, DEL and C1 controls, line separators, marks of the direction of writing, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text in one line, with everything in it that a terminal would obey written out: ESC as `\x1b`."""
    return _UNPRINTABLE.sub(_escaped, text)


def shortened(text: str, most: int = SHOWN) -> str:
    """A printable text of at most so many characters."""
    return printable(text) if len(text) <= most else printable(text[: most - 3]) + "..."


def brief(value: Any, most: int = SHOWN) -> str:
    """Return `repr` of plain values, at most so many characters of it, at a cost that does not depend on their size."""
    return shortened(_repr(value, most, _MOST_LEVELS), most)


def say(line: str) -> None:
    """Print a line that may hold text from elsewhere."""
    print(printable(line))


class PrintableFormatter(logging.Formatter):
    """Lines of a program's log whose messages may quote a file or a peer; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        """Return the formatted line with control characters escaped."""
        return printable(super().formatMessage(record))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\n\r\t":
        return repr(character)[1:-1]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _repr(value: Any, most: int, levels: int) -> str:
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= most else repr(value[:most]) + "..."
    if isinstance(value, bool | float | None | date | PurePath):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= _MOST_BITS else f"a number of {value.bit_length()} bits"
    if isinstance(value, Mapping):
        items = (f"{_repr(k, most, levels - 1)}: {_repr(v, most, levels - 1)}" for k, v in value.items())
        return "{" + _listed(items, len(value), levels) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + _listed((_repr(item, most, levels - 1) for item in value), len(value), levels) + "]"
    return type(value).__name__


def _listed(items: Any, count: int, levels: int) -> str:
    if not levels:
        return "..." if count else ""
    return ", ".join(islice(items, _MOST_ITEMS)) + (", ..." if count > _MOST_ITEMS else "")
