"""One run of the agent. It is made by `agent.run.build`, and builds nothing itself.

    source -> sampler (windows) -> worker (model) -> stage (perception) -> bus -> recorder, clips, subscribers
       `-- samples ---------------------------------------------------------> recorder

Four threads beside asyncio's: the sampler takes samples and cuts windows, the worker runs the model, the stage does
what follows from its vectors, and the watch looks after the model. Nothing waits for what comes after it, except where
nothing may be lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent.capture.source import Source
from agent.config.parse import Config
from agent.embedding.condition import Condition, Load, Progress
from agent.embedding.watch import Watch
from agent.embedding.worker import WorkerError
from agent.events import messages as events
from agent.events.bus import Bus
from agent.faults import Faults
from agent.health.health import StreamState
from agent.log.recording.recorder import Recorder, RecorderReport
from agent.log.replay.control import ReplayControl
from agent.policy import Policy
from agent.run.model import LoadedModel
from agent.run.recording import Keeping
from agent.run.sampler import Outlet, Sampler
from agent.run.status import status_of
from agent.streams import Streams
from agent.windows.windower import Tick
from drivers.driver import Clock, Sample
from drivers.remote import Remote
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)

HALT_S = 1.8
"""Longest wait for the model, and for sensors, at the end."""
CLOSE_S = 30.0
"""Longest wait for the disk at the end of a run that is not served."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a run. The functions make those that exist only from `Run.start` or `Run.load_model` on."""

    config: Config
    clock: Clock
    source: Source[Any]
    bus: Bus
    policy: Policy
    faults: Faults
    sampler: Callable[[Outlet[Any]], Sampler[Any]]
    load: Callable[[Callable[[pb.Event], None]], LoadedModel]
    """Loads the model, whose findings go to a function."""
    keep: Callable[[Callable[[RecorderReport], None]], Keeping]
    """Begins what is kept of the run; a function is told how recording goes. Raises RecordError."""
    replay: ReplayControl | None = None
    """Control of a replay."""
    bare_ticks: Callable[[], int] = lambda: 0
    """Counts the ticks that a replay of vectors passes over, since the log has none of them."""


