"""What is kept of a run: its recording, and clips of alerts, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.config import Config
from agent.log.files import recording_name
from agent.log.format import RecordError, RunFacts
from agent.log.recording.alert_clips import AlertClips
from agent.log.recording.clips import Clips
from agent.log.recording.recorder import Recorder, RecorderReport
from drivers.driver import Clock


def file_of(config: Config, facts: RunFacts) -> Path | None:
    """Where a live run is recorded that is not told where; None: nowhere. Raises RecordError."""
    folder = config.record_folder
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made: {error.strerror}; change record.folder") from None
    return folder / recording_name(facts.start_ns, facts.run_id)


def live_recording(
    config: Config, facts: RunFacts, path: Path | None, clock: Clock, tell: Callable[[RecorderReport], None]
) -> tuple[Recorder | None, AlertClips | None]:
    """Begin to record a live run into `path`, or where the configuration says, and to hold what clips may need.

    `tell` is called by the recorder's thread when something about the recording changes. Raises RecordError.
    """
    path = path or file_of(config, facts)
    saved = config.clips
    if path is None and saved.folder is None:
        return None, None
    clips = alert_clips = None
    if saved.folder is not None:
        seconds, max_bytes = saved.before_s + saved.after_s, round(saved.memory_mb * 1e6)
        clips = Clips(facts, clock.now_ns, seconds=seconds, max_bytes=max_bytes)
        alert_clips = AlertClips(
            clips,
            Path(saved.folder).expanduser(),
            before_s=saved.before_s,
            after_s=saved.after_s,
            max_bytes=round(saved.keep_gb * 1e9),
            unix_now_ns=clock.now_ns,
        )
    return Recorder(path, facts, config.record, clips=clips, on_change=tell), alert_clips
