"""Clips of alerts: the samples of all sensors around the begin of an alert whose query asks for one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

from agent.config.recording import Retention
from agent.log.files import SUFFIX
from agent.log.recording import retention
from agent.log.recording.clips import Clip, Clips
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)


class AlertClips:
    """Asks `clips` for one log per alert, in one folder, which is kept within a budget. A listener of the bus."""

    def __init__(
        self,
        clips: Clips,
        folder: Path,
        asking: Iterable[str],
        *,
        before_s: float,
        after_s: float,
        max_bytes: int,
        unix_now_ns: Callable[[], int],
    ) -> None:
        """`folder` is there already; `asking` are the queries that ask for clips from the start, by id.

        `unix_now_ns` gives the age of what is in the folder.
        """
        self._clips = clips
        self._folder = folder
        self._before_ns, self._after_ns = round(before_s * 1e9), round(after_s * 1e9)
        self._rules = Retention(max_bytes=max_bytes)
        self._unix_now_ns = unix_now_ns
        self._asking = set(asking)
        retention.remove_unfinished(folder, unix_now_ns())

    def on_event(self, event: pb.Event) -> None:
        """Take note of an event of the run. Does not wait."""
        match event.WhichOneof("event"):
            case "query":
                self._note(event.query)
            case "alert" if event.alert.phase == pb.ALERT_PHASE_BEGIN and event.alert.query_id in self._asking:
                self._request(event.run_id, event.alert)

    def _note(self, change: pb.QueryChange) -> None:
        if change.change == pb.QueryChange.CHANGE_ADDED and change.query.clip:
            self._asking.add(change.query.id)
        elif change.change == pb.QueryChange.CHANGE_REMOVED:
            self._asking.discard(change.query.id)

    def _request(self, run_id: str, alert: pb.AlertTransition) -> None:
        retention.apply(self._folder, self._rules, self._unix_now_ns())  # a full disk would never free itself
        began = datetime.fromtimestamp(alert.begin_ns // 1_000_000_000, UTC)
        path = self._folder / f"{began:%Y%m%dT%H%M%SZ}_{alert.query_id}_{run_id}_{alert.alert_id}{SUFFIX}"
        clip = self._clips.request(path, alert.begin_ns - self._before_ns, alert.begin_ns + self._after_ns)
        clip.add_done_callback(self._saved)

    def _saved(self, clip: Future[Clip]) -> None:
        if clip.exception() is None:
            log.info("%s: clip saved", clip.result().path)
            retention.apply(self._folder, self._rules, self._unix_now_ns())
