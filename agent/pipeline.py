"""Wires the agent: the only file that constructs its parts and connects them.

    source -> windower -> worker (embedder -> perception) -> bus -> (agent.serving)
       `----------------------------- recorder <-------------'

Two threads beside asyncio's: intake takes samples and cuts windows, the worker runs the model and what follows from
it. Nothing waits for what comes after it, except offline, where nothing may be lost.
"""

from __future__ import annotations

import logging
import platform
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from agent.capture.live import Capture
from agent.capture.offline import Offline
from agent.capture.source import Source
from agent.clock import RunClock
from agent.config import Config, parse
from agent.events import messages as events
from agent.events.bus import Bus
from agent.health import Health
from agent.log.format import LogError, RunFacts, logged_sensors
from agent.log.recorder import Recorder
from agent.log.replay import Replay, config_of
from agent.streams import Streams
from agent.windows.windower import Tick, Windower
from drivers.driver import Clock, DriverError
from drivers.remote import Remote
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.embedding.embedder import Embedded
    from agent.embedding.worker import Worker
    from agent.perception import Perception

log = logging.getLogger(__name__)

POLL_S = 0.02
"""Longest wait for samples: a tick that waits for a late stream is emitted this long after its lateness ran out."""
HEALTH_PERIOD_NS = 500_000_000
MAX_PENDING_TICKS = 1
"""Live, beside the one that is being embedded: with more, an overloaded agent would serve stale ticks for ever."""
OFFLINE_BATCH = 8
"""Offline, ticks that share a forward pass."""
MODEL_LOADING = "model loading"


