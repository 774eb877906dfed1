"""A recording as a folder of files that any program opens, and such a folder as a log."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from agent.exchange import inside
from agent.exchange.contents import Contents, over_time
from agent.exchange.description import (
    MAX_START_NS,
    NAME,
    NO_START_NS,
    Description,
    SensorFile,
    read_description,
    write_description,
)
from agent.exchange.imu_table import ImuMedia, ImuTrack
from agent.exchange.log_file import ImportReport, facts_of_import, write_log
from agent.exchange.new_folder import new_folder
from agent.exchange.pictures import PictureMedia, PictureTrack
from agent.exchange.sound import SoundMedia, SoundTrack
from agent.exchange.tables import TIMES_SUFFIX, times_beside
from agent.exchange.track import Media, Track
from agent.exchange.video import VideoMedia, VideoTrack
from agent.log.format import EVENTS_TOPIC, LogError, LoggedSensor
from common import private_files
from common.progress import Progress, untold
from drivers.driver import Modality, Sample
from drivers.forms import FORMS, image_like
from drivers.opencv import import_cv2
from protos import perception_pb2 as pb

EVENTS_FILE = "events.jsonl"
TRACKS: dict[Modality, Callable[[Path, str, LoggedSensor], Track]] = {
    "vision": VideoTrack,
    "audio": SoundTrack,
    "imu": ImuTrack,
    "depth": PictureTrack,
    "thermal": PictureTrack,
}
_VIDEO = ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .vob .ts .mts .m2ts .wmv .h264 .mjpeg"
_SOUND = ".wav .flac .ogg .oga .opus .mp3 .aif .aiff"
SUFFIXES: dict[str, Modality] = {
    **dict.fromkeys(_VIDEO.split(), "vision"),
    **dict.fromkeys(_SOUND.split(), "audio"),
    ".csv": "imu",
}
"""Modality of a file by its suffix, unless the description says it."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A sensor's file, or that of the events."""

    name: str
    file: str
    """Empty when there was nothing to write."""
    count: int
    unit: str
    """Pictures, rows, or events."""
    missing: int
    """Pictures or rows that the recording lacks, as its numbers tell."""
    faults: dict[str, int]
    """Samples that are not in the file, or were altered, by reason."""


@dataclass(frozen=True, slots=True)
class MediaReport:
    """Result of an export."""

    files: list[ExportedFile]
    unfinished: str
    """File of the recording that ended early; empty if none did."""


def export_media(log: Path, out: Path, sensors: Collection[str] = (), *, progress: Progress = untold) -> MediaReport:
    """Write a recording into a new folder, which appears whole or not at all. Raises LogError.

    `camera.mp4`, `microphone.wav`, `imu.csv`, folders `depth` and `thermal`, `events.jsonl`; tables of times beside
    them; and `recording.yaml`, with which `import_folder` makes a log of it again. Memory is bounded by one sample.
    `progress` is told seconds of the recording.
    """
    import_cv2()  # quiet from its first import on: errors are reported here
    contents = Contents(log, sensors)
    for name in contents.sensors:
        if not _FILE_NAME.fullmatch(name):
            raise LogError(
                f"{log}: sensor {name!r}: its files would be hidden by the leading dot; leave it out with --sensors"
            )
    tracks: dict[str, Track] = {}
    events = 0
    with new_folder(out) as folder, ExitStack() as stack:
        lines = stack.enter_context(open(folder / EVENTS_FILE, "x", encoding="utf-8", opener=private_files.opener))
        for item in over_time(contents, _time_of, contents.timeline, progress):
            if isinstance(item, pb.Event):
                lines.write(MessageToJson(item, indent=None, preserving_proto_field_name=True) + "\n")
                events += 1
                continue
            name, sample = item
            if name not in tracks:
                track = TRACKS[contents.sensors[name].modality](folder, name, contents.sensors[name])
                tracks[name] = track
                stack.callback(track.close)
            tracks[name].add(sample)
        for track in tracks.values():
            track.finish()
        lines.close()
        write_description(folder, _described(contents, tracks))
    files = [_exported(name, tracks.get(name), contents) for name in contents.sensors]
    bad = contents.bad[EVENTS_TOPIC]
    faults = {"messages that are not events": bad} if bad else {}
    files.append(ExportedFile("events", EVENTS_FILE, events, "events", 0, faults))
    return MediaReport(files, contents.timeline.unfinished)


def _time_of(item: tuple[str, Sample] | pb.Event) -> int:
    return item.capture_ns if isinstance(item, pb.Event) else item[1].t_ns


