"""How a recording goes, as it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["recording", "stopped", "off", "failed", "closed"]
"""`stopped`: the disk is full, or away; it resumes by itself. `off`: only clips are made. `failed`: a fault of ours."""
QUEUE_FULL, STOPPED, BAD_DATA = "queue full", "recording stopped", "bad data"
TAKEN_AWAY, DISK_SLOW = "file deleted or changed", "disk too slow at the end"


@dataclass(frozen=True, slots=True)
class RecorderReport:
    """How recording goes. Of everything handed in: written + drops + still waiting; after the end nothing waits."""

    state: State
    error: str
    """Why it is stopped or failed, one line."""
    written: dict[str, int]
    """What the files hold, by topic."""
    drops: dict[str, dict[str, int]]
    """By topic and reason."""
    path: Path | None = None
    """The file that is being written, or was last."""
    parts: int = 0
    """Files so far."""
    removed_files: int = 0
    """By retention."""
    removed_bytes: int = 0
    notice: str = ""
    """What another program did last to a file of the recording, one line."""

    @property
    def lost(self) -> dict[str, int]:
        """Sound messages that no file holds, by reason."""
        reasons: Counter[str] = Counter()
        for counts in self.drops.values():
            reasons.update(counts)
        return {reason: count for reason, count in sorted(reasons.items()) if reason != BAD_DATA}
