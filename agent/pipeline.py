"""Wires the agent: the only file that constructs its parts and connects them.

    source -> windower -> worker (embedder -> perception) -> bus -> server
       `----------------------------- recorder <-------------'

Two threads beside asyncio's: intake takes samples and cuts windows, the worker runs the model and what follows from
it. Nothing waits for what comes after it, except offline, where nothing may be lost.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent import events
from agent.alerts import Query
from agent.bus import Bus
from agent.capture import Capture
from agent.clock import RunClock
from agent.config import Config, parse
from agent.health import Health
from agent.interface import Clip, Embeddings, StandingQuery
from agent.log_format import RunFacts, logged_sensors
from agent.offline import Offline
from agent.recorder import Recorder
from agent.replay import Replay, config_of
from agent.server import Server
from agent.source import Source
from agent.streams import Streams
from agent.windows import Tick, Windower
from drivers.driver import Clock
from drivers.remote import Remote
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.embedder import Embedded
    from agent.perception import Perception
    from agent.worker import Worker

log = logging.getLogger(__name__)

POLL_S = 0.02
"""Longest wait for samples: a tick that waits for a late stream is emitted this long after its lateness ran out."""
HEALTH_PERIOD_NS = 500_000_000
MAX_PENDING_TICKS = 4
"""Live, two seconds of ticks at the default hop; older ones are stale."""
OFFLINE_BATCH = 8
"""Offline, ticks that share a forward pass."""
MODEL_LOADING = "model loading"


class Pipeline:
    """One run of the agent, from its source to its bus. Implements `agent.interface.Agent` for the server."""

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
        """`offset_ns` is UNIX time less the monotonic clock, for the log. Raises RecordError for an unusable path."""
        self.config = config
        self.clock = clock
        self.bus = Bus(uuid.uuid4().hex[:12], clock.now_ns)
        self.failure: Exception | None = None
        """What ended the intake, when it was not asked to end."""
        self._source = source
        self._lossless = lossless
        self._windower = Windower(config.streams, config.hop_ns, clock.start_ns)
        self._health = Health(config.streams)
        self._model: _Model | None = None
        self._loading: Future[_Model] = Future()
        self._early_ticks = 0
        self._inference_ms: deque[float] = deque(maxlen=100)
        self._stopping = threading.Event()
        self._newest_ns = clock.start_ns
        self._next_health_ns = 0
        self._intake = threading.Thread(target=self._run_intake, name="intake", daemon=True)
        self.recorder: Recorder | None = None
        if log_to is not None:
            sensors = logged_sensors(config.specs)
            facts = RunFacts(self.bus.run_id, clock.start_ns, offset_ns, sensors, config.tree, versions())
            self.recorder = Recorder(log_to, facts, lossless=lossless)

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

    def start(self) -> None:
        """Begin to take samples. Ticks before the model is loaded are counted and shed."""
        self._intake.start()

    def load_model(self) -> None:
        """Load the weights and embed prompts and queries; takes seconds. Raises CheckpointError or QueryError."""
        self._model = _load_model(self)
        self._loading.set_result(self._model)
        if self.recorder:
            self.recorder.write_model(self._model.name)

    @property
    def runs(self) -> bool:
        """Whether samples are still being taken, or their ticks are still on their way."""
        return self._intake.is_alive()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when every sensor has ended and every tick is out, as they do offline, or after `timeout_s`."""
        self._intake.join(timeout_s)
        if self.failure:
            raise self.failure

    def stop(self) -> None:
        """End everything; what waits for the model is shed. May be called again."""
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
        try:
            self._source.start()
            while not self._stopping.is_set() and not self._source.ended:
                self._take()
            if not self._stopping.is_set():
                self._submit(self._windower.finish())
                self._publish_health(self._now_ns())
        except Exception as error:
            log.exception("the intake of samples failed")
            self.failure = error
        finally:
            if self._model and not self._stopping.is_set():
                self._model.worker.drain(timeout_s=60)
            self._source.stop()

    def _take(self) -> None:
        for sensor, sample in self._source.poll(POLL_S):
            self._newest_ns = max(self._newest_ns, sample.end_ns)
            now_ns = self._now_ns()
            self._health.observe(sensor, sample, now_ns)
            if self.recorder:
                self.recorder.write_sample(sensor, sample)
            # Offline the stamps themselves are the clock.
            self._windower.push(sensor, sample, None if self._lossless else now_ns)
        now_ns = self._now_ns()
        self._submit(self._windower.advance(now_ns))
        if now_ns >= self._next_health_ns:
            self._next_health_ns = now_ns + HEALTH_PERIOD_NS
            self._publish_health(now_ns)

    def _now_ns(self) -> int:
        """Offline the clock is that of the samples, so that a run does not depend on how fast it goes."""
        return self._newest_ns if self._lossless else self.clock.now_ns()

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
            self._publish(events.health(state, now_ns))

    def _on_embedded(self, embedded: Embedded) -> None:
        self._inference_ms.append(embedded.inference_ms)
        assert self._model is not None
        for event in self._model.perception.perceive(embedded):
            self._publish(event)

    def _publish(self, event: pb.Event) -> None:
        # What the bus refuses (a value that is not finite) is not logged either.
        if self.bus.publish(event) and self.recorder:
            self.recorder.write_event(event)

    # What the server asks, on the asyncio thread.

    @property
    def streams(self) -> Streams:
        """The streams table."""
        return self.config.streams

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """Sensors that other processes fill."""
        if not isinstance(self._source, Capture):
            return {}
        found = {name: self._source.remote(name) for name in self.config.sensors}
        return {name: remote for name, remote in found.items() if remote is not None}

    def now_ns(self) -> int:
        """The run's clock."""
        return self.clock.now_ns()

    async def add_query(self, query: Query) -> StandingQuery:
        """Watch for a query from the next tick on. Raises QueryError."""
        model = await self._loaded()
        return await asyncio.wrap_future(model.worker.call(lambda: model.perception.add(query)))

    async def remove_query(self, query_id: str) -> None:
        """Watch for it no more. Raises KeyError."""
        model = await self._loaded()
        for event in await asyncio.wrap_future(model.worker.call(lambda: model.perception.remove(query_id))):
            self._publish(event)

    def list_queries(self) -> Sequence[StandingQuery]:
        """All queries, oldest first."""
        return self._model.perception.queries() if self._model else [StandingQuery(q) for q in self.config.queries]

    async def embed(
        self, texts: Sequence[str], images: Sequence[NDArray[np.uint8]], audio: Sequence[Clip]
    ) -> Embeddings:
        """Embed what is sent, after live ticks."""
        model = await self._loaded()
        vectors = await asyncio.wrap_future(model.worker.call(lambda: model.perception.embed(texts, images, audio)))
        return Embeddings(*vectors, model.name)

    def status(self) -> pb.Status:
        """How the run goes."""
        now_ns = self._now_ns()
        status = pb.Status(
            run_id=self.bus.run_id,
            version=version("sensebind"),
            started_ns=self.clock.start_ns,
            uptime_s=(self.clock.now_ns() - self.clock.start_ns) / 1e9,
            model=self._model.name if self._model else MODEL_LOADING,
            device=self._model.device if self._model else "",
            versions=versions(),
            ticks_produced=self._early_ticks,
            inference_ms=median(self._inference_ms) if self._inference_ms else 0.0,
            hop_s=self.config.hop_ns / 1e9,
        )
        if self._early_ticks:
            status.ticks_shed[MODEL_LOADING] = self._early_ticks
        if self._model:
            accounting = self._model.worker.accounting()
            status.ticks_produced += accounting.produced
            status.ticks_delivered = accounting.delivered
            status.ticks_in_flight = accounting.in_flight
            for reason, count in accounting.shed.items():
                status.ticks_shed[reason] = count
        for state in self._health.report(now_ns, self._source.reports(), self._windower.drops()).values():
            status.streams.append(events.stream_health(state))
        return status

    async def _loaded(self) -> _Model:
        return await asyncio.shield(asyncio.wrap_future(self._loading))


