"""`sensebind log info / repair / cut / merge / export / import`: inspect, edit and convert logs.

Imports stand inside the commands, so that the command line starts at once.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.options import BeginOption
from common.printable import printable, say, shortened

if TYPE_CHECKING:
    from rich.table import Table

    from agent.log.editing.cutting import Written
    from agent.log.editing.survey import Survey

log_app = typer.Typer(help="Inspect, repair, cut, merge, export and import logs.", no_args_is_help=True)

Recording = Annotated[Path, typer.Argument(help="Log, such as drive.mcap, or the folder of one recording.")]
Out = Annotated[Path, typer.Argument(help="Log to write, such as new.mcap; must not exist yet.")]
SensorsOption = Annotated[
    str | None, typer.Option(help="Sensors to take, separated by commas, such as camera,imu. Default: all.")
]
_NS = 1_000_000_000
MOST_ROWS = 300
"""Rows of the table: a file with more topics than a run has sensors is not ours; --json lists all."""


@log_app.command()
def info(
    log: Annotated[Path, typer.Argument(help="Log, such as drive.mcap, or a folder of logs.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per recording, each on a line.")
    ] = False,
) -> None:
    """Print the contents of a log: run, duration, sensors, gaps, model and damage."""
    from rich.console import Console

    from agent.log.editing.survey import survey
    from agent.log.files import recordings

    console = Console()
    for files in recordings(log):
        found = survey(files)
        if as_json:
            print(json.dumps(_document(found)))
            continue
        for line in _lines(found):
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        console.print(_table(found))


@log_app.command()
def repair(
    log: Annotated[Path, typer.Argument(help="Log that was cut off or damaged, such as drive.mcap.")], out: Out
) -> None:
    """Copy everything that can be read from a damaged log to a complete one."""
    from agent.log.editing.repair import repair as write_copy

    repaired = write_copy(log, out)
    for damage in repaired.damages:
        say(f"{log}: {damage}")
    if repaired.more_damages:
        say(f"{log}: and {repaired.more_damages} more places")
    say(f"{out}: {repaired.messages.total()} messages written")
    if not repaired.has_facts:
        say(f"{out}: what the log said of its run is lost; it can be looked at, but not replayed")


@log_app.command()
def cut(
    log: Recording,
    out: Out,
    begin: BeginOption = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="End, not included: seconds from the start, such as 42.5, or UTC, such as 14:05:40."),
    ] = None,
    sensors: SensorsOption = None,
    events: Annotated[bool, typer.Option(help="Copy the events as well.")] = True,
) -> None:
    """Copy a time range, or some sensors, of a recording to a new log."""
    from agent.commands.replay import time_of
    from agent.log.editing.cutting import cut as write_piece
    from agent.log.files import recording_files
    from agent.log.reading import facts_of

    files = recording_files(log)
    start_ns = facts_of(files[0]).start_ns
    piece = write_piece(
        files,
        out,
        from_ns=None if begin is None else time_of(begin, start_ns, "--from"),
        to_ns=None if end is None else time_of(end, start_ns, "--to"),
        sensors=None if sensors is None else _names(sensors),
        events=events,
    )
    _tell(piece)


@log_app.command()
def merge(first: Recording, second: Recording, out: Out) -> None:
    """Merge two recordings: different sensors of the same time, or consecutive pieces of one run."""
    from agent.log.editing.merging import merge as write_both
    from agent.log.files import recording_files

    _tell(write_both(recording_files(first), recording_files(second), out))


@log_app.command()
def export(
    log: Recording,
    out: Annotated[Path, typer.Argument(help="Folder to write, such as export/; must not exist yet.")],
    to: Annotated[
        str,
        typer.Option(
            help="media (MP4, WAV, CSV, PNG), shards (training examples) or foxglove (a log that viewers show)."
        ),
    ] = "media",
    sensors: SensorsOption = None,
    every_s: Annotated[
        float | None, typer.Option(help="With --to shards: seconds between training examples. Default: 2.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="With --to shards: CSV file of texts that are true of the images of a time, such as "
            "12.5,14,a dog on the lawn; seconds from the start, or UTC."
        ),
    ] = None,
) -> None:
    """Convert a recording to media files, to training shards, or to a log that Foxglove shows with a layout."""
    from agent.commands.exchange import export_log

    export_log(log, out, to, [] if sensors is None else _names(sensors), every_s, captions)


@log_app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of video, sound and tables, a ROS 2 bag, or another MCAP file, such as bag/."),
    ],
    out: Out,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Topic of a bag and its sensor: /camera/image_raw=front_camera or /heat=heat:thermal; repeatable."
        ),
    ] = None,
    audio: Annotated[
        str | None, typer.Option(help="Rate and channels of a bag's sound, when the bag does not say: 16000x1.")
    ] = None,
) -> None:
    """Convert a folder of media, a ROS 2 bag or an MCAP file of Foxglove's messages to a log."""
    from agent.commands.exchange import import_log

    import_log(source, out, topic or [], audio)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tell(written: Written) -> None:
    topics = sorted(written.messages.items())
    counts = ", ".join(f"{count} {shortened(topic)}" for topic, count in topics[:MOST_ROWS])
    viewers = f", and {written.for_viewers} for viewers" if written.for_viewers else ""
    say(f"{written.path}: {written.messages.total()} messages written: {counts}{viewers}")