class Run(Outlet[Any]):
    """From its source to its bus. Starts with `start`; ticks before `load_model` has returned are counted and shed."""

    def __init__(self, parts: Parts) -> None:
        self.config, self.clock, self.bus, self.faults = parts.config, parts.clock, parts.bus, parts.faults
        self.policy, self.replay = parts.policy, parts.replay
        self.recorder: Recorder | None = None
        self.loaded: Future[LoadedModel] = Future()
        self.early_ticks = 0
        """That came before the model."""
        self._parts = parts
        self._model: LoadedModel | None = None
        self._unlisten: Sequence[Callable[[], None]] = ()
        self._watch = Watch(self._look, self._tell_condition)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        """Held while a model that has just been loaded is put to use, or kept from it by `stop`."""
        self._over = False
        """True if nothing is told any more."""
        self._telling = threading.Lock()
        """Held while an event is published, so that the end comes between events."""
        self._sampler = parts.sampler(self)

    @property
    def streams(self) -> Streams:
        """The table of streams, by sensor."""
        return self.config.streams

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """Sensors that other processes fill."""
        return self._parts.source.remotes

    @property
    def ended(self) -> Future[None]:
        """Future that is done when samples are no longer taken; it holds the fault that ended that, if any."""
        return self._sampler.ended

    @property
    def bare_ticks(self) -> int:
        """Number of ticks that the log has no vectors of, in a replay of vectors."""
        return self._parts.bare_ticks()

    @property
    def condition(self) -> Condition:
        """State of the model."""
        return self._watch.condition

    def start(self) -> None:
        """Begin to take samples. Raises RecordError."""
        kept = self._parts.keep(self._tell_recording)
        self.recorder = kept.recorder
        self._unlisten = [self.bus.listen(listener) for listener in kept.listeners]
        if self.recorder and self._model:
            self.recorder.write_model(self._model.name)
        with self._lock:
            if not self._stopping.is_set():
                self._sampler.start()
                self._watch.start()

    def load_model(self) -> LoadedModel:
        """Load weights, embed prompts and queries: seconds. Raises CheckpointError, ConfigError or DeviceError."""
        try:
            model = self._parts.load(self.publish)
        except BaseException as error:
            self.loaded.set_exception(error)
            raise
        with self._lock:
            if self._stopping.is_set():
                model.stop(HALT_S)
            self._model = model
        self.loaded.set_result(model)
        if self.recorder:
            self.recorder.write_model(model.name)
        return model

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every sensor has ended and every tick is out, as they do offline; False after `timeout_s`.

        Raises what ended the sampler.
        """
        try:
            self.ended.result(timeout_s)
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """End everything, and wait for the log as long as its disk may take; what waits for the model is shed.

        May be called again.
        """
        self.halt()
        self.close_log(CLOSE_S)

    def halt(self) -> None:
        """Take no more samples and see through what the model is at; what waits for it is shed.

        Nothing is told any more once this returns. The model, the sensors and whoever is telling something are waited
        for, each HALT_S at most. May be called again.
        """
        with self._lock:
            self._stopping.set()
        # Beside each other: processes take their time to close devices, and offline the sampler waits for the model.
        sampler = threading.Thread(target=self._sampler.stop, name="sampler-stop", daemon=True)
        sampler.start()
        self._watch.stop()
        if self._model:
            self._model.stop(HALT_S)
        sampler.join(HALT_S)
        self._sampler.join(HALT_S)
        # What a model that hung says later is too late for the log, and therefore for subscribers as well.
        waited = self._telling.acquire(timeout=HALT_S)
        self._over = True
        if waited:
            self._telling.release()
        for unlisten in self._unlisten:
            unlisten()  # the log holds nothing about its own end

    def close_log(self, timeout_s: float) -> None:
        """Write what the recording holds and close it, in time, after `halt`. May be called again."""
        if self.recorder:
            self.recorder.close(timeout_s)

    def publish(self, event: pb.Event) -> None:
        """Hand an event to whoever listens or subscribes."""
        with self._telling:
            if not self._over:
                self.bus.publish(event)

    def status(self) -> pb.Status:
        """Return the status of the run."""
        return status_of(self, self._model, self._sampler.stretch.states())

    # As the sampler's Outlet.

    def keep(self, item: tuple[str, Sample]) -> None:
        """Hand a sample to the recorder."""
        if self.recorder:
            with self.faults.guard(item[0]):
                self.recorder.write_sample(*item)

    def ticked(self, count: int) -> None:
        """Let a replay know, which may stand still after so many."""
        if self.replay:
            self.replay.ticked(count)

    def submit(self, ticks: Sequence[Tick]) -> None:
        """Hand ticks to the worker."""
        if self._model:
            self._model.submit(ticks)
        else:
            self.early_ticks += len(ticks)

    def settle(self) -> None:
        """Wait until every tick so far has been delivered or shed, or the run is stopped."""
        while self._model and not self._stopping.is_set() and not self._model.worker.drain(timeout_s=0.5):
            pass

    def tell(self, states: Sequence[StreamState], now_ns: int) -> None:
        """Publish the health of streams."""
        for state in states:
            self.publish(events.health(state, now_ns))

    def start_anew(self) -> None:
        """End the alerts that are on, and perceive what follows as if nothing had been."""
        if self._model:
            with suppress(WorkerError, CancelledError):  # the run is stopped
                self._model.stage.call(self._model.perceiving.start_anew).result()

    def through(self) -> None:
        """Let a replay know, which may begin again."""
        if self.replay:
            self.replay.through()

    # What the watch and the recorder tell.

    def _look(self) -> tuple[Progress, Load] | None:
        model = self._model
        return None if model is None else (model.progress(), model.perceiving.load())

    def _tell_condition(self, now: Condition) -> None:
        assert self._model is not None
        level = logging.INFO if now.state == "ok" else logging.WARNING if now.works else logging.ERROR
        log.log(level, "the model is %s%s", now.state, f": {now.reason}" if now.reason else "")
        if self.policy.in_order:
            return  # what is told there follows from the items alone
        self._model.worker.refuse_requests(f"the model {now.reason}; try again later" if now.state == "hung" else "")
        self.publish(events.model(now, self.clock.now_ns()))

    def _tell_recording(self, report: RecorderReport) -> None:
        event = events.recording(report, self.clock.now_ns())
        if self._over:
            self.bus.publish(event)
        else:
            self.publish(event)
