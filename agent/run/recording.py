"""What is kept of a run: its recording, and clips of alerts, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.config.parse import Config
from agent.log.files import recording_name
from agent.log.format import RecordError, RunFacts
from agent.log.recording.alert_clips import AlertClips
from agent.log.recording.clips import Clips
from agent.log.recording.recorder import Recorder, RecorderReport
from common import private_files
from drivers.driver import Clock


def live_recording(
    config: Config, facts: RunFacts, path: Path | None, clock: Clock, tell: Callable[[RecorderReport], None]
) -> tuple[Recorder | None, AlertClips | None]:
    """Begin to record a live run into `path`, or where the configuration says, and to hold what clips may need.

    `tell` is called by the recorder's thread when something about the recording changes. Raises RecordError.
    """
    if path is None and config.record_folder is not None:
        path = _made(config.record_folder, "record.folder") / recording_name(facts.start_ns, facts.run_id)
    if config.clips.folder is None:
        return (None if path is None else Recorder(path, facts, config.record, on_change=tell)), None
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
        before_s=saved.before_s,
        after_s=saved.after_s,
        max_bytes=round(saved.keep_gb * 1e9),
        unix_now_ns=clock.now_ns,
    )
    return recorder, alert_clips


def _made(folder: Path, key: str) -> Path:
    """The folder that a key of the configuration names."""
    try:
        private_files.make_folders(folder)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made: {error.strerror}; change {key}") from None
    return folder
