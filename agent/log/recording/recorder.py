"""Recorder of a run, on threads of its own: `write_*` never waits for the disk or a codec.

write_* -> queue -> (picture encoders) -> recorder's thread -> recording (files), clips (memory)
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.clock import RunClock
from agent.config.recording import CHUNK_BYTES, RecordSettings
from agent.log.encoded import Encoded, encode_event, encode_sample, rows_of
from agent.log.format import EVENTS_TOPIC, MODEL_RECORD, SENSORS_TOPIC, RunFacts
from agent.log.recording.clips import Clips
from agent.log.recording.parts import Recording
from agent.log.recording.report import BAD_DATA, DISK_SLOW, QUEUE_FULL, STOPPED, TAKEN_AWAY, RecorderReport, State
from agent.log.viewers.messages import ViewerMessages
from agent.log.writing import Beside
from agent.policy import LIVE, Policy
from drivers.driver import BadData, Clock, Sample
from drivers.forms import image_like
from protos import perception_pb2 as pb

__all__ = ["CHUNK_BYTES", "Recorder", "RecorderReport"]

log = logging.getLogger(__name__)

ITEM_BYTES = 512
"""Memory of a waiting item beside its data."""

CLOSE_S = 30.0
"""Longest wait for the disk at the end, where nothing else is said."""
SPARE_S = 0.2
"""Part of that time for the work after the disk has taken the last chunk."""


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

    At most `settings.queue_bytes` wait to be written: when full, the oldest is dropped and counted; lossless, whoever
    hands in waits instead.
    """

    def __init__(
        self,
        path: Path | None,
        facts: RunFacts,
        settings: RecordSettings | None = None,
        *,
        policy: Policy = LIVE,
        clock: Clock | None = None,
        clips: Clips | None = None,
        on_change: Callable[[RecorderReport], None] | None = None,
    ) -> None:
        """Begin the file; without a path only `clips` get the messages. Raises RecordError.

        `on_change` is called when the state or the file changes, or files were removed: by the recorder's thread, or
        in `close` when that waits for the disk.
        """
        self._facts = facts
        self._settings = settings or RecordSettings()
        self._policy = policy
        self._clips = clips
        self._viewers = ViewerMessages(facts, self._settings.imu_plot_hz)
        self._viewers_failed = False
        self._on_change = on_change
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._ended = False
        self._given_up = False
        """True if the disk did not come back in time at the end: what its thread does from then on does not count."""
        self._failure = self._unfinished = ""
        self._written: Counter[str] = Counter()
        self._drops: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._inside: Counter[str] = Counter()
        """Messages taken from the queue that are neither written nor dropped yet, by topic."""
        self._own_clock = RunClock.start()
        self._deadline_ns: int | None = None
        """Time at which the end is over; None before the end."""
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
                on_lost=self._count_lost,
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
        """Return the state and counts of the recording."""
        recording = self._recording
        with self._changed:
            drops = {topic: dict(reasons) for topic, reasons in self._drops.items()}
            error = self._failure or self._unfinished or (recording.error if recording else "")
            report = RecorderReport(self._state(), error, dict(self._written), drops)
        if recording is None:
            return report
        return replace(
            report,
            path=recording.path,
            parts=recording.parts,
            removed_files=recording.removed_files,
            removed_bytes=recording.removed_bytes,
            notice=recording.notice,
        )

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits and finish the file, in `timeout_s`; what the disk does not take until then is dropped.

        May be called again.
        """
        with self._changed:
            self._closing = True
            self._deadline_ns = self._deadline_ns or self._own_clock.now_ns() + round((timeout_s - SPARE_S) * 1e9)
            self._changed.notify_all()
        self._thread.join(max(0.0, timeout_s))
        if self._thread.is_alive():
            self._give_up()

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
            limit = self._settings.queue_bytes
            self._policy.wait_for_room(self._changed, lambda: not self._takes() or self._queued_bytes < limit)
            if not self._takes() and not isinstance(item.payload, str):
                self._drop(item, STOPPED)
                return
            self._queue.append(self._begin_encoding(item))
            self._queued_bytes += item.size
            for oldest in self._policy.too_many(self._queue, lambda: self._queued_bytes > limit):
                self._queued_bytes -= oldest.size
                self._drop(oldest, QUEUE_FULL)
            self._changed.notify_all()

    def _takes(self) -> bool:
        """Return whether messages are of any use: recorded, or held for clips."""
        if self._closing or self._failure:
            return False
        return self._clips is not None or self._state() == "recording"

    def _begin_encoding(self, item: _Item) -> _Item:
        """Start to encode pictures on other threads: that takes milliseconds; other samples take none."""
        sensor = self._facts.sensors.get(item.topic.removeprefix(SENSORS_TOPIC))
        if sensor is None or not image_like(sensor.modality):
            return item
        return replace(item, encoding=self._encoders.submit(self._encode, item))

    def _encode(self, item: _Item) -> Encoded:
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
            self._drop_queue(DISK_SLOW)
            if self._recording and self._given_up:
                self._recording.give_up()
            elif self._recording:
                self._recording.finish(self._left_s())
                self._say_lost()
        except Exception as error:
            log.exception("recording failed")
            self._fail(f"recording failed: {error}; the agent goes on without it", item)
        self._encoders.shutdown(cancel_futures=True)
        if self._clips:
            self._clips.close(self._left_s() if self._closing else None)
        with self._changed:
            self._ended = True
        self._tell()

    def _is_over(self) -> bool:
        """Return whether the file is to be finished: all is written, or the time that is left is needed for that."""
        with self._changed:
            if not self._closing:
                return False
            write_s = self._recording.write_ns / 1e9 if self._recording else 0.0
            return not self._queue or self._left_s() < 4 * write_s  # one meanwhile, the last, the summary

    def _left_s(self) -> float:
        """Time that is left for the end."""
        assert self._deadline_ns is not None
        return max(0.0, (self._deadline_ns - self._own_clock.now_ns()) / 1e9)

    def _give_up(self) -> None:
        """Leave the thread to the disk that it waits for; unwritten messages count as dropped."""
        with self._changed:
            if self._ended:
                return
            self._given_up = self._ended = True
            self._drop_queue(DISK_SLOW)
            for topic, count in (+self._inside).items():
                self._drops[topic][DISK_SLOW] += count
            self._say_lost()
        if self._clips:
            self._clips.give_up()
        self._tell()

    def _say_lost(self) -> None:
        """Say how much the disk did not take at the end, if anything."""
        with self._changed:
            if lost := sum(reasons[DISK_SLOW] for reasons in self._drops.values()):
                what = self._recording.path if self._recording else "clips"
                self._unfinished = f"{what}: the disk was too slow at the end: {lost} messages are lost"
                log.error("%s", self._unfinished)

    def _drop_queue(self, reason: str) -> None:
        with self._changed:
            for item in self._queue:
                self._drop(item, reason)
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()

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
            if item.topic != MODEL_RECORD:
                self._inside[item.topic] += 1
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
                self._inside[item.topic] -= 1
            if first:
                name = item.topic.removeprefix(SENSORS_TOPIC)
                log.warning("%s: not recorded: %s; more of them are counted, not logged", name, error)
            return
        message = replace(message, lost=message.lost + item.lost, beside=self._beside(item))
        if self._clips:
            self._clips.add(message)
        if self._recording:
            self._recording.write(message)
        else:
            self._inside[item.topic] -= 1

    def _beside(self, item: _Item) -> tuple[Beside, ...]:
        """Return the messages for viewers; a fault in one of them must not cost what they are made of."""
        payload = item.payload
        try:
            if isinstance(payload, pb.Event):
                return self._viewers.of_event(payload)
            assert isinstance(payload, Sample)
            return self._viewers.of_sample(item.topic.removeprefix(SENSORS_TOPIC), payload.t_ns, lambda: payload)
        except Exception:
            if not self._viewers_failed:
                log.exception("%s: messages for viewers failed; the log holds the rest", item.topic)
            self._viewers_failed = True
            return ()

    def _count_written(self, messages: Sequence[Encoded]) -> None:
        topics = Counter(message.topic for message in messages)
        with self._changed:
            if not self._given_up:
                self._written += topics
                self._inside -= topics

    def _count_drops(self, messages: Sequence[Encoded], reason: str) -> None:
        topics = Counter(message.topic for message in messages)
        with self._changed:
            if not self._given_up:
                for topic, count in topics.items():
                    self._drops[topic][reason] += count
                self._inside -= topics
            self._changed.notify_all()

    def _count_lost(self, topics: Mapping[str, int]) -> None:
        """Messages that were written to a file which another program took away."""
        with self._changed:
            self._written.subtract(topics)
            for topic, count in topics.items():
                self._drops[topic][TAKEN_AWAY] += count

    def _tell(self) -> None:
        """Call `on_change` when there is something new to say."""
        if self._on_change is None or (self._given_up and threading.current_thread() is self._thread):
            return
        report = self.report()
        news = (report.state, report.error, report.notice, report.path, report.removed_files)
        if news == self._told:
            return
        self._told = news
        try:
            self._on_change(report)
        except Exception:
            log.exception("a listener of the recording state failed")

    def _fail(self, error: str, item: _Item | None) -> None:
        with self._changed:
            self._failure = error
            if item:
                self._drop(item, STOPPED)
                self._inside[item.topic] -= 1
            self._drop_queue(STOPPED)
        if self._recording:
            try:
                self._recording.give_up()
            except Exception:
                log.exception("the file of a recording that failed could not be ended")