def versions() -> dict[str, str]:
    """Which software a run depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("sensebind", "torch", "grpcio")}


@dataclass(frozen=True, slots=True)
class _Model:
    """What exists once the weights are loaded."""

    name: str
    device: str
    worker: Worker
    perception: Perception


def _load_model(pipeline: Pipeline) -> _Model:
    # torch takes seconds to import: capture and the server start meanwhile.
    from agent.embedder import Embedder
    from agent.perception import Perception
    from agent.weights import load_weights
    from agent.worker import Worker

    settings = pipeline.config.model
    modalities = {stream.modality for stream in pipeline.streams.values()}
    model, name = load_weights(settings.weights, {*modalities, "text"})
    embedder = Embedder(model, device=settings.device, dtype=settings.dtype, clock=pipeline.clock)
    perception = Perception(embedder, pipeline.config)
    for query in pipeline.config.queries:
        perception.add(query)
    batch = OFFLINE_BATCH if pipeline._lossless else 1
    worker = Worker(
        embedder,
        pipeline._on_embedded,
        max_pending=2 * batch if pipeline._lossless else MAX_PENDING_TICKS,
        lossless=pipeline._lossless,
        batch=batch,
        clock=pipeline.clock,
    )
    return _Model(name, str(embedder.device), worker, perception)


@dataclass(frozen=True, slots=True)
class Serving:
    """A pipeline that is being served."""

    address: str
    loaded: asyncio.Task[None]
    """Done when the model is; raises what kept it from being loaded."""


@asynccontextmanager
async def serving(pipeline: Pipeline, address: str, *, insecure: bool = False) -> AsyncIterator[Serving]:
    """Run a pipeline and serve it; listens at once, while the model is still being loaded. Raises ListenError."""
    server = Server(pipeline)
    listening = await server.start(address, insecure=insecure)
    pipeline.start()
    loaded = asyncio.create_task(_load_and_serve(pipeline, server))
    try:
        yield Serving(listening, loaded)
    finally:
        loaded.cancel()
        await asyncio.gather(loaded, return_exceptions=True)
        await server.stop()
        await asyncio.to_thread(pipeline.stop)


async def _load_and_serve(pipeline: Pipeline, server: Server) -> None:
    await asyncio.to_thread(pipeline.load_model)
    await server.set_serving(True)
