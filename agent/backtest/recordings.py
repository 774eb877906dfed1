"""Recordings in the files and folders that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.log.files import recordings
from agent.log.reading import facts_of
from agent.log.timeline import Timeline


def recordings_in(paths: Sequence[Path]) -> list[Timeline]:
    """Every recording, oldest first, each once; clips and cuts only where they are all there is. Raises ReplayError."""
    runs: dict[str, list[Path]] = {}
    for path in paths:
        for files in recordings(path):
            facts = facts_of(files[0])
            run = facts.run_id if facts.part else str(files[0].resolve())
            runs.setdefault(run, []).extend(files)
    timelines = [Timeline(files) for files in runs.values()]
    whole = [timeline for timeline in timelines if timeline.facts.part]
    return sorted(whole or timelines, key=lambda timeline: timeline.start_ns)
