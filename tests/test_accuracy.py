"""The benchmark of accuracy measures the agent, not the moment at which it was started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from agent.config.parse import synthetic
from agent.lab.assessment import Assessment, assess, scene_of
from benchmarks.accuracy import offline_config, run
from protos import perception_pb2 as pb

SECONDS = 5.0


def perceived(events: Sequence[pb.Event], start_ns: int) -> list[tuple[int, bytes]]:
    """Times since the start, and what was perceived then, without what only tells of the run itself."""
    found = []
    for event in events:
        if event.HasField("embedding"):
            event.embedding.ClearField("tick")
            event.embedding.ClearField("inference_ms")
            event.embedding.ClearField("settled_ns")
            for window in event.embedding.windows:
                window.newest_ns -= start_ns
            found.append((event.capture_ns - start_ns, event.embedding.SerializeToString()))
        elif event.HasField("audio_source"):
            event.audio_source.ClearField("tick")
            if event.audio_source.HasField("direction"):
                event.audio_source.direction.capture_ns -= start_ns
            found.append((event.capture_ns - start_ns, event.audio_source.SerializeToString()))
        elif event.HasField("alert"):
            event.alert.begin_ns -= start_ns
            found.append((event.capture_ns - start_ns, event.alert.SerializeToString()))
    return found


def test_three_runs_of_one_seed_give_the_same_events_and_the_same_figures() -> None:
    runs: list[list[tuple[int, bytes]]] = []
    figures: list[Assessment] = []
    for _ in range(3):
        pipeline, events = run(offline_config(2, SECONDS, ["dog", "rain"]))
        start_ns = pipeline.clock.start_ns
        figures.append(assess(scene_of(synthetic(2)), start_ns, events, {"dog": "dog", "rain": "rain"}))
        runs.append(perceived(events, start_ns))
    assert next(t_ns for t_ns, _ in runs[0]) == 500_000_000  # the first tick: the scene began at one, too
    assert runs[1] == runs[0]
    assert runs[2] == runs[0]
    assert asdict(figures[1]) == asdict(figures[0]) == asdict(figures[2])
