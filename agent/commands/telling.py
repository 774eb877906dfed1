"""Lines of a command that serves."""

from __future__ import annotations

from contextlib import suppress
from typing import TextIO


def tell(line: str, file: TextIO | None = None) -> None:
    """Print a line, on stdout unless `file` is given, which an agent does not end for when nobody reads it any more."""
    with suppress(OSError):
        print(line, flush=True, file=file)
