"""Takes recordings out of logs and into logs, as `log export` and `log import` on the command line do."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands.progress import show_progress
from agent.commands.replay import time_of
from agent.exchange.captions import read_captions
from agent.log.files import recording_files
from agent.log.format import LogError, ReplayError
from agent.log.reading import facts_of
from common.printable import say
from drivers.driver import MODALITIES
from drivers.forms import image_like

if TYPE_CHECKING:
    from agent.exchange.bag_topics import AudioFormat, Wanted
    from agent.exchange.log_file import ImportReport

TARGETS = ("media", "shards", "foxglove")
BAG_SUFFIXES = (".mcap", ".db3")


def export_log(
    log: Path,
    out: Path,
    to: str = "media",
    sensors: Sequence[str] = (),
    every_s: float | None = None,
    captions: Path | None = None,
) -> None:
    """Write a log into a new folder, `to` one of TARGETS, and print what is in it.

    `every_s` is the distance of training examples, `captions` a table of texts for them. Raises LogError and
    ConfigError.
    """
    if to not in TARGETS:
        raise LogError(f"--to {to}: is not known; give {', '.join(TARGETS[:-1])} or {TARGETS[-1]}")
    if captions is not None and to != "shards":
        raise LogError("--captions: are for training examples; add --to shards")
    start_ns = facts_of(recording_files(log)[0]).start_ns  # what is not a log is refused before torch is imported
    texts = [] if captions is None else read_captions(captions, lambda word, where: time_of(word, start_ns, where))
    if to == "shards":
        from agent.exchange.shards import EVERY_S, export_shards

        with show_progress() as progress:
            report = export_shards(
                log, out, sensors, EVERY_S if every_s is None else every_s, captions=texts, progress=progress
            )
        held = report.pairs | ({"captions": report.captioned} if texts else {})
        pairs = ", ".join(f"{modality} {number}" for modality, number in held.items())
        say(f"{out}: {report.examples} examples in {report.shards} shards; images with {pairs}")
        _print_faults("left out", report.left_out)
        _print_faults("without", report.lacking)
        unfinished = report.unfinished
    elif to == "foxglove":
        from agent.exchange.foxglove import LAYOUT_FILE, export_for_viewers

        viewed = export_for_viewers(log, out, sensors)
        for part in viewed.files:
            say(f"{part.name}: {part.messages} messages, and {part.for_viewers} for viewers")
        say(f"{out}: written; open its logs in Foxglove, and import the layout {out / LAYOUT_FILE}")
        unfinished = viewed.unfinished
    else:
        from agent.exchange.media import export_media

        with show_progress() as progress:
            media = export_media(log, out, sensors, progress=progress)
        for file in media.files:
            missing = f", {file.missing} missing" if file.missing else ""
            what = f"{file.count} {file.unit} in {file.file}{missing}" if file.file else "no samples"
            say(f"{file.name}: {what}")
            _print_faults(file.name, file.faults)
        say(f"{out}: written")
        unfinished = media.unfinished
    if unfinished:
        say(f"warning: {unfinished}")


def import_log(source: Path, out: Path, topics: Sequence[str] = (), audio: str | None = None) -> None:
    """Make a log of a folder of media, a ROS 2 bag or another MCAP file, and print what is in it.

    Raises LogError and ConfigError.

    `topics` are as `/camera/image_raw=front_camera`, or `=heat:thermal`; `audio` is as `16000x1`, rate and channels of
    sound whose bag does not tell.
    """
    if not os.path.exists(source):  # Path.exists raises for a name that is too long, and where one may not look
        raise LogError(f"{source}: there is no such file or folder; give a folder of media or a ROS 2 bag")
    if source.is_dir() and not _is_bag(source):
        if topics or audio:
            raise LogError(f"{source}: is a folder of media; --topic and --audio are for ROS 2 bags")
        from agent.exchange.media import import_folder

        with show_progress() as progress:
            report = import_folder(source, out, progress=progress)
    elif source.is_dir() or source.suffix in BAG_SUFFIXES:
        from agent.exchange.rosbag import import_bag

        if _is_log(source):
            raise LogError(f"{source}: is a log of sensebind already; run it: sensebind replay {source}")
        wanted, form = _wanted(topics), _audio(audio)
        with show_progress() as progress:
            report = import_bag(source, out, wanted, form, progress=progress)
    else:
        raise LogError(f"{source}: neither a folder of media nor a bag (a folder, .mcap or .db3)")
    _print_import(out, report)


def _is_bag(folder: Path) -> bool:
    """Return whether a folder is a bag; one whose recorder lost power has no metadata.yaml, and no media either."""
    if (folder / "metadata.yaml").exists():
        return True
    from agent.exchange.description import NAME
    from agent.exchange.media import SUFFIXES

    kinds = {path.suffix.lower() for path in folder.iterdir()}
    is_media = (folder / NAME).exists() or kinds & SUFFIXES.keys()
    return not is_media and bool(kinds & set(BAG_SUFFIXES))


def _is_log(path: Path) -> bool:
    """Return whether a file, or the first of a folder, is a log that can be replayed."""
    try:
        facts_of(next(iter(sorted(path.glob("*.mcap"))), path) if path.is_dir() else path)
    except ReplayError:
        return False
    return True


def _wanted(topics: Sequence[str]) -> Mapping[str, Wanted]:
    from agent.exchange.bag_topics import Wanted

    wanted: dict[str, Wanted] = {}
    for text in topics:
        topic, _, target = text.partition("=")
        name, _, modality = target.partition(":")
        if not topic or not name or modality not in ("", *MODALITIES):
            raise LogError(f"--topic {text}: give /topic=name, or /topic=name:thermal")
        if topic in wanted or any(other.name == name for other in wanted.values()):
            raise LogError(f"--topic {text}: the topic or the name is given twice")
        wanted[topic] = Wanted(name, modality or None)  # type: ignore[arg-type]  # checked above
    return wanted


def _audio(text: str | None) -> AudioFormat | None:
    from agent.exchange.bag_topics import AudioFormat

    if text is None:
        return None
    parts = re.fullmatch(r"([1-9]\d{2,6})x([1-9]\d?)", text)
    if parts is None:
        raise LogError(f"--audio {text}: give rate and channels, as 16000x1")
    return AudioFormat(int(parts[1]), int(parts[2]))


def _print_import(out: Path, report: ImportReport) -> None:
    for name, sensor in report.sensors.items():
        what = "pictures" if image_like(sensor.modality) else "rows"
        say(f"{name}: {sensor.rows} {what}" + (f", {sensor.missing} missing" if sensor.missing else ""))
        _print_faults(name, sensor.faults)
    for line in report.notes:
        say(line)
    for line in report.skipped:
        say(f"skipped: {line}")
    say(f"{out}: written; run it: sensebind replay {out}")


def _print_faults(name: str, faults: Mapping[str, int]) -> None:
    for reason, count in faults.items():
        say(f"{name}: {count} {reason}")
