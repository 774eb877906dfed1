"""Wires the agent: the only file that constructs its parts and connects them.

    source -> intake (windows) -> worker (embedder -> perception) -> bus -> (agent.serving)
       `----------------------------- recorder <-------------'

Two threads beside asyncio's: intake takes samples and cuts windows, the worker runs the model and what follows from
it. Nothing waits for what comes after it, except offline, where nothing may be lost.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from agent.capture.live import Capture
from agent.capture.offline import Offline
from agent.capture.source import Source
from agent.clock import RunClock
from agent.config.parse import Config, parse
from agent.embedding.condition import Condition, Load, Progress
from agent.embedding.watch import Watch
from agent.embedding.worker import Worker
from agent.events import messages as events
from agent.events.bus import Bus
from agent.faults import Faults
from agent.health.health import Health, StreamState
from agent.log.format import RunFacts, logged_sensors
from agent.log.recording.alert_clips import AlertClips
from agent.log.recording.recorder import Recorder, RecorderReport
from agent.log.replay.control import ALL, ReplayControl, ReplayOptions
from agent.log.replay.samples import SampleReplay, check_sensors, with_sensors
from agent.log.stored_config import stored_config
from agent.log.timeline import Timeline
from agent.run.loaded import Loaded
from agent.run.recording import live_recording
from agent.run.sampler import Sampler, SampleStretch, Stretch
from agent.streams import Streams
from agent.windows.windower import Tick, Windower
from common.descriptors import RESERVE, raise_limit
from common.versions import version_of
from drivers.driver import Clock, Sample
from drivers.remote import Remote
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.embedding.embedder import Embedded
    from agent.embedding.relieved import Relieved
    from agent.query import StandingQuery

log = logging.getLogger(__name__)

MAX_PENDING_TICKS = 1
"""Live, beside the one that is being embedded: with more, an overloaded agent would serve stale ticks for ever."""
OFFLINE_BATCH = 8
"""Offline, ticks that share a forward pass. In a replay none do: it may stand still after any tick, and rounding must
not depend on where it began."""
MODEL_LOADING = "model loading"
HALT_S = 1.8
"""Longest wait for the model, and for sensors, at the end."""
CLOSE_S = 30.0
"""Longest wait for the disk at the end of a run that is not served."""


class Pipeline:
    """One run of the agent, from its source to its bus."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        source: Source[Any],
        *,
        lossless: bool = False,
        log_to: Path | None = None,
        offset_ns: int = 0,
        replay: ReplayControl | None = None,
        recorded: Timeline | None = None,
        faults: Faults | None = None,
    ) -> None:
        """`offset_ns` is UNIX time less the monotonic clock, for the log. `replay` is that of a replay.

        With `recorded` the source gives ticks with the vectors of that log. `faults` is where the source counts its.
        """
        self.config = config
        self.clock = clock
        self.lossless = lossless
        """Whether nothing is shed; then the model must be loaded before `start`."""
        self.replay = replay
        self.faults = faults or Faults()
        """Of the agent's own, each of which cost one sample, window, query or subscriber: by sensor, or other name."""
        self.bus = Bus(uuid.uuid4().hex[:12], clock.now_ns, faults=self.faults)
        self.recorder: Recorder | None = None
        self._alert_clips: AlertClips | None = None
        self.loaded: Future[Loaded] = Future()
        self._source = source
        self._recorded = recorded
        self._log_to, self._offset_ns = log_to, offset_ns
        self._model: Loaded | None = None
        self._early_ticks = 0
        self._inference_ms: deque[float] = deque(maxlen=100)
        self._age_s = 0.0
        self._relieved: Relieved | None = None
        self._watch = Watch(self._look, self._tell_condition)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        """Held while a model that has just been loaded is put to use, or kept from it by `stop`."""
        self._over = False
        """Whether nothing is told any more."""
        self._telling = threading.Lock()
        """Held while an event is handed to subscribers and to the log, so that the end comes between events."""
        self._sampler = Sampler[Any](
            source,
            self._begin_stretch,
            clock.start_ns,
            self,
            lossless=lossless,
            lasting=replay is not None and replay.lasting,
            on_item=self._record,
            on_ticks=replay.ticked if replay else lambda _: None,
            on_end=replay.through if replay else lambda: None,
            faults=self.faults,
        )

    @classmethod
    def live(cls, config: Config, log_to: Path | None = None) -> Pipeline:
        """Real devices, real time: one process per sensor, ticks shed when the model falls behind.

        Recorded into `log_to`, or where the configuration says.
        """
        raise_limit()
        RESERVE.keep()
        clock, faults = RunClock.start(), Faults()
        source = Capture(config.specs, clock, faults)
        return cls(config, clock, source, log_to=log_to, offset_ns=clock.offset_ns, faults=faults)

    @classmethod
    def offline(cls, config: Config, log_to: Path | None = None) -> Pipeline:
        """Drivers of pace `fast`, read as quickly as the model goes; nothing is shed. `load_model` before `start`."""
        clock, faults = RunClock.start(), Faults()
        source = Offline(config.specs, clock, faults)
        return cls(config, clock, source, lossless=True, log_to=log_to, offset_ns=clock.offset_ns, faults=faults)

    @classmethod
    def replaying(
        cls,
        logs: Path | Sequence[Path],
        config: Config | None = None,
        *,
        sensors: Sequence[str] | None = None,
        options: ReplayOptions = ALL,
        reuse_embeddings: bool = False,
        pace: Clock | None = None,
    ) -> Pipeline:
        """A recording, by its own configuration or another; as `offline`, on the log's clock. `pace` is the machine's.

        `sensors` leaves out the others. With `reuse_embeddings` alerts follow from the vectors that the log holds.
        Raises ReplayError and ConfigError.
        """
        timeline = Timeline([logs] if isinstance(logs, Path) else logs)
        config = config or stored_config(timeline)
        if sensors is not None:
            check_sensors(timeline, sensors, config.sensors)
            config = parse(with_sensors(config.tree, sensors), config.name, devices=False)
        if not reuse_embeddings:
            faults = Faults()
            replay = SampleReplay(timeline, config.streams, options, pace, faults)
            return cls(config, replay.clock, replay, lossless=True, replay=replay.control, faults=faults)
        from agent.log.replay.ticks import TickReplay

        ticks = TickReplay(timeline, config.streams, config.hop_ns, options, pace)
        return cls(config, ticks.clock, ticks, lossless=True, replay=ticks.control, recorded=timeline)

    @property
    def streams(self) -> Streams:
        """The streams table."""
        return self.config.streams

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """Sensors that other processes fill."""
        return self._source.remotes

    @property
    def ended(self) -> Future[None]:
        """Done when samples are no longer taken; holds what ended that, when it was a fault."""
        return self._sampler.ended

    def start(self) -> None:
        """Begin to take samples. Ticks before the model is loaded are counted and shed. Raises RecordError."""
        self._begin_recording()
        if self.recorder and self._model:
            self.recorder.write_model(self._model.name)
        with self._lock:
            if not self._stopping.is_set():
                self._sampler.start()
                self._watch.start()

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
        # Beside each other: processes may take their time to close devices, and offline the intake waits for the model.
        intake = threading.Thread(target=self._sampler.stop, name="sampler-stop", daemon=True)
        intake.start()
        self._watch.stop()
        if self._model:
            self._model.worker.stop(HALT_S)
        intake.join(HALT_S)
        self._sampler.join(HALT_S)
        # What a model that hung says later is too late for the log, and therefore for subscribers as well.
        waited = self._telling.acquire(timeout=HALT_S)
        self._over = True
        if waited:
            self._telling.release()

    def close_log(self, timeout_s: float) -> None:
        """Write what the recording holds and close it, in time, after `halt`. May be called again."""
        if self.recorder:
            self.recorder.close(timeout_s)

    def _begin_recording(self) -> None:
        sensors = logged_sensors(self.config.specs)
        start_ns, tree = self.clock.start_ns, self.config.tree
        facts = RunFacts(self.bus.run_id, start_ns, self._offset_ns, sensors, tree, versions())
        if not self.lossless:
            self.recorder, self._alert_clips = live_recording(
                self.config, facts, self._log_to, self.clock, self._tell_recording
            )
        elif self._log_to is not None:
            # It says the same every time, and so nothing of how the disk does.
            self.recorder = Recorder(self._log_to, facts, self.config.record, lossless=True)

    def _tell_recording(self, report: RecorderReport) -> None:
        event = events.recording(report, self.clock.now_ns())
        if self._over:
            self.bus.publish(event)  # the log is being closed, and holds nothing about its own end
        else:
            self.publish(event)

    def _record(self, item: tuple[str, Sample]) -> None:
        if self.recorder:
            with self.faults.guard(item[0]):
                self.recorder.write_sample(*item)

    def _begin_stretch(self, start_ns: int) -> Stretch[Any]:
        if self._recorded is not None:
            from agent.log.replay.ticks import TickStretch

            return TickStretch(start_ns)
        windower = Windower(self.streams, self.config.hop_ns, start_ns, self.faults)
        # Offline the stamps themselves are the clock, so that a run does not depend on how fast it goes.
        health = Health(self.streams, self.faults, live_hop_ns=None if self.lossless else self.config.hop_ns)
        clock = None if self.lossless else self.clock
        return SampleStretch(windower, health, self._source.reports, clock, self.faults)

    # What the intake hands on (agent.run.sampler.Outlet).

    def submit(self, tick: Tick) -> None:
        """Have a tick embedded; lossless, wait until there is room for it."""
        if self._model:
            self._model.worker.submit(tick)
        else:
            self._early_ticks += 1

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
            self._model.start_anew(self.publish)

    def publish(self, event: pb.Event) -> None:
        """Hand an event to subscribers and to the log."""
        with self._telling:
            if not self._over:
                self._publish(event)

    def _publish(self, event: pb.Event) -> None:
        # What the bus refuses (a value that is not finite) is not logged either.
        if self.bus.publish(event) and self.recorder:
            self.recorder.write_event(event)
            if self._alert_clips and self._model and event.HasField("alert"):
                self._alert_clips.on_event(event, self._model.perception.asks_for_clips)

    def _on_embedded(self, embedded: Embedded) -> None:
        self._inference_ms.append(embedded.inference_ms)
        assert self._model is not None
        for event in map(events.found, self._model.perception.perceive(embedded)):
            self.publish(event)
            if event.HasField("embedding"):
                self._age_s = (event.publish_ns - event.capture_ns) / 1e9
        if self._relieved:
            self._relieved.done(embedded)

    def tell_query(self, change: Literal["added", "removed"], standing: StandingQuery, reason: str = "") -> None:
        """Publish that a query stands from now on, or no longer."""
        query = standing.query
        log.info("query %s %r is %s%s", query.id, query.text, change, f": {reason}" if reason else "")
        self.publish(events.query_change(change, query, self.clock.now_ns(), standing.warnings))

    @property
    def condition(self) -> Condition:
        """How the model keeps up."""
        return self._watch.condition

    def _look(self) -> tuple[Progress, Load] | None:
        model = self._model
        if model is None:
            return None
        if self._relieved is None:
            return model.worker.progress(), Load(tuple(self._inference_ms))
        relief = self._relieved.relief
        load = Load(tuple(self._inference_ms), self._age_s, relief.overloaded, relief.step.reduced)
        return model.worker.progress(), load

    def _tell_condition(self, now: Condition) -> None:
        assert self._model is not None
        level = logging.INFO if now.state == "ok" else logging.WARNING if now.works else logging.ERROR
        log.log(level, "the model is %s%s", now.state, f": {now.reason}" if now.reason else "")
        if self.lossless:
            return  # what is told there follows from the log alone
        self._model.worker.refuse_jobs(f"the model {now.reason}; try again later" if now.state == "hung" else "")
        self.publish(events.model(now, self.clock.now_ns()))

    def status(self) -> pb.Status:
        """How the run goes."""
        early_ticks, model = self._early_ticks, self._model
        shed, produced, delivered, in_flight = {}, early_ticks, 0, 0
        if early_ticks:
            shed[MODEL_LOADING] = early_ticks
        if model:
            accounting = model.worker.accounting()
            produced += accounting.produced
            delivered, in_flight = accounting.delivered, accounting.in_flight
            shed.update(accounting.shed)
        return events.status(
            events.RunStatus(
                run_id=self.bus.run_id,
                version=version_of("sensebind"),
                started_ns=self.clock.start_ns,
                uptime_s=(self.clock.now_ns() - self.clock.start_ns) / 1e9,
                model=model.name if model else MODEL_LOADING,
                device=model.device if model else "",
                versions=versions(),
                hop_s=self.config.hop_ns / 1e9,
                inference_ms=median(self._inference_ms) if self._inference_ms else 0.0,
                ticks_produced=produced,
                ticks_delivered=delivered,
                ticks_in_flight=in_flight,
                ticks_shed=shed,
                streams=tuple(self._sampler.stretch.states().values()),
                condition=self.condition,
                recording=self.recorder.report() if self.recorder else None,
                replay=self.replay.state() if self.replay else None,
                faults=self.faults.counts(),
            )
        )

    def _load(self) -> Loaded:
        # Threads that spin while they wait for each other take the cores from the drivers, and stand still for seconds
        # whenever another process has one. OpenMP reads this when torch loads it.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # torch takes seconds to import: capture and the server start meanwhile.
        from agent.embedding.relieved import Relieved
        from agent.embedding.weights import load_embedder
        from agent.perceiving.perception import Perception

        if self._recorded is None:
            seen = {stream.modality for stream in self.streams.values()}
            embedder, name = load_embedder(self.config.model, seen, faults=self.faults)
        else:
            from agent.log.replay.ticks import RecordedEmbedder, check_model

            embedder, name = load_embedder(self.config.model, (), RecordedEmbedder)
            check_model(self._recorded, name)

        perception = Perception(embedder, self.config, self.faults)
        for query in self.config.queries:
            perception.add(query)
        batch = OFFLINE_BATCH if self.lossless and self.replay is None else 1
        if not self.lossless:
            self._relieved = Relieved(
                embedder, self.streams, self.config.hop_ns, self.clock, leave_out=self.config.model.leave_out
            )
        worker = Worker(
            self._relieved or embedder,
            self._on_embedded,
            max_pending=2 * batch if self.lossless else MAX_PENDING_TICKS,
            lossless=self.lossless,
            batch=batch,
        )
        return Loaded(name, str(embedder.device), worker, perception)


def versions() -> dict[str, str]:
    """Which software a run depends on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in ("sensebind", "torch", "grpcio")}
