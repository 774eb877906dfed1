"""`sensebind replay`: replays a recording and prints its events.

Imports stand inside: a word that cannot be read is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import RunClock
from agent.log import messages
from agent.log.format import ReplayError, sensor_of
from agent.log.replay.control import MAX_SPEED, SPEEDS, ReplayOptions, checked_speed
from agent.log.timeline import Entry, Timeline
from drivers.driver import BadData

if TYPE_CHECKING:
    from agent.config.parse import Config
    from agent.run.run import Run
    from protos import perception_pb2 as pb

_EPOCH_S = 1e9
"""A larger number of seconds is since 1970, not since the start of a log."""


def open_replay(
    logs: Sequence[Path],
    config: Config | None = None,
    *,
    speed: str = "max",
    begin: str | None = None,
    end: str | None = None,
    loop: bool = False,
    paused: bool = False,
    sensors: str | None = None,
    reuse_embeddings: bool = False,
    serve: bool = False,
    out: Path | None = None,
) -> Run:
    """Make a replay from the words of the command line. Raises ReplayError and ConfigError."""
    if paused and not serve:
        raise ReplayError("--paused: a replay that is not served cannot be resumed; add --serve, or leave out --paused")
    if out is not None and (serve or loop or reuse_embeddings):
        why = "with --serve or --loop it may go back" if serve or loop else "--reuse-embeddings reads no samples"
        raise ReplayError(f"--out: a replay is recorded from start to end, and {why}; leave out one of them")
    timeline = Timeline(logs)
    start_ns = timeline.start_ns
    options = ReplayOptions(
        speed=speed_of(speed),
        from_ns=None if begin is None else time_of(begin, start_ns, "--from"),
        to_ns=None if end is None else time_of(end, start_ns, "--to"),
        loop=loop,
        paused=paused,
        lasting=serve,
    )
    names = None if sensors is None else [name.strip() for name in sensors.split(",") if name.strip()]
    if not reuse_embeddings:
        # Faults that need no model are found first, and among those the ones that a user can mend.
        if config is None:
            from agent.log.stored_config import judged

            judged(timeline)
        _check_samples(timeline)

    from agent.run import build

    return build.replay(logs, config, sensors=names, options=options, reuse_embeddings=reuse_embeddings, log_to=out)


def _check_samples(timeline: Timeline) -> None:
    """Look for a first sample before a model is loaded, which takes seconds. Raises ReplayError when there is none."""
    if not any(_is_sample(timeline, entry) for entry in timeline.read()):
        why = "; a part is cut off or damaged: try `sensebind log repair`" if timeline.unfinished else ""
        raise ReplayError(f"{timeline}: holds no sample that can be read, so there is nothing to replay{why}")


def _is_sample(timeline: Timeline, entry: Entry) -> bool:
    """Return whether a message holds what its sensor gives."""
    sensor = timeline.sensors.get(sensor_of(entry.topic) or "")
    if sensor is None:
        return False
    try:
        messages.decode(entry.schema, sensor, entry.message.log_time, entry.message.data)
    except BadData:
        return False
    return True


def replay(run: Run) -> pb.Status:
    """Run a replay to its end, and print its events, what became of the ticks and what the log lacks."""
    from rich.console import Console

    from agent.commands.watching import Printer
    from agent.run.to_the_end import events_of

    printer, clock = Printer(Console()), RunClock.start()
    try:
        run.load_model()
        began_ns = clock.now_ns()
        for event in events_of(run):
            printer.on_event(event)
        took_s = (clock.now_ns() - began_ns) / 1e9
        status = run.status()
    finally:
        run.stop()
    for line in _summary(status, took_s):
        printer.print(line)
    return status


def speed_of(text: str) -> float:
    """The speed that a word means. Raises ReplayError."""
    try:
        return MAX_SPEED if text == "max" else checked_speed(float(text))
    except ValueError:
        raise ReplayError(f"--speed {text!r}: not a speed; give {SPEEDS[0]:g} to {SPEEDS[1]:g}, or max") from None


def time_of(text: str, start_ns: int, option: str) -> int:
    """The capture time that a word means: seconds from `start_ns`, or since 1970, or a time of day or date in UTC.

    A time of day is the first one at or after the start. Raises ReplayError.
    """
    start = datetime.fromtimestamp(start_ns // 10**9, UTC)
    try:
        if ":" not in text:
            seconds = float(text)
            return round(seconds * 1e9) + (0 if seconds >= _EPOCH_S else start_ns)
        if "-" in text:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
        else:
            at = datetime.combine(start.date(), time.fromisoformat(text), UTC)
            at += timedelta(days=at < start)
        return round((at - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1)) * 1000
    except (ValueError, OverflowError):
        raise ReplayError(
            f"{option} {text!r}: not a time; give seconds from the start of the log, such as 12.5, or UTC, such as "
            f"14:05:10 or {start:%Y-%m-%dT%H:%M:%S}"
        ) from None


def _summary(status: pb.Status, took_s: float) -> list[str]:
    lines = [
        f"{stream.sensor}: " + ", ".join(f"{count} {reason}" for reason, count in sorted(stream.drops.items()))
        for stream in status.streams
        if stream.drops
    ]
    shed, played_s = sum(status.ticks_shed.values()), status.replay.position_s - status.replay.from_s
    ticks = f"{status.ticks_produced} ticks, {status.ticks_delivered} delivered, {shed} shed"
    return [*lines, f"{ticks}; {played_s:.1f} s in {took_s:.1f} s"]