def import_folder(folder: Path, out: Path, *, progress: Progress = untold) -> ImportReport:
    """Make a log of the media in a folder. Raises LogError and ConfigError.

    `recording.yaml` in it says which files, and when each begins. Without it every file of a kind that is known is
    taken, named after itself, and all begin at the same time. `progress` is told seconds of the recording, and of all
    as far as files state their lengths.
    """
    description, skipped = _description(folder)
    media = {name: _open(folder, name, entry) for name, entry in description.sensors.items()}
    begins = {name: description.begin_ns + round(entry.offset_s * 1e9) for name, entry in description.sensors.items()}
    facts = facts_of_import(
        min(begins.values()) if description.start_ns is None else description.start_ns,
        {name: (opened.sensor, opened.options) for name, opened in media.items()},
        description.config,
        f"{folder / NAME}: config",
    )

    def stream(name: str) -> Iterator[tuple[str, Sample]]:
        return ((name, sample) for sample in media[name].samples(begins[name]))

    first_ns = min(begins.values())
    stated_s = max((begins[name] - first_ns) / 1e9 + opened.length_s for name, opened in media.items())

    def told(samples: Iterator[tuple[str, Sample]]) -> Iterator[tuple[str, Sample]]:
        for item in samples:
            done_s = max(0.0, (item[1].end_ns - first_ns) / 1e9)
            progress("seconds of the recording", done_s, stated_s if done_s <= stated_s else None)
            yield item

    samples = told(heapq.merge(*map(stream, media), key=lambda item: item[1].end_ns))
    return ImportReport(write_log(out, facts, samples, {n: opened.faults for n, opened in media.items()}), skipped)


def _described(contents: Contents, tracks: dict[str, Track]) -> Description:
    facts = contents.timeline.facts
    start_ns = facts.start_ns if 0 <= facts.start_ns < MAX_START_NS else NO_START_NS
    sensors = {}
    for name, track in tracks.items():
        assert track.first_ns is not None
        offset_s = (track.first_ns - start_ns) / 1e9
        sensors[name] = SensorFile(file=track.path.name, offset_s=offset_s, **track.description())
    return Description(start_ns=start_ns, sensors=sensors, config=facts.config)


def _exported(name: str, track: Track | None, contents: Contents) -> ExportedFile:
    unit = "pictures" if image_like(contents.sensors[name].modality) else "rows"
    faults = Counter({"messages that are not samples": contents.bad[name]})
    if track is None:
        return ExportedFile(name, "", 0, unit, 0, dict(+faults))
    return ExportedFile(name, track.path.name, track.count, unit, track.missing, dict(faults + track.faults))


def _description(folder: Path) -> tuple[Description, list[str]]:
    """Return the description to import by, and the entries that are skipped."""
    described = read_description(folder)
    if described is None:
        return _found(folder)
    events = (folder / EVENTS_FILE).exists()
    return described, [f"{EVENTS_FILE}: events of the agent; a replay computes them again"] if events else []


def _found(folder: Path) -> tuple[Description, list[str]]:
    """Return a description made from the files of a folder without one, and the entries that are skipped."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    skipped = [f"{path.name}: a link or a device; only files are read" for path in paths if inside.is_link(path)]
    paths = [path for path in paths if not inside.is_link(path)]
    usable = [path for path in paths if path.is_file() and _modality(path) is not None]
    stems = Counter(_sensor_name(path.stem) for path in usable)
    sensors: dict[str, SensorFile] = {}
    for path in usable:
        name = _sensor_name(path.stem)
        if stems[name] > 1:
            name = _sensor_name(path.name.replace(".", "_"))
        if name in sensors:
            raise LogError(f"{path}: its name clashes with that of {sensors[name].file}; name both in {folder / NAME}")
        sensors[name] = SensorFile(file=path.name)
    if not sensors:
        raise LogError(f"{folder}: holds no video, sound or table; give the files in {folder / NAME}")
    for path in paths:
        if path.is_dir():
            skipped.append(f"{path.name}: a folder; say in {NAME} whether it is depth or thermal")
        elif path not in usable and not path.name.endswith(TIMES_SUFFIX):
            skipped.append(f"{path.name}: no video, sound or table")
    return Description(sensors=sensors), skipped


def _sensor_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:64]


def _modality(path: Path) -> Modality | None:
    return None if path.name.endswith(TIMES_SUFFIX) else SUFFIXES.get(path.suffix.lower())


def _open(folder: Path, name: str, entry: SensorFile) -> Media:
    """Look at a sensor's file. Raises LogError."""
    path = inside.entry(folder, entry.file)
    if path is None:
        raise LogError(f"{folder / entry.file}: there is no such file; {NAME} names it for {name}")
    if path != folder:
        inside.entry(folder, str(times_beside(path).relative_to(folder)))
    if path.is_dir():
        inside.check_entries(path)
    match entry.modality or _modality(path):
        case "vision":
            return VideoMedia(path, entry.rate_hz)
        case "audio":
            return SoundMedia(path)
        case "imu":
            return ImuMedia(
                path,
                columns=entry.columns,
                delimiter=entry.delimiter,
                decimal=entry.decimal,
                accel_unit=entry.accel_unit,
                gyro_unit=entry.gyro_unit,
                rate_hz=entry.rate_hz,
            )
        case "depth" | "thermal" as modality:
            form = FORMS[modality]
            offset = form.count_offset if entry.offset is None else entry.offset
            return PictureMedia(path, modality, entry.scale or form.count_scale, offset, entry.rate_hz, folder)
        case _:
            raise LogError(f"{path}: its kind cannot be told from its name; give its `modality` in {NAME}")
