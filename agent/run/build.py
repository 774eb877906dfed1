"""Makes runs: live, offline, or from a recording. The only place that constructs their parts and connects them."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.capture.live import Capture
from agent.capture.offline import Offline
from agent.capture.source import Source
from agent.clock import RunClock
from agent.config.faults import ConfigError
from agent.config.parse import Config, parse
from agent.embedding.apart import ModelApart, runs_apart
from agent.embedding.model import Model, hash_in
from agent.events.bus import Bus
from agent.faults import Faults
from agent.health.health import Health
from agent.health.motion_lag import motion_lags
from agent.log.format import RunFacts, logged_sensors
from agent.log.replay.control import ALL, ReplayControl, ReplayOptions
from agent.log.replay.samples import SampleReplay, check_sensors, with_sensors
from agent.log.stored_config import stored_config
from agent.log.timeline import Timeline
from agent.perceiving.limits import WeightLimits, read_limits
from agent.policy import LIVE, LOSSLESS, Policy
from agent.query import QueryError
from agent.run.model import LoadedModel
from agent.run.perceiving import Perceiving
from agent.run.recording import Keeping, Tell, live_recording, lossless_recording
from agent.run.run import Parts, Run
from agent.run.sampler import Outlet, Sampler, SampleStretch, Stretch
from agent.run.stage import Stage
from agent.run.status import versions
from agent.streams import SensorSpec, in_any_order
from agent.windows.windower import Windower
from common.descriptors import RESERVE, raise_limit
from drivers.driver import Clock
from models.files import store
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.perceiving.perception import Perception

log = logging.getLogger(__name__)

MAX_PENDING_TICKS = 1
"""Live, beside the one that is being embedded: with more, an overloaded agent would serve stale ticks for ever."""
SWITCH_S = 0.0005
"""Live, how long a thread may keep others from Python's lock: with the default of 5 ms, a tick on its way through four
threads waits for that long several times."""
OFFLINE_BATCH = 8
"""Offline, ticks that share a forward pass. In a replay none do: it may stand still after any tick, and rounding must
not depend on where it began."""


def live(config: Config, log_to: Path | None = None) -> Run:
    """Real devices, real time: one process per sensor, ticks shed when the model falls behind.

    Recorded into `log_to`, or where the configuration says.
    """
    raise_limit()
    RESERVE.keep()
    sys.setswitchinterval(SWITCH_S)
    clock, faults = RunClock.start(), Faults()
    source = Capture(config.specs, clock, faults)
    bus = _bus(clock, faults)

    def keep(tell: Tell) -> Keeping:
        return live_recording(config, _facts(config, clock, bus, clock.offset_ns), log_to, clock, tell)

    return _Builder(config, clock, source, bus, LIVE, faults).run(keep)


def offline(
    config: Config,
    log_to: Path | None = None,
    *,
    clock: RunClock | None = None,
    source: Callable[[Sequence[SensorSpec], Clock, Faults], Source[Any]] = Offline,
) -> Run:
    """Drivers of pace `fast`, read as quickly as the model goes; nothing is shed. `load_model` before `start`.

    The run begins at a tick, so that ticks lie at multiples of the hop of a scene's own time: runs of one configuration
    then perceive the same. `source` makes what reads the drivers, on the clock of the run.
    """
    run_clock, faults = clock or RunClock.start(grid_ns=config.hop_ns), Faults()
    bus = _bus(run_clock, faults)

    def keep(_: Tell) -> Keeping:
        return lossless_recording(_facts(config, run_clock, bus, run_clock.offset_ns), log_to, config.record)

    reading = source(config.specs, run_clock, faults)
    return _Builder(config, run_clock, reading, bus, LOSSLESS, faults, batch=OFFLINE_BATCH).run(keep)


def replay(
    logs: Path | Sequence[Path],
    config: Config | None = None,
    *,
    sensors: Sequence[str] | None = None,
    options: ReplayOptions = ALL,
    reuse_embeddings: bool = False,
    pace: Clock | None = None,
    log_to: Path | None = None,
) -> Run:
    """A recording, by its own configuration or another; as `offline`, on the log's clock. `pace` is the machine's.

    `sensors` leaves out the others. With `reuse_embeddings` alerts follow from the vectors that the log holds. Recorded
    anew into `log_to`. Raises ReplayError and ConfigError.
    """
    timeline, faults = Timeline([logs] if isinstance(logs, Path) else logs), Faults()
    config = config or stored_config(timeline)
    if sensors is not None:
        check_sensors(timeline, sensors, config.sensors)
        config = parse(with_sensors(config.tree, sensors), config.name, devices=False)
    source: Source[Any]
    if reuse_embeddings:
        from agent.log.replay.ticks import TickReplay

        source = ticks = TickReplay(timeline, config.streams, config.hop_ns, options, pace)
        clock, control, recorded = ticks.clock, ticks.control, Recorded(timeline, lambda: ticks.bare)
    else:
        source = samples = SampleReplay(timeline, config.streams, options, pace, faults)
        clock, control, recorded = samples.clock, samples.control, None
    bus = _bus(clock, faults)

    def keep(_: Tell) -> Keeping:
        facts = _facts(config, clock, bus, timeline.facts.offset_ns)
        return lossless_recording(facts, log_to, config.record)

    return _Builder(config, clock, source, bus, LOSSLESS, faults, control=control, recorded=recorded).run(keep)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A log whose vectors stand in for a model's."""

    timeline: Timeline
    bare_ticks: Callable[[], int]
    """Counts the ticks that it has no vectors of."""


