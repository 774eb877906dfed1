"""How right are alerts, directions and heat maps on scenes that nobody tuned on?

    python -m benchmarks.accuracy [--seeds 10] [--first 30000] [--seconds 60] [--rides 10] [--ride-s 600]

Runs the whole pipeline, offline, on scenes of the synthetic world, and holds its events against the truth. Every scene
is asked for all ten sounding kinds: those that it holds, and those that it lacks. A fall is rare, so "the robot is
falling" is asked of rides of the IMU alone, of the seeds that follow. Seeds from 30000 on are used for nothing else:
training has 10000 to 19999, calibration 20000 to 29999, validation 5000 to 5999, tests and the demo those below 1000.
Intervals of 95 % are from a bootstrap over scenes, since the ticks of one are alike; that of a rate of alarms is
Poisson's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from agent.config.parse import Config, parse, synthetic
from agent.events.filters import EventFilter
from agent.lab.assessment import Assessment, assess, scene_of
from agent.lab.reliability import LEAST_SCORE, Reliability
from agent.query import Query
from agent.run import build
from agent.run.run import Run
from drivers.forms import FORMS
from protos import perception_pb2 as pb
from world.kinds import KINDS, SOUNDING
from world.motion import MotionName
from world.scene import Scene, SceneOptions

FALLING: MotionName = "falling"
FALLING_TEXT = "the robot is falling"
RESAMPLED = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one scene or ride."""

    assessment: Assessment
    reliability: Reliability
    false_alarms: int = 0
    """Alerts for kinds that the scene lacks."""
    absent_hours: float = 0.0
    """Hours times queries for such kinds."""


def main() -> None:
    """Print a row per scene, and the sums with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rides", type=int, default=10)
    parser.add_argument("--ride-s", type=float, default=600.0)
    parser.add_argument("--weights", default=None)
    arguments = parser.parse_args()
    began = time.monotonic()
    print("seed   seen F1  heard F1  direction  peaks  there")
    scenes = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        scenes.append(measured := measure_scene(seed, arguments.seconds, arguments.weights))
        print(row(f"{seed:5}", measured.assessment), ", ".join(held(scene_of(synthetic(seed)))), flush=True)
    after = arguments.first + arguments.seeds
    rides = [measure_ride(s, arguments.ride_s, arguments.weights) for s in range(after, after + arguments.rides)]
    if scenes:
        print_scenes(scenes)
    if rides:
        print_alerts("felt", rides, f'"{FALLING_TEXT}", {len(rides)} rides of {arguments.ride_s:g} s: ')
    print_reliability([*scenes, *rides])
    print(f"{time.monotonic() - began:.0f} s")


def measure_scene(seed: int, seconds: float, weights: str | None = None) -> Measured:
    """Run a scene with all its sensors, asked for every sounding kind."""
    scene = scene_of(synthetic(seed))
    there = held(scene)
    absent = {kind for kind in SOUNDING if kind not in there}
    pipeline, events = run(offline_config(seed, seconds, SOUNDING, weights))
    start_ns = pipeline.clock.start_ns
    reliability = Reliability()
    reliability.observe(scene, start_ns, events, {kind: kind for kind in SOUNDING})
    false_alarms = sum(e.alert.phase == pb.ALERT_PHASE_BEGIN and e.alert.query_id in absent for e in events)
    assessment = assess(scene, start_ns, events, {kind: kind for kind in there})
    return Measured(assessment, reliability, false_alarms, len(absent) * seconds / 3600)


def measure_ride(seed: int, seconds: float, weights: str | None = None) -> Measured:
    """Run a scene with its IMU alone, asked whether the robot falls."""
    sensor = {"type": "synthetic_imu", "seed": seed, "pace": "fast", "duration_s": seconds}
    config = parse({"sensors": {"imu": sensor}})
    pipeline, events = run(asking(config, {FALLING: FALLING_TEXT}, weights))
    scene, kinds = Scene(SceneOptions(seed)), {FALLING: str(FALLING)}
    reliability = Reliability()
    reliability.observe(scene, pipeline.clock.start_ns, events, kinds)
    return Measured(assess(scene, pipeline.clock.start_ns, events, kinds), reliability)


def offline_config(seed: int, seconds: float, kinds: Sequence[str], weights: str | None = None) -> Config:
    """The shipped synthetic configuration, as fast as possible and finite, with a query for each kind's sound."""
    config = synthetic(seed, pace="fast", duration_s=seconds)
    return asking(config, {kind: str(KINDS[kind].sound) for kind in kinds}, weights)


