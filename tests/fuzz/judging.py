"""What counts as a finding: an exception that is not promised, a second of processor time, too much memory."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fuzz.targets import Target

MOST_CPU_S = 1.0
"""Processor time of this process, so that a busy machine does not count."""
MOST_CHARACTERS = 20_000
"""Of what a user is told: far more than a terminal shows."""

_FORGET_PEAK = "5"
"""As in the kernel's Documentation/filesystems/proc.rst."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that shows a fault of ours."""

    kind: str
    """The same for inputs that show the same fault, as far as can be told: fit for a file's name."""
    told: str
    """What happened."""
    data: bytes

    def keep(self, folder: Path) -> Path:
        """Write the input and what happened; returns the input's file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.kind}-{hashlib.sha256(self.data).hexdigest()[:8]}"
        path.write_bytes(self.data)
        path.with_suffix(".txt").write_text(self.told)
        return path


class Judge:
    """Runs inputs on a target. The first run only warms up: what is imported then is nobody's fault."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.seen: Counter[str] = Counter()
        """Findings of each kind so far."""
        self.executions = 0
        target.one(target.seeds()[0])
        with contextlib.suppress(OSError):  # where the kernel does not let us, an earlier peak hides a lower one
            Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)

    def run(self, data: bytes) -> Finding | None:
        """One input; a finding only when it is the first of its kind."""
        self.executions += 1
        before_kib = _peak_kib()
        try:
            took_s = self._timed_s(data)
            if took_s > MOST_CPU_S:  # a virtual machine that is held up counts as work: the input must be slow again
                took_s = min(took_s, self._timed_s(data))
        except Exception as error:  # noqa: BLE001  (whatever is raised is what is looked for)
            return self._found(_place(error), traceback.format_exc(), data)
        if took_s > MOST_CPU_S:
            return self._found("slow", f"{took_s:.1f} s of processor time for {len(data)} bytes\n", data)
        grown_mb = (_peak_kib() - before_kib) / 1024
        if grown_mb > self._target.peak_mb:
            return self._found("hungry", f"{grown_mb:.0f} MB for {len(data)} bytes\n", data)
        return None

    def _timed_s(self, data: bytes) -> float:
        began_s = time.process_time()
        self._target.one(data)
        return time.process_time() - began_s

    def _found(self, kind: str, told: str, data: bytes) -> Finding | None:
        self.seen[kind] += 1
        return Finding(kind, told, data) if self.seen[kind] == 1 else None


def check_told(error: Exception) -> None:
    """That a fault is told in one line, which a person can read."""
    assert "\n" not in str(error), "a message of several lines"
    assert len(str(error)) < MOST_CHARACTERS, f"a message of {len(str(error))} characters"


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _place(error: BaseException) -> str:
    """The kind of an exception and the innermost line of the program, or of the target, that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
