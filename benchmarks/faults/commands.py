"""`sensebind` as a process that is watched from outside: how far it has come, how it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Self

PROGRAM = "from agent.cli import main; main()"
LIMIT_S = 90.0
"""For whatever takes seconds on an idle machine."""


class Command:
    """Started in a folder; its stdout is a pipe. `program` is what Python runs, with `words` after it."""

    def __init__(self, words: Sequence[str], folder: Path, program: str = PROGRAM) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def handles_signals(self) -> None:
        """Wait until it does; nothing else has happened then."""
        status = Path(f"/proc/{self.process.pid}/status")
        self.until(lambda: bool(int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (SIGTERM - 1) & 1))

    def has_mapped(self, library: str) -> None:
        """Wait until it imports a library."""
        self.until(lambda: library in Path(f"/proc/{self.process.pid}/maps").read_text())

    def says(self, begin: str) -> str:
        """Wait for a line that begins so; the rest of it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(begin):
                return line.removeprefix(begin).strip()
        raise RuntimeError(f"never said {begin!r}")

    def until(self, met: Callable[[], bool]) -> None:
        """Wait for a condition while it runs. Raises RuntimeError."""
        deadline_s = time.monotonic() + LIMIT_S
        while not met():
            if time.monotonic() > deadline_s or self.process.poll() is not None:
                raise RuntimeError(f"not within {LIMIT_S:g} s, or it has ended: {self.process.poll()}")
            time.sleep(0.002)

    def end(self, *signals: Signals, apart_s: float = 0.1) -> tuple[int, str, float]:
        """Send signals, one after the other; exit status, what was said on stderr, and how long it took."""
        began_s = time.monotonic()
        for index, number in enumerate(signals):
            if index:
                time.sleep(apart_s)
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, errors, time.monotonic() - began_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
