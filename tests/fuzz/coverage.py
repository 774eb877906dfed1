"""Which lines of the program an input reaches, so that inputs that lead somewhere new are mutated further."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_ROOT / package}/" for package in ("agent", "drivers", "models"))


class Coverage:
    """All lines reached so far. Tracing makes a run several times slower, so a fuzzer traces some runs only."""

    def __init__(self) -> None:
        self._lines: set[tuple[str, int]] = set()

    def is_new(self, run: Callable[[], object]) -> bool:
        """Whether a run reaches a line that none before it has reached. What it raises is passed over."""
        before = len(self._lines)
        tracing = sys.gettrace()
        sys.settrace(self._enter)
        try:
            with contextlib.suppress(Exception):
                run()
        finally:
            sys.settrace(tracing)
        return len(self._lines) > before

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self._lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line