def _lines(found: Survey) -> list[str]:
    files = str(found.files[0]) + (f" and {len(found.files) - 1} more" if len(found.files) > 1 else "")
    began = datetime.fromtimestamp(found.first_ns / _NS, UTC)
    kind = "piece" if found.facts.part == 0 else "recording"
    return [
        f"{files}: {kind} of run {found.facts.run_id}, {found.size / 1e6:.1f} MB",
        f"  {began:%Y-%m-%d %H:%M:%S} UTC, {(found.last_ns - found.first_ns) / _NS:.1f} s",
        f"  model {found.model or 'not recorded'}",
        *(f"  {damage}; `sensebind log repair` writes a complete copy" for damage in found.damages),
    ]


def _table(found: Survey) -> Table:
    from rich.table import Table
    from rich.text import Text

    from agent.log.format import sensor_of
    from drivers.forms import FORMS

    table = Table("sensor", "modality", "messages", "a second", "nominal", "gaps", "missing", "MB", box=None)
    shown = sorted(found.topics.items())[:MOST_ROWS]
    for topic, seen in shown:
        name = sensor_of(topic)
        sensor = found.facts.sensors.get(name or "")
        unit = "" if sensor is None else " images" if FORMS[sensor.modality].image_like else " rows"
        table.add_row(
            Text(shortened(name or topic)),  # Text, because rich would take brackets for markup
            sensor.modality if sensor else "",
            str(seen.count),
            f"{seen.rate_hz:.1f}",
            f"{sensor.rate_hz:g}{unit}/s" if sensor else "",
            str(seen.gaps),
            f"{seen.missing}{unit if seen.missing else ''}",
            f"{seen.size / 1e6:.1f}",
        )
    if found.viewers:
        messages, size = (sum(getattr(seen, key) for seen in found.viewers.values()) for key in ("count", "size"))
        table.add_row("for viewers", f"{len(found.viewers)} topics", str(messages), "", "", "", "", f"{size / 1e6:.1f}")
    if len(found.topics) > len(shown):
        table.add_row(f"and {len(found.topics) - len(shown)} more")
    return table


def _document(found: Survey) -> dict[str, Any]:
    """Return the document that `--json` prints."""
    return {
        "files": [str(path) for path in found.files],
        "run_id": found.facts.run_id,
        "part": found.facts.part,
        "bytes": found.size,
        "first_ns": found.first_ns,
        "last_ns": found.last_ns,
        "model": found.model,
        "complete": not found.damages,
        "damages": found.damages,
        "topics": {
            topic: {
                "messages": seen.count,
                "bytes": seen.size,
                "rate_hz": seen.rate_hz,
                "gaps": seen.gaps,
                "missing": seen.missing,
            }
            for topic, seen in sorted(found.topics.items())
        },
        "viewers": {
            topic: {"messages": seen.count, "bytes": seen.size} for topic, seen in sorted(found.viewers.items())
        },
    }