class Pipeline:
    """One run of the agent, from its source to its bus."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        source: Source,
        *,
        lossless: bool = False,
        log_to: Path | None = None,
        offset_ns: int = 0,
    ) -> None:
        """`offset_ns` is UNIX time less the monotonic clock, for the log."""
        self.config = config
        self.clock = clock
        self.bus = Bus(uuid.uuid4().hex[:12], clock.now_ns)
        self.recorder: Recorder | None = None
        self.loaded: Future[Loaded] = Future()
        self.ended: Future[None] = Future()
        """Done when samples are no longer taken; holds what ended that, when it was a fault."""
        self._source = source
        self._lossless = lossless
        self._windower = Windower(config.streams, config.hop_ns, clock.start_ns)
        self._health = Health(config.streams)
        self._log_to, self._offset_ns = log_to, offset_ns
        self._model: Loaded | None = None
        self._early_ticks = 0
        self._inference_ms: deque[float] = deque(maxlen=100)
        self._stopping = threading.Event()
        self._next_health_ns = 0
        self._lock = threading.Lock()
        """Held while a model that has just been loaded is put to use, or kept from it by `stop`."""
        self._intake = threading.Thread(target=self._run_intake, name="intake", daemon=True)

    @classmethod
    def live(cls, config: Config, log_to: Path | None = None) -> Pipeline:
        """Real devices, real time: one process per sensor, ticks shed when the model falls behind."""
        clock = RunClock.start()
        return cls(config, clock, Capture(config.specs, clock), log_to=log_to, offset_ns=clock.offset_ns)

    @classmethod
    def offline(cls, config: Config, log_to: Path | None = None) -> Pipeline:
        """Drivers of pace `fast`, read as quickly as the model goes; nothing is shed. `load_model` before `start`."""
        clock = RunClock.start()
        source = Offline(config.specs, clock)
        return cls(config, clock, source, lossless=True, log_to=log_to, offset_ns=clock.offset_ns)

    @classmethod
    def replaying(cls, path: Path, config: Config | None = None) -> Pipeline:
        """A log, by its own configuration or another; as `offline`, on the log's clock. Raises ReplayError."""
        config = config or parse(config_of(path), str(path))
        source = Replay(path, sensors=config.streams)
        return cls(config, source.clock, source, lossless=True)

    @property
    def streams(self) -> Streams:
        """The streams table."""
        return self.config.streams

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """Sensors that other processes fill."""
        return self._source.remotes

    def start(self) -> None:
        """Begin to take samples. Ticks before the model is loaded are counted and shed. Raises RecordError."""
        if self._log_to is not None:
            sensors = logged_sensors(self.config.specs)
            start_ns, tree = self.clock.start_ns, self.config.tree
            facts = RunFacts(self.bus.run_id, start_ns, self._offset_ns, sensors, tree, versions())
            self.recorder = Recorder(self._log_to, facts, lossless=self._lossless)
        self._intake.start()

    def load_model(self) -> Loaded:
        """Load weights, embed prompts and queries: seconds. Raises CheckpointError, QueryError or DeviceError."""
        try:
            model = self._load()
        except BaseException as error:
            self.loaded.set_exception(error)
            raise
        with self._lock:
            if self._stopping.is_set():
                model.worker.stop()
            self._model = model
        self.loaded.set_result(model)
        if self.recorder:
            self.recorder.write_model(model.name)
        return model

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every sensor has ended and every tick is out, as they do offline; False after `timeout_s`.

        Raises what ended the intake.
        """
        try:
            self.ended.result(timeout_s)
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """End everything; what waits for the model is shed. May be called again."""
        with self._lock:
            self._stopping.set()
        self._source.stop()
        if self._model:
            # Before the intake, which offline may be waiting for it.
            self._model.worker.stop()
        if self._intake.is_alive():
            self._intake.join()
        if self.recorder:
            self.recorder.close()

    def _run_intake(self) -> None:
        # Capture processes live as long as the thread that starts them.
        failure: Exception | None = None
        try:
            self._source.start()
            while not self._stopping.is_set() and not self._source.ended:
                self._take()
            if not self._stopping.is_set():
                self._submit(self._windower.finish())
                self._publish_health(self._now_ns())
        except Exception as error:
            failure = error
            if not isinstance(error, DriverError | LogError):  # those are the user's, who is told by `ended`
                log.exception("the intake of samples failed")
        try:
            while self._model and not self._stopping.is_set() and not self._model.worker.drain(timeout_s=0.5):
                pass
            self._source.stop()
        finally:
            if failure is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(failure)

    def _take(self) -> None:
        for sensor, sample in self._source.poll(POLL_S):
            if self.recorder:
                self.recorder.write_sample(sensor, sample)
            # Offline the stamps themselves are the clock.
            self._windower.push(sensor, sample, None if self._lossless else self.clock.now_ns())
            self._health.observe(sensor, sample, self._now_ns())
        now_ns = self._now_ns()
        self._submit(self._windower.advance(now_ns))
        if now_ns >= self._next_health_ns:
            self._next_health_ns = now_ns + HEALTH_PERIOD_NS
            self._publish_health(now_ns)

    def _now_ns(self) -> int:
        """Offline the clock is that of the samples, so that a run does not depend on how fast it goes."""
        return self._windower.newest_ns if self._lossless else self.clock.now_ns()

    def _submit(self, ticks: Sequence[Tick]) -> None:
        for tick in ticks:
            if self._model:
                self._model.worker.submit(tick)
            else:
                self._early_ticks += 1

    def _publish_health(self, now_ns: int) -> None:
        reports = self._source.reports()
        for sensor, report in reports.items():
            if report.state in ("lost", "ended"):
                self._windower.exclude(sensor, report.state)
            else:
                self._windower.include(sensor)
        self._health.report(now_ns, reports, self._windower.drops())
        for state in self._health.changes():
            self.publish(events.health(state, now_ns))

    def publish(self, event: pb.Event) -> None:
        """Hand an event to subscribers and to the log."""
        # What the bus refuses (a value that is not finite) is not logged either.
        if self.bus.publish(event) and self.recorder:
            self.recorder.write_event(event)

    def _on_embedded(self, embedded: Embedded) -> None:
        self._inference_ms.append(embedded.inference_ms)
        assert self._model is not None
        for event in self._model.perception.perceive(embedded):
            self.publish(event)

    def status(self) -> pb.Status:
        """How the run goes."""
        now_ns, early_ticks, model = self._now_ns(), self._early_ticks, self._model
        status = pb.Status(
            run_id=self.bus.run_id,
            version=version("sensebind"),
            started_ns=self.clock.start_ns,
            uptime_s=(self.clock.now_ns() - self.clock.start_ns) / 1e9,
            model=model.name if model else MODEL_LOADING,
            device=model.device if model else "",
            versions=versions(),
            ticks_produced=early_ticks,
            inference_ms=median(self._inference_ms) if self._inference_ms else 0.0,
            hop_s=self.config.hop_ns / 1e9,
        )
        if early_ticks:
            status.ticks_shed[MODEL_LOADING] = early_ticks
        if model:
            accounting = model.worker.accounting()
            status.ticks_produced += accounting.produced
            status.ticks_delivered = accounting.delivered
            status.ticks_in_flight = accounting.in_flight
            for reason, count in accounting.shed.items():
                status.ticks_shed[reason] = count
        for state in self._health.report(now_ns, self._source.reports(), self._windower.drops()).values():
            status.streams.append(events.stream_health(state))
        return status

    def _load(self) -> Loaded:
        # torch takes seconds to import: capture and the server start meanwhile.
        from agent.embedding.embedder import Embedder
        from agent.embedding.weights import load_weights
        from agent.embedding.worker import Worker
        from agent.perception import Perception

        settings = self.config.model
        modalities = {stream.modality for stream in self.streams.values()}
        model, name = load_weights(settings.weights, {*modalities, "text"})
        embedder = Embedder(model, device=settings.device, dtype=settings.dtype, clock=self.clock)
        perception = Perception(embedder, self.config)
        for query in self.config.queries:
            perception.add(query)
        batch = OFFLINE_BATCH if self._lossless else 1
        worker = Worker(
            embedder,
            self._on_embedded,
            max_pending=2 * batch if self._lossless else MAX_PENDING_TICKS,
            lossless=self._lossless,
            batch=batch,
            clock=self.clock,
        )
        return Loaded(name, str(embedder.device), worker, perception)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What exists once the weights are loaded."""

    name: str
    device: str
    worker: Worker
    perception: Perception


def versions() -> dict[str, str]:
    """Which software a run depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("sensebind", "torch", "grpcio")}
