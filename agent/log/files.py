"""Names of the files of a recording, and their order.

A recording that is not split is one file. The parts of a split one are `NAME_0001.mcap`, `NAME_0002.mcap` ... in one
folder; which part of which run a file is stands in its facts, so that it may be renamed: `NAME_0002.keep.mcap` is kept
by retention.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from agent.log.format import ReplayError, RunFacts
from agent.log.reading import facts_of

log = logging.getLogger(__name__)

SUFFIX = ".mcap"
KEEP_SUFFIX = ".keep.mcap"
"""Suffix of a file that retention never removes."""


def recording_files(path: Path) -> list[Path]:
    """Return the files of a recording in time order: a file gives itself, a folder the parts of the one run in it.

    Clips and cuts in the folder are left out, unless one is all there is. Raises ReplayError: no log in it, several
    runs, which the message names, or two files that are the same part.
    """
    if not os.path.isdir(path):  # Path.is_dir raises for a name that is too long, and where one may not look
        return [path]
    found = _logs_in(path)
    parts = [log for log in found if log[0].part] or found
    runs = {facts.run_id: file.name for facts, file in reversed(parts)}
    if len(runs) > 1:
        names = ", ".join(f"{run_id} ({name})" for run_id, name in reversed(runs.items()))
        raise ReplayError(f"{path}: holds {len(runs)} runs: {names}; give the files of one, in a folder of its own")
    for (facts, file), (other, after) in pairwise(parts):
        if facts.part == other.part:
            what = f"are both part {facts.part} of one run" if facts.part else "are pieces of one run"
            raise ReplayError(f"{path}: {file.name} and {after.name} {what}; give one of them, or move the others away")
    return [file for _, file in parts]


def recordings(path: Path) -> list[list[Path]]:
    """Return all recordings in a folder, oldest first, each as its files in time order; clips and cuts are their own.

    A file gives itself. Raises ReplayError when there is none.
    """
    if not os.path.isdir(path):
        return [[path]]
    found = _logs_in(path)
    runs: dict[str, list[Path]] = {}
    for facts, file in found:
        runs.setdefault(facts.run_id if facts.part else str(file), []).append(file)
    return list(runs.values())


def _logs_in(folder: Path) -> list[tuple[RunFacts, Path]]:
    """The logs in a folder with their facts, by run and part, the run that began first at the beginning."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append((facts_of(path), path))
        except ReplayError as error:
            log.warning("%s; passed over", error)
    if not found:
        raise ReplayError(f"{folder}: holds no log; give a folder with {SUFFIX} files that sensebind recorded")
    began_ns: dict[str, int] = {}
    for facts, _ in found:
        began_ns[facts.run_id] = min(began_ns.get(facts.run_id, facts.start_ns), facts.start_ns)
    return sorted(found, key=lambda log: (began_ns[log[0].run_id], log[0].run_id, log[0].part, log[0].start_ns))


def part_path(path: Path, part: int) -> Path:
    """Return the name of a part of the recording `path`; in a folder, names sort as the parts do."""
    return path.with_name(f"{path.stem}_{part:04d}{path.suffix or SUFFIX}")


def recording_name(start_ns: int, run_id: str) -> str:
    """Return a name for a recording that sorts by when it began: `20261231T235959Z_a1b2c3.mcap`."""
    began = datetime.fromtimestamp(start_ns // 1_000_000_000, UTC)
    return f"{began:%Y%m%dT%H%M%SZ}_{run_id}{SUFFIX}"
