"""Recording of a run, and clips of alerts, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config.parse import Config
from agent.config.recording import RecordSettings
from agent.events.bus import Listener
from agent.log.files import recording_name
from agent.log.format import RecordError, RunFacts
from agent.log.recording.alert_clips import AlertClips
from agent.log.recording.clips import Clips
from agent.log.recording.recorder import Recorder, RecorderReport
from agent.policy import LOSSLESS
from common import private_files
from drivers.driver import Clock

Tell = Callable[[RecorderReport], None]
"""Told when something about the recording changes, by the recorder's thread."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A recorder that takes samples, and the listeners that take events."""

    recorder: Recorder | None
    listeners: Sequence[Listener] = ()


def live_recording(config: Config, facts: RunFacts, path: Path | None, clock: Clock, tell: Tell) -> Keeping:
    """Begin to record a live run into `path`, or where the configuration says, and to hold what clips may need.

    Raises RecordError.
    """
    if path is None and config.record_folder is not None:
        path = _made(config.record_folder, "record.folder") / recording_name(facts.start_ns, facts.run_id)
    if config.clips.folder is None:
        return _keeping(None if path is None else Recorder(path, facts, config.record, on_change=tell))
    saved, folder = config.clips, _made(Path(config.clips.folder).expanduser(), "clips.folder")
    seconds, max_bytes = saved.before_s + saved.after_s, round(saved.memory_mb * 1e6)
    clips = Clips(facts, clock.now_ns, seconds=seconds, max_bytes=max_bytes)
    try:
        recorder = Recorder(path, facts, config.record, clips=clips, on_change=tell)
    except RecordError:
        clips.close()
        raise
    alert_clips = AlertClips(
        clips,
        folder,
        [query.id for query in config.queries if query.clip],
        before_s=saved.before_s,
        after_s=saved.after_s,
        max_bytes=round(saved.keep_gb * 1e9),
        unix_now_ns=clock.now_ns,
    )
    return _keeping(recorder, alert_clips.on_event)


def lossless_recording(facts: RunFacts, path: Path | None, settings: RecordSettings) -> Keeping:
    """Begin to record an offline run into `path`, if any. Raises RecordError.

    The run says the same every time, and so nothing of how the disk does.
    """
    return _keeping(None if path is None else Recorder(path, facts, settings, policy=LOSSLESS))


def _keeping(recorder: Recorder | None, *more: Listener) -> Keeping:
    return Keeping(recorder, [recorder.write_event, *more] if recorder else more)


def _made(folder: Path, key: str) -> Path:
    """The folder that a key of the configuration names."""
    try:
        private_files.make_folders(folder)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made: {error.strerror}; change {key}") from None
    return folder
