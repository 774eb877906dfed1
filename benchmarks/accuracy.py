"""How right are alerts, directions and heat maps on scenes that training never saw?

    python -m benchmarks.accuracy [--seeds 10] [--seconds 60] [--queries 3]

Runs the whole pipeline, offline, on seeds 0, 1 ... of the synthetic world (training uses 10000 and up), and holds its
events against the truth. Each scene is asked for three of the things it holds, by their sounds, and for three it lacks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from agent.commands.demo import scene_of
from agent.config.parse import Config, synthetic
from agent.events.filters import EventFilter
from agent.lab.assessment import Result, assess
from agent.query import Query
from agent.run import build
from agent.run.run import Run
from protos import perception_pb2 as pb
from world.kinds import KINDS, SOUNDING
from world.scene import Scene


def main() -> None:
    """Print a row per scene and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--weights", default=None)
    arguments = parser.parse_args()
    total, ticks, began = Result(), 0, time.monotonic()
    false_alarms, hours = 0, 0.0
    print("seed  seen F1  heard F1  direction  peaks  queries")
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        scene = scene_of(synthetic(seed))
        kinds, absent = choose_kinds(scene, arguments.queries, seed)
        pipeline, events = run(offline_config(seed, arguments.seconds, [*kinds, *absent], arguments.weights))
        start_ns = pipeline.clock.start_ns
        result = assess(scene, start_ns, events, {kind: kind for kind in kinds})
        total.add(result)
        false_alarms += sum(e.alert.phase == pb.ALERT_PHASE_BEGIN and e.alert.query_id in absent for e in events)
        hours += len(absent) * arguments.seconds / 3600
        ticks += sum(e.HasField("embedding") for e in events)
        print(row(f"{seed:4}", result), ", ".join(kinds), flush=True)
    print(row(" all", total))
    errors = total.direction_errors_deg
    for sense, counts in total.alerts.items():
        print(
            f"{sense:5}  {counts.found} episodes found, {counts.missed} missed, {counts.false} false alerts:"
            f" F1 {counts.f1:.3f}; over ticks {counts.f1_ticks:.3f}"
        )
    print(f"reported as seen while only heard: {total.seen_but_only_heard} of {total.heard_out_of_view} such ticks")
    within, median = total.directions_right, statistics.median(errors)
    print(f"direction: {within:.1%} of {len(errors)} within 10 degrees, median {median:.1f}")
    print(f"heat map: peak inside the box in {total.peaks_right:.1%} of {total.peaks_total}")
    print(f"queries for what the scene lacks: {false_alarms} alarms in {hours:.1f} query hours")
    print(
        f"{ticks} ticks in {time.monotonic() - began:.0f} s, {ticks * 0.5 / (time.monotonic() - began):.1f} x real time"
    )


def offline_config(seed: int, seconds: float, kinds: Sequence[str], weights: str | None = None) -> Config:
    """The shipped synthetic configuration, as fast as possible and finite, with a query for each kind's sound."""
    config = synthetic(seed, pace="fast", duration_s=seconds)
    queries = tuple(Query(kind, str(KINDS[kind].sound)) for kind in kinds)
    model = config.model if weights is None else config.model.model_copy(update={"weights": weights})
    return replace(config, queries=queries, model=model)


def choose_kinds(scene: Scene, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Some of the sounding things that a scene holds, and as many that it lacks; others for every seed."""
    held = {thing.kind.name for thing in scene.things}
    there = [kind for kind in SOUNDING if kind in held]
    absent = [kind for kind in SOUNDING if kind not in held]
    return [there[(seed + i) % len(there)] for i in range(min(count, len(there)))], absent[:count]


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


def row(name: str, result: Result) -> str:
    """One line of the table."""
    seen, heard = result.alerts["seen"], result.alerts["heard"]
    return f"{name}  {seen.f1:7.2f}  {heard.f1:8.2f}  {result.directions_right:9.0%}  {result.peaks_right:5.0%} "


if __name__ == "__main__":
    main()
