"""A recording through the whole agent in this process: the same events every time, and the alerts without the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.clock import ManualClock, RunClock
from agent.config.parse import Config, parse
from agent.embedding.embedder import Embedder
from agent.events.bus import Subscription
from agent.events.filters import EventFilter
from agent.lab.comparison import Tolerances, differences
from agent.log.editing.cutting import cut
from agent.log.format import ReplayError
from agent.log.replay.control import Command, ReplayOptions
from agent.log.timeline import Timeline
from agent.run import build
from agent.run.run import Run
from protos import perception_pb2 as pb

S = 1_000_000_000
DURATION_S = 7
SENSORS = {
    "camera": {"type": "synthetic_camera", "width": 96, "height": 96},
    "microphone": {"type": "synthetic_microphone"},
    "thermal": {"type": "synthetic_thermal", "width": 96, "height": 96},
}
EAGER = {"threshold_on": 1e-4, "min_duration_s": 0.0, "cooldown_s": 0.0}
"""Whatever a model with random weights says, it is an alert."""


def config(weights: Path, **options: Any) -> Config:
    sensors = {name: {**sensor, "seed": 7, **options} for name, sensor in SENSORS.items()}
    queries = [{"id": "dog", "text": "a dog barking", **EAGER}]
    model = {"weights": str(weights), "device": "cpu"}
    return parse({"model": model, "sensors": sensors, "queries": queries})


class Ran:
    """A run that has ended, and what it said."""

    def __init__(self, pipeline: Run, between: Callable[[Run], None] = lambda _: None) -> None:
        request = pb.SubscribeRequest(vectors=True, heat_maps=True)
        everything = {"max_alerts": 100_000, "max_others": 100_000}
        subscription = pipeline.bus.subscribe(EventFilter(request), lambda: None, **everything)
        try:
            pipeline.load_model()
            pipeline.start()
            between(pipeline)
            pipeline.wait()
            self.status = pipeline.status()
        finally:
            pipeline.stop()
        self.events = taken(subscription)

    def of(self, kind: str) -> list[pb.Event]:
        return [event for event in self.events if event.HasField(kind)]


def taken(subscription: Subscription) -> list[pb.Event]:
    return [pb.Event.FromString(data) for data in iter(subscription.take, None)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, nano_weights: Path) -> Path:
    path = tmp_path_factory.mktemp("log") / "run.mcap"
    Ran(build.offline(config(nano_weights, pace="fast", duration_s=DURATION_S), log_to=path))
    return path


def replaying(logs: Path | list[Path], config: Config | None = None, **how: Any) -> Run:
    """By the recorded configuration, given by the user: its weights are a file, which no log gets opened by itself."""
    first = logs if isinstance(logs, Path) else logs[0]
    return build.replay(logs, config or parse(Timeline([first]).facts.config), **how)


@pytest.fixture(scope="module")
def first(log: Path) -> Ran:
    return Ran(replaying(log))


def test_a_replay_says_the_same_every_time_whatever_its_speed(log: Path, first: Ran) -> None:
    """Numbers of events included: only what IGNORED names may differ."""

    def ask_again_and_again(pipeline: Run) -> None:
        while not pipeline.wait(timeout_s=0.005):
            pipeline.status()

    pace = ManualClock()
    paced = replaying(log, options=ReplayOptions(speed=0.3), pace=pace)
    again = Ran(paced, ask_again_and_again)
    assert pace.now_ns() == pytest.approx(DURATION_S / 0.3 * S, rel=0.05)
    assert {event.WhichOneof("event") for event in first.events} == {"embedding", "audio_source", "alert", "health"}
    assert differences(first.events, again.events) == []
    assert [event.seq for event in again.events] == list(range(1, len(first.events) + 1))
    assert first.events[0].run_id != again.events[0].run_id
    assert again.status.ticks_delivered == again.status.ticks_produced == 2 * DURATION_S
    replay = again.status.replay
    assert (replay.ended, replay.speed, replay.stretch) == (True, pytest.approx(0.3), 1)
    assert replay.behind_s == pytest.approx(0, abs=1e-6)
    assert replay.position_s == replay.duration_s == pytest.approx(DURATION_S, abs=0.2)


def test_a_jump_ends_what_is_on_and_starts_anew(log: Path, first: Ran) -> None:
    target_ns = Timeline([log]).start_ns + 3 * S

    def seek_once(pipeline: Run) -> None:
        assert pipeline.replay is not None
        seen = pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None)
        while len([event for event in taken(seen) if event.HasField("embedding")]) < 1:
            pipeline.wait(timeout_s=0.01)
        pipeline.replay.ask(Command(seek_ns=target_ns)).result(60)

    run = Ran(replaying(log), seek_once)
    times = [event.capture_ns for event in run.of("embedding")]
    jumps = [i for i, (before, after) in enumerate(itertools.pairwise(times)) if after - before != S // 2]
    assert run.status.replay.stretch == 2
    assert len(jumps) <= 1
    at = next(i for i, event in enumerate(run.events) if event.HasField("alert") and event.alert.phase == END)
    before, after = run.events[: at + 1], run.events[at + 1 :]
    begun = [event.alert.alert_id for event in run.of("alert") if event.alert.phase == pb.ALERT_PHASE_BEGIN]
    assert begun == list(range(1, len(begun) + 1)), "numbers are not given twice"
    assert before[-1].alert.alert_id in begun
    assert min(event.capture_ns for event in after if event.HasField("embedding")) > target_ns
    full = {event.capture_ns: event for event in first.of("embedding")}
    far = run.of("embedding")[-4:]  # windows reach back 2 s
    kept = Tolerances(ignored=frozenset({"run_id", "publish_ns", "embedding.inference_ms", "seq"}))
    assert differences([full[event.capture_ns] for event in far], far, kept) == []
    assert [event.seq for event in run.events] == list(range(1, len(run.events) + 1))


END = pb.ALERT_PHASE_END


def test_only_some_sensors(log: Path) -> None:
    run = Ran(replaying(log, sensors=["thermal"]))
    assert {w.sensor for event in run.of("embedding") for w in event.embedding.windows} == {"thermal"}
    assert run.of("audio_source") == []
    with pytest.raises(ReplayError, match=r"has no sensor 'lidar'; its sensors are: camera, microphone, thermal"):
        replaying(log, sensors=["thermal", "lidar"])
    recorded = Timeline([log]).facts.config
    thermal_only = parse({**recorded, "sensors": {"thermal": SENSORS["thermal"]}})
    with pytest.raises(ReplayError, match="the configuration: has no sensor 'camera'; its sensors are: thermal"):
        replaying(log, thermal_only, sensors=["camera"])


def test_alerts_are_replayed_without_the_model(log: Path, first: Ran) -> None:
    pipeline = replaying(log, reuse_embeddings=True)
    towers: set[str] = set()

    def look(pipeline: Run) -> None:
        worker = pipeline.loaded.result().worker
        assert isinstance(worker._model, Embedder)
        towers.update(worker._model._model.modalities)

    run = Ran(pipeline, look)
    assert towers == {"text"}
    assert run.status.ticks_delivered == 2 * DURATION_S
    assert phases(run.events) == phases(first.events)
    near = Tolerances(
        ignored=frozenset({"run_id", "publish_ns", "seq", "embedding.inference_ms", "embedding.settled_ns"}),
        # The log was made of pictures before they were stored, and holds vectors in float16.
        absolute={"embedding.scores.score": 0.01},
        cosine=0.999,
    )
    assert differences(first.of("embedding"), run.of("embedding"), near) == []
    assert run.of("audio_source") == run.of("health") == []


def phases(events: Sequence[pb.Event]) -> list[tuple[int, str, int]]:
    return [(e.capture_ns, e.alert.query_id, e.alert.phase) for e in events if e.HasField("alert")]


def test_recorded_embeddings_can_be_sought_and_paced_too(log: Path) -> None:
    start_ns, pace = Timeline([log]).start_ns, ManualClock()
    options = ReplayOptions(speed=2.0, from_ns=start_ns + 2 * S, to_ns=start_ns + 5 * S)
    run = Ran(replaying(log, sensors=["thermal"], options=options, reuse_embeddings=True, pace=pace))
    times = [event.capture_ns for event in run.of("embedding")]
    assert len(times) == 6
    assert start_ns + 2 * S <= times[0] < times[-1] < start_ns + 5 * S
    assert {w.sensor for event in run.of("embedding") for w in event.embedding.windows} == {"thermal"}
    assert pace.now_ns() == pytest.approx((times[-1] - start_ns - 2 * S) / 2, rel=0.01)


def test_a_tick_that_pieces_tell_of_twice_is_replayed_once(log: Path, first: Ran, tmp_path: Path) -> None:
    start_ns = Timeline([log]).start_ns
    cut([log], tmp_path / "piece.mcap", from_ns=start_ns + 2 * S, to_ns=start_ns + 4 * S)
    run = Ran(replaying([log, tmp_path / "piece.mcap"], reuse_embeddings=True))
    assert (run.status.ticks_delivered, sum(run.status.ticks_shed.values())) == (2 * DURATION_S, 0)
    assert phases(run.events) == phases(first.events)


def test_embeddings_that_cannot_be_reused_are_refused(log: Path, nano_weights: Path, tmp_path: Path) -> None:
    recorded = parse(Timeline([log]).facts.config)
    with pytest.raises(ReplayError, match=r"its ticks are 0\.500 s apart, the config's windows\.hop_s is 0\.250"):
        replaying(log, parse({**recorded.tree, "windows": {"hop_s": 0.25}}), reuse_embeddings=True)
    shipped = parse({**recorded.tree, "model": {"weights": "imagebind_nano", "device": "cpu"}})
    other = replaying(log, shipped, reuse_embeddings=True)
    with pytest.raises(
        ReplayError, match=r"its embeddings are of the model random_nano \w+, the configured one is imag"
    ):
        other.load_model()
    other.stop()
    silent = tmp_path / "silent.mcap"
    clock = RunClock.start()
    pipeline = build.offline(config(nano_weights, pace="fast", duration_s=1), log_to=silent)
    assert clock.start_ns - pipeline.config.hop_ns < pipeline.clock.start_ns  # at a tick
    pipeline.start()  # without a model, ticks are not embedded
    pipeline.wait()
    pipeline.stop()
    with pytest.raises(ReplayError, match="holds no embeddings with vectors; replay it without --reuse-embeddings"):
        replaying(silent, reuse_embeddings=True)
