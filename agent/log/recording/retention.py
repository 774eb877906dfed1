"""Retention in a folder of logs: a byte budget and an age. The oldest unprotected file goes first.

Protected is what is named `*.keep.mcap`: rename a file to keep it. Its bytes count towards the budget like any other's.
A file that is being written, by this process or another, is never removed. Files without `.mcap` are not looked at, nor
are folders within the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from agent.config.recording import Retention
from agent.log.disk import in_use
from agent.log.files import KEEP_SUFFIX, SUFFIX
from common.descriptors import RESERVE

log = logging.getLogger(__name__)

UNFINISHED_S = 3600.0
"""A clip takes a second to be written; nobody writes to one any more that is so old."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that had to go."""

    path: Path
    size: int
    reason: str


def apply(folder: Path, rules: Retention, now_ns: int) -> tuple[list[Removed], int]:
    """Remove what the rules say, oldest first, and return it with the bytes of what stays; `now_ns` is UNIX time.

    A file that cannot be removed is logged. Without rules nothing is looked at.
    """
    if rules == Retention():
        return [], 0
    files = _oldest_first(folder)
    total = sum(size for _, _, size in files)
    removed = []
    for changed_ns, path, size in files:
        reason = _reason(rules, total, (now_ns - changed_ns) / 1e9)
        if not reason or path.name.endswith(KEEP_SUFFIX) or in_use(path):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be removed, though %s: %s", path, reason, error.strerror)
            continue
        log.info("%s: removed: %s", path, reason)
        total -= size
        removed.append(Removed(path, size, reason))
    return removed, total


def remove_unfinished(folder: Path, now_ns: int) -> None:
    """Remove what killed agents left of files that were to appear whole; `now_ns` is UNIX time."""
    for path in folder.glob(f".*{SUFFIX}.*.part"):
        with contextlib.suppress(OSError):  # another agent was faster
            if now_ns - path.stat().st_mtime_ns > UNFINISHED_S * 1e9:
                path.unlink()
                log.info("%s: removed: it was never finished", path)


def _reason(rules: Retention, total: int, age_s: float) -> str:
    if rules.max_bytes is not None and total > rules.max_bytes:
        return f"the folder's logs held {total} of {rules.max_bytes} bytes"
    if rules.max_age_s is not None and age_s > rules.max_age_s:
        return f"it is {age_s:.0f} s old, more than {rules.max_age_s:.0f}"
    return ""


def _oldest_first(folder: Path) -> list[tuple[int, Path, int]]:
    """Time of last change in UNIX time, path and size in bytes of each log."""
    files = []
    try:
        with RESERVE.open(lambda: os.scandir(folder)) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, Path(entry.path), status.st_size))
    except OSError as error:
        log.warning("%s: cannot be listed, so no log is removed: %s", folder, error.strerror)
    return sorted(files)
