"""State of a recording, for status, events and log lines."""

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
    """State and counts of a recording. Of all messages handed in: written + drops + waiting; nothing waits after the
    end.
    """

    state: State
    error: str
    """Reason for a stopped or failed recording, one line; empty otherwise."""
    written: dict[str, int]
    """Messages in the files, by topic."""
    drops: dict[str, dict[str, int]]
    """Dropped messages by topic and reason."""
    path: Path | None = None
    """The file that is being written, or was last."""
    parts: int = 0
    """Number of files so far."""
    removed_files: int = 0
    """Number of files removed by retention."""
    removed_bytes: int = 0
    notice: str = ""
    """The last thing that another program did to a file of the recording, one line."""

    @property
    def lost(self) -> dict[str, int]:
        """Sound messages that no file holds, by reason."""
        reasons: Counter[str] = Counter()
        for counts in self.drops.values():
            reasons.update(counts)
        return {reason: count for reason, count in sorted(reasons.items()) if reason != BAD_DATA}
