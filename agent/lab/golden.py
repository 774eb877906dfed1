"""A golden replay: a short log, and what the agent said about it once, compared with what it says now.

A folder holds `log.mcap` and `events.mcap`, a log of events only. Events are compared field by field, by the tolerances
and the ignored fields of `agent.lab.comparison`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.lab.comparison import ACROSS_MACHINES, EXACT, differences
from agent.log.encoded import encode_event
from agent.log.files import recording_files
from agent.log.format import LogError
from agent.log.stored_config import stored_config
from agent.log.timeline import Timeline
from agent.log.whole_file import save_log
from agent.run import build
from agent.run.to_the_end import events_of
from common import private_files
from common.printable import say
from protos import perception_pb2 as pb

LOG, EVENTS = "log.mcap", "events.mcap"
_MOST_EVENTS = 100_000
_MOST_LINES = 40


class GoldenError(LogError):
    """The agent does not say what it said, or there is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Said:
    """Events of an agent about a log, and the weights behind them."""

    events: Sequence[pb.Event]
    model: str


def record(log: Path, out: Path) -> int:
    """Make a golden replay of a log of one file; the number of events. Raises LogError when there is one already."""
    if os.path.lexists(out / LOG):  # Path.exists raises for a name that is too long, and where one may not look
        raise GoldenError(f"{out / LOG}: exists already; `sensebind golden check {out} --accept` stores the new events")
    if len(files := recording_files(log)) > 1:
        raise GoldenError(
            f"{log}: holds {len(files)} files; make one of them with `sensebind log cut {log} short.mcap`"
        )
    said = said_now(files[0])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not out.is_dir():
            private_files.make_folder(out)
        private_files.create(out / LOG)
        shutil.copyfile(files[0], out / LOG)
    except OSError as error:
        raise GoldenError(f"{out}: cannot be written: {error.strerror}; give another folder") from None
    _store(out, said)
    return len(said.events)


def check(folder: Path, *, exact: bool = False, accept: bool = False, tell: Callable[[str], None] = say) -> None:
    """Replay and compare; tell every difference: when, which window, which field. Raises GoldenError when there is one.

    `accept` stores what is said now instead.
    """
    before, now = said_before(folder), said_now(folder / LOG)
    found = differences(before.events, now.events, EXACT if exact else ACROSS_MACHINES)
    start_ns = Timeline([folder / LOG]).start_ns
    for difference in found[:_MOST_LINES]:
        tell(f"{(difference.capture_ns - start_ns) / 1e9:9.3f} s  {difference}")
    if len(found) > _MOST_LINES:
        tell(f"... and {len(found) - _MOST_LINES} more")
    if found and before.model != now.model:
        tell(f"the model was {before.model} and is {now.model}")
    if accept:
        _store(folder, now)
        tell(f"{folder}: {len(found)} differences accepted")
    elif found:
        advice = f"if they are intended, store them with `sensebind golden check {folder} --accept`"
        raise GoldenError(f"{folder}: {len(found)} differences; {advice}")
    else:
        tell(f"{folder}: {len(now.events)} events, no difference")


def said_now(log: Path) -> Said:
    """Replay a log on the CPU, where rounding differs least between machines, by its own configuration."""
    config = stored_config(Timeline([log]), {"device": "cpu", "dtype": "float32"})
    pipeline = build.replay(log, config)
    whole = pb.SubscribeRequest(vectors=True, heat_maps=True)
    try:
        model = pipeline.load_model().name
        return Said(list(events_of(pipeline, whole, max_waiting=_MOST_EVENTS)), model)
    finally:
        pipeline.stop()


def said_before(folder: Path) -> Said:
    """Return the stored events. Raises LogError."""
    timeline = Timeline([folder / EVENTS])
    return Said([pb.Event.FromString(message.data) for message in timeline.events()], timeline.model())


def _store(folder: Path, said: Said) -> None:
    """Replace the stored events in one step."""
    fresh = folder / f".{EVENTS}.{os.getpid()}"
    facts = Timeline([folder / LOG]).facts
    save_log(fresh, facts, map(encode_event, said.events), said.model)
    fresh.replace(folder / EVENTS)