def asking(config: Config, texts: dict[str, str], weights: str | None) -> Config:
    """A configuration with other queries, by id, and perhaps other weights."""
    queries = tuple(Query(query_id, text) for query_id, text in texts.items())
    model = config.model if weights is None else config.model.model_copy(update={"weights": weights})
    return replace(config, queries=queries, model=model)


def held(scene: Scene) -> list[str]:
    """The sounding kinds that a scene holds."""
    there = {thing.kind.name for thing in scene.things}
    return [kind for kind in SOUNDING if kind in there]


def run(config: Config) -> tuple[Run, list[pb.Event]]:
    """Run a finite configuration to its end; all events. Raises RuntimeError when a tick is not accounted for."""
    pipeline = build.offline(config)
    everything = pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None, max_others=100_000)
    pipeline.load_model()
    pipeline.start()
    pipeline.wait()
    status = pipeline.status()
    pipeline.stop()
    if status.ticks_produced != status.ticks_delivered or not status.ticks_delivered:
        raise RuntimeError(f"{status.ticks_produced} ticks were produced and {status.ticks_delivered} delivered")
    return pipeline, [pb.Event.FromString(data) for data in iter(everything.take, None)]


def print_scenes(scenes: Sequence[Measured]) -> None:
    """Print the sums over scenes."""
    result = summed(scenes)
    print(row("  all", result))
    for sense in ("heard", "seen"):
        print_alerts(sense, scenes)
    print(f"reported as seen while only heard: {result.seen_but_only_heard} of {result.heard_out_of_view} such ticks")
    alarms, hours = sum(s.false_alarms for s in scenes), sum(s.absent_hours for s in scenes)
    low, high = poisson_interval(alarms)
    print(
        f"queries for what the scene lacks: {alarms} alarms in {hours:.2f} query hours,"
        f" {alarms / hours:.1f} an hour [{low / hours:.1f}, {high / hours:.1f}]"
    )
    within = interval(scenes, lambda some: summed(some).directions_right)
    median = statistics.median(result.direction_errors_deg)
    print(
        f"direction: {result.directions_right:.1%} {within} of {len(result.direction_errors_deg)} within 10 degrees,"
        f" median {median:.1f}"
    )
    peaks = interval(scenes, lambda some: summed(some).peaks_right)
    print(f"heat map: peak inside the box in {result.peaks_right:.1%} {peaks} of {result.peaks_total}")


def print_alerts(sense: str, scenes: Sequence[Measured], of: str = "") -> None:
    """Print the episodes of a sense."""
    counts = summed(scenes).alerts[sense]  # type: ignore[index]  # one of the senses
    f1 = interval(scenes, lambda some: summed(some).alerts[sense].f1)  # type: ignore[index]
    print(
        f"{sense:5}  {of}{counts.found} episodes found, {counts.missed} missed, {counts.false} false alerts:"
        f" F1 {counts.f1:.3f} {f1}; over ticks {counts.f1_ticks:.3f}"
    )


def print_reliability(scenes: Sequence[Measured]) -> None:
    """Print how far scores are from being probabilities, by modality."""
    total = reliable(scenes)
    for modality, form in FORMS.items():
        if count := total.counts[modality]:
            bounds = interval([s for s in scenes if s.reliability.counts[modality]], _error_of(modality))
            error = total.error(modality)
            print(f"calibration error, {form.sense:7} {error:.3f} {bounds} over {count} scores from {LEAST_SCORE}")


def _error_of(modality: str) -> Callable[[Sequence[Measured]], float]:
    return lambda some: reliable(some).error(modality)  # type: ignore[arg-type]  # one of FORMS


def summed(scenes: Sequence[Measured]) -> Assessment:
    """The sum of several scenes."""
    total = Assessment()
    for scene in scenes:
        total.add(scene.assessment)
    return total


def reliable(scenes: Sequence[Measured]) -> Reliability:
    """The scores of several scenes."""
    total = Reliability()
    for scene in scenes:
        total.add(scene.reliability)
    return total


def interval(scenes: Sequence[Measured], figure: Callable[[Sequence[Measured]], float]) -> str:
    """The middle 95 % of a figure over scenes that are drawn anew, with replacement."""
    rng = np.random.default_rng(0)
    drawn = [figure([scenes[i] for i in rng.integers(len(scenes), size=len(scenes))]) for _ in range(RESAMPLED)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of the mean of a Poisson count (Garwood 1936)."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(0.975, 2 * count + 2) / 2)


def row(name: str, result: Assessment) -> str:
    """One line of the table."""
    seen, heard = result.alerts["seen"], result.alerts["heard"]
    return f"{name}  {seen.f1:7.2f}  {heard.f1:8.2f}  {result.directions_right:9.0%}  {result.peaks_right:5.0%} "


if __name__ == "__main__":
    main()
