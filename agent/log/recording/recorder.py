"""Records a run, on threads of its own: whoever hands something in never waits for the disk or a codec.

write_* -> queue -> (picture encoders) -> recorder's thread -> recording (files), clips (memory)
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from agent.clock import RunClock
from agent.log.encoded import Encoded, encode_event, encode_sample, rows_of
from agent.log.format import EVENTS_TOPIC, MODEL_RECORD, SENSORS_TOPIC, RunFacts
from agent.log.recording.clips import Clips
from agent.log.recording.parts import CLOSE_S, Recording
from agent.log.settings import CHUNK_BYTES, RecordSettings
from drivers.driver import BadData, Clock, Sample, image_like
from protos import perception_pb2 as pb

__all__ = ["CHUNK_BYTES", "Recorder", "RecorderReport"]

log = logging.getLogger(__name__)

ITEM_BYTES = 512
"""What waiting costs beside the data itself."""

State = Literal["recording", "stopped", "off", "failed", "closed"]
"""`stopped`: the disk is full, or away; it resumes by itself. `off`: only clips are made. `failed`: a fault of ours."""
QUEUE_FULL, STOPPED, BAD_DATA = "queue full", "recording stopped", "bad data"


@dataclass(frozen=True, slots=True)
class RecorderReport:
    """How recording goes. Of everything handed in: written + drops + still waiting; after the end nothing waits."""

    state: State
    error: str
    """Why it is stopped or failed, one line."""
    written: dict[str, int]
    """What the files hold for good, by topic."""
    drops: dict[str, dict[str, int]]
    """By topic and reason."""
    path: Path | None = None
    """The file that is being written, or was last."""
    parts: int = 0
    """Files so far."""
    removed_files: int = 0
    """By retention."""
    removed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    topic: str
    payload: Sample | pb.Event | str
    """A sample, an event, or the name of the model."""
    size: int
    encoding: Future[Encoded] | None = None
    lost: int = 0
    """Rows or images dropped before it."""


class Recorder:
    """Records from its construction until `close`. Any thread may hand in.

    At most `settings.queue_bytes` wait to be written: when full, the oldest is dropped and counted; with `lossless`
    (offline runs) the one who hands in waits instead.
    """

    def __init__(
        self,
        path: Path | None,
        facts: RunFacts,
        settings: RecordSettings | None = None,
        *,
        lossless: bool = False,
        clock: Clock | None = None,
        clips: Clips | None = None,
        on_change: Callable[[RecorderReport], None] | None = None,
    ) -> None:
        """Begin the file; without a path only `clips` get what is handed in. Raises RecordError.

        `on_change` is called by the recorder's thread when the state or the file is another, or files were removed.
        """
        self._facts = facts
        self._settings = settings or RecordSettings()
        self._lossless = lossless
        self._clips = clips
        self._on_change = on_change
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._ended = False
        self._failure = ""
        self._written: Counter[str] = Counter()
        self._drops: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._missing: Counter[str] = Counter()
        """Rows or images dropped since the last sample that was taken to be written, by topic."""
        self._latest_ns = facts.start_ns
        """Capture time of the last sample that was handed in."""
        self._recording: Recording | None = None
        if path:
            self._recording = Recording(
                path,
                facts,
                self._settings,
                clock or RunClock.start(),
                on_written=self._count_written,
                on_dropped=lambda messages: self._count_drops(messages, STOPPED),
            )
        self._told: tuple[object, ...] = ()
        self._encoders = ThreadPoolExecutor(self._settings.encoders, "log-encoder")
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write_sample(self, sensor: str, sample: Sample) -> None:
        """Hand in a sample; its array must not change any more. Sensors that are not logged are passed over."""
        if sensor in self._facts.sensors:
            self._put(_Item(SENSORS_TOPIC + sensor, sample, sample.data.nbytes + ITEM_BYTES))

    def write_event(self, event: pb.Event) -> None:
        """Hand in an event that the bus has published; it must not change any more."""
        self._put(_Item(EVENTS_TOPIC, event, event.ByteSize() + ITEM_BYTES))

    def write_model(self, name: str) -> None:
        """Note which weights the run uses (name and hash), once that is known."""
        self._put(_Item(MODEL_RECORD, name, ITEM_BYTES))

    def report(self) -> RecorderReport:
        """How it goes."""
        recording = self._recording
        with self._changed:
            drops = {topic: dict(reasons) for topic, reasons in self._drops.items()}
            error = self._failure or (recording.error if recording else "")
            report = RecorderReport(self._state(), error, dict(self._written), drops)
        if recording is None:
            return report
        return replace(
            report,
            path=recording.path,
            parts=recording.parts,
            removed_files=recording.removed_files,
            removed_bytes=recording.removed_bytes,
        )

    def close(self) -> None:
        """Write what waits and finish the file; may be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.error("the disk takes too long; the log stays unfinished, but can be replayed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> State:
        if self._failure:
            return "failed"
        if self._ended:
            return "closed"
        if self._recording is None:
            return "off"
        return "stopped" if self._recording.error else "recording"

    def _put(self, item: _Item) -> None:
        with self._changed:
            if isinstance(item.payload, Sample):
                self._latest_ns = item.payload.t_ns
            if self._lossless:
                self._changed.wait_for(lambda: not self._takes() or self._queued_bytes < self._settings.queue_bytes)
            if not self._takes() and not isinstance(item.payload, str):
                self._drop(item, STOPPED)
                return
            self._queue.append(self._begin_encoding(item))
            self._queued_bytes += item.size
            while not self._lossless and self._queued_bytes > self._settings.queue_bytes and len(self._queue) > 1:
                oldest = self._queue.popleft()
                self._queued_bytes -= oldest.size
                self._drop(oldest, QUEUE_FULL)
            self._changed.notify_all()

    def _takes(self) -> bool:
        """Whether what is handed in is of any use."""
        if self._closing or self._failure:
            return False
        return self._clips is not None or self._state() == "recording"

    def _begin_encoding(self, item: _Item) -> _Item:
        """Let pictures be encoded elsewhere: that takes milliseconds; the rest takes none."""
        sensor = self._facts.sensors.get(item.topic.removeprefix(SENSORS_TOPIC))
        if sensor is None or not image_like(sensor.modality):
            return item
        return replace(item, encoding=self._encoders.submit(self._encode, item))

    def _encode(self, item: _Item) -> Encoded:
        """Raises BadData."""
        if isinstance(item.payload, pb.Event):
            return encode_event(item.payload)
        assert isinstance(item.payload, Sample)
        name = item.topic.removeprefix(SENSORS_TOPIC)
        return encode_sample(name, self._facts.sensors[name], item.payload, self._settings.pictures)

    def _drop(self, item: _Item, reason: str) -> None:
        self._drops[item.topic][reason] += 1
        if item.encoding:
            item.encoding.cancel()
        if isinstance(item.payload, Sample):
            self._missing[item.topic] += item.lost + item.payload.lost + rows_of(item.payload)

    def _run(self) -> None:
        item: _Item | None = None
        self._tell()
        try:
            while not self._is_over():
                item = self._next()
                if item:
                    self._take(item)
                    item = None
                if self._recording:
                    self._recording.tend(self._latest_ns)
                self._tell()
            if self._recording:
                self._recording.finish()
        except Exception as error:
            log.exception("recording failed")
            self._fail(f"recording failed: {error}; the agent goes on without it", item)
        self._encoders.shutdown(cancel_futures=True)
        if self._clips:
            self._clips.close()
        with self._changed:
            self._ended = True
        self._tell()

    def _is_over(self) -> bool:
        with self._changed:
            return self._closing and not self._queue

    def _next(self) -> _Item | None:
        """Wait for something to write; None when none comes before the recording wants to be tended."""
        timeout_s = self._recording.wait_s() if self._recording else None
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing, timeout_s)
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= item.size
            self._changed.notify_all()
            return replace(item, lost=self._missing.pop(item.topic, 0))

    def _take(self, item: _Item) -> None:
        if isinstance(item.payload, str):
            if self._recording:
                self._recording.set_model(item.payload)
            if self._clips:
                self._clips.set_model(item.payload)
            return
        try:
            message = item.encoding.result() if item.encoding else self._encode(item)
        except BadData as error:
            with self._changed:
                first = not self._drops[item.topic][BAD_DATA]
                self._drop(item, BAD_DATA)
            if first:
                name = item.topic.removeprefix(SENSORS_TOPIC)
                log.warning("%s: not recorded: %s; more of them are counted, not logged", name, error)
            return
        message = replace(message, lost=message.lost + item.lost)
        if self._clips:
            self._clips.add(message)
        if self._recording:
            self._recording.write(message)

    def _count_written(self, messages: Sequence[Encoded]) -> None:
        with self._changed:
            self._written.update(message.topic for message in messages)

    def _count_drops(self, messages: Sequence[Encoded], reason: str) -> None:
        with self._changed:
            for message in messages:
                self._drops[message.topic][reason] += 1
            self._changed.notify_all()

    def _tell(self) -> None:
        """Call `on_change` when there is something new to say."""
        if self._on_change is None:
            return
        report = self.report()
        news = (report.state, report.error, report.path, report.removed_files)
        if news == self._told:
            return
        self._told = news
        try:
            self._on_change(report)
        except Exception:
            log.exception("whoever wants to know how recording goes failed")

    def _fail(self, error: str, item: _Item | None) -> None:
        with self._changed:
            self._failure = error
            for lost in [item, *self._queue] if item else self._queue:
                self._drop(lost, STOPPED)
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()
        if self._recording:
            self._recording.give_up()