@dataclass(frozen=True, slots=True)
class _Builder:
    config: Config
    clock: Clock
    source: Source[Any]
    bus: Bus
    policy: Policy
    faults: Faults
    batch: int = 1
    control: ReplayControl | None = None
    recorded: Recorded | None = None

    def run(self, keep: Callable[[Tell], Keeping]) -> Run:
        return Run(
            Parts(
                self.config,
                self.clock,
                self.source,
                self.bus,
                self.policy,
                self.faults,
                self._sampler,
                self._load,
                keep,
                self.control,
                self.recorded.bare_ticks if self.recorded else lambda: 0,
            )
        )

    def _sampler(self, outlet: Outlet[Any]) -> Sampler[Any]:
        return Sampler(
            self.source,
            self._stretch,
            self.clock.start_ns,
            outlet,
            self.policy,
            lasting=self.control is not None and self.control.lasting,
            faults=self.faults,
        )

    def _stretch(self, start_ns: int) -> Stretch[Any]:
        if self.recorded is not None:
            from agent.log.replay.ticks import TickStretch

            return TickStretch(start_ns)
        streams, hop_ns, clock = self.config.streams, self.config.hop_ns, self.policy.clock_of(self.clock)
        delivered = streams if self.source.in_order else in_any_order(streams)
        windower = Windower(delivered, hop_ns, start_ns, self.faults)
        health = Health(
            streams,
            self.faults,
            live_hop_ns=None if clock is None else hop_ns,
            mic_positions_m=self.config.mic_positions_m,
        )
        return SampleStretch(windower, health, self.source.reports, clock, self.faults, motion_lags(streams))

    def _load(self, publish: Callable[[pb.Event], None]) -> LoadedModel:
        # torch takes seconds to import: capture and the server start meanwhile.
        from agent.embedding.relieved import Relieved
        from agent.embedding.worker import Worker
        from agent.perceiving.perception import Perception

        model, name = self._model()
        try:
            perception = Perception(model, self.config, self.faults, self._limits(name))
            _ask(perception, self.config, model)
        except BaseException:
            model.close()
            raise
        relieved = None
        if not self.policy.in_order:
            streams, leave_out = self.config.streams, self.config.model.leave_out
            relieved = Relieved(model, streams, self.config.hop_ns, self.clock, leave_out=leave_out)
        perceiving = Perceiving(perception, publish, self.clock.now_ns, relieved)
        stage = Stage(perceiving.perceive)
        max_pending = 2 * self.batch if self.policy.in_order else MAX_PENDING_TICKS
        worker = Worker(model, stage.take, self.policy, max_pending=max_pending, batch=self.batch, embeds=relieved)
        return LoadedModel(name, model, str(model.device), model.dimensions, worker, stage, perceiving)

    def _limits(self, name: str) -> WeightLimits:
        """The limits beside the weights of that name and hash."""
        return read_limits(store.find(self.config.model.weights), hash_in(name))

    def _model(self) -> tuple[Model, str]:
        """Load the model; returns it and the name of its weights."""
        settings, seen = self.config.model, {stream.modality for stream in self.config.streams.values()}
        if self.recorded is not None:
            from agent.embedding.weights import load_embedder
            from agent.log.replay.ticks import RecordedEmbedder, check_model

            model, name = load_embedder(settings, (), RecordedEmbedder)
            check_model(self.recorded.timeline, name)
            return model, name
        if runs_apart(settings):
            apart = ModelApart(settings, seen, lossless=self.policy.in_order, faults=self.faults)
            return apart, apart.name
        from agent.embedding.weights import load_embedder

        return load_embedder(settings, seen, faults=self.faults)


def _ask(perception: Perception, config: Config, model: Model) -> None:
    """Have the queries of a configuration watched for. Raises ConfigError for one that the model cannot be asked."""
    for index, query in enumerate(config.queries):
        try:
            standing = perception.add(query, model)
        except QueryError as error:
            raise ConfigError(f"{config.name}: queries[{index}]: {error}") from None
        for warning in standing.warnings:
            log.warning("%s: queries[%d]: %s: %s", config.name, index, query.text, warning)


def _bus(clock: Clock, faults: Faults) -> Bus:
    return Bus(uuid.uuid4().hex[:12], clock.now_ns, faults=faults)


def _facts(config: Config, clock: Clock, bus: Bus, offset_ns: int) -> RunFacts:
    """`offset_ns` is UNIX time less the clock that samples are stamped by."""
    return RunFacts(bus.run_id, clock.start_ns, offset_ns, logged_sensors(config.specs), config.tree, versions())
