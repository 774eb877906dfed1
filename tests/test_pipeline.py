"""The whole agent in this process: synthetic drivers in, events out of the bus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from agent.capture.offline import Offline
from agent.client.client import vector_of
from agent.clock import RunClock
from agent.config.parse import Config, parse
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.events.bus import Subscription
from agent.events.filters import EventFilter
from agent.lab.comparison import differences
from agent.log.recording.recorder import Recorder
from agent.run import build
from agent.run.run import Run
from agent.vectors import heat_map_of
from agent.windows.window import Tick
from drivers.driver import Sample
from drivers.synthetic import SyntheticDepth
from protos import perception_pb2 as pb

SENSORS = {"camera", "microphone", "depth", "thermal", "imu"}
S = 1_000_000_000
DURATION_S = 6
START_NS = 1_700_000_000_200_000_000
DEADLINE_S = 90.0


def config(weights: Path, microphone_hz: int = 16_000, **options: Any) -> Config:
    """Five synthetic sensors of one scene, and one query."""
    picture = {"width": 96, "height": 96, **options}
    sensors: dict[str, Any] = {
        "camera": {"type": "synthetic_camera", "hfov_deg": 60, **picture},
        "microphone": {
            "type": "synthetic_microphone",
            "mic_positions_m": SQUARE_M,
            "rate_hz": microphone_hz,
            **options,
        },
        "depth": {"type": "synthetic_depth", **picture},
        "thermal": {"type": "synthetic_thermal", **picture},
        "imu": {"type": "synthetic_imu", **options},
    }
    for sensor in sensors.values():
        sensor["seed"] = 7
    model = {"weights": str(weights), "device": "cpu"}
    return parse({"model": model, "sensors": sensors, "queries": [{"id": "dog", "text": "a dog barking"}]})


SQUARE_M = [[0.0323, 0.0323, 0], [0.0323, -0.0323, 0], [-0.0323, 0.0323, 0], [-0.0323, -0.0323, 0]]


def offline(weights: Path) -> Config:
    return config(weights, pace="fast", duration_s=DURATION_S)


def subscribe(pipeline: Run) -> Subscription:
    request = pb.SubscribeRequest(vectors=True, heat_maps=True)
    return pipeline.bus.subscribe(EventFilter(request), lambda: None, max_others=10_000)


def taken(subscription: Subscription) -> list[pb.Event]:
    events = []
    while (data := subscription.take()) is not None:
        events.append(pb.Event.FromString(data))
    return events


class HastyThermal(Offline):
    """Stamps one thermal picture, that of 2 s after the start, an hour ahead."""

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]]:
        samples = super().poll(timeout_s)
        hasty = ("thermal", START_NS + 2 * S)
        return [(n, replace(s, t_ns=s.t_ns + 3600 * S) if (n, s.t_ns) == hasty else s) for n, s in samples]


def run(config: Config, clock: RunClock, source: type[Offline] = Offline) -> tuple[list[pb.Event], list[pb.Status]]:
    """The events of an offline run, and its status again and again, the last one after its end."""
    pipeline = build.offline(config, clock=clock, source=source)
    subscription, statuses = subscribe(pipeline), []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            statuses.append(pipeline.status())

    watcher = threading.Thread(target=watch)
    try:
        pipeline.load_model()
        pipeline.start()
        watcher.start()
        pipeline.wait()
    finally:
        ended.set()
        watcher.join()
        pipeline.stop()
    return taken(subscription), [*statuses, pipeline.status()]


def fixed_clock() -> RunClock:
    """A clock of the present whose run began at a time that is the same in every run."""
    return RunClock(time.time_ns() - time.monotonic_ns(), START_NS)


def embeddings(events: Sequence[pb.Event]) -> list[pb.Event]:
    return [event for event in events if event.HasField("embedding")]


def missing(event: pb.Event) -> dict[str, str]:
    return {window.sensor: window.missing_reason for window in event.embedding.windows if not window.present}


def assert_finite(events: Sequence[pb.Event]) -> None:
    for event in embeddings(events):
        vectors = [vector_of(window.vector) for window in event.embedding.windows if window.present]
        if event.embedding.HasField("fused"):
            vectors.append(vector_of(event.embedding.fused))
        for vector in vectors:
            assert np.isfinite(vector).all()
            assert np.linalg.norm(vector) == pytest.approx(1.0, abs=2e-3)  # float16
        assert np.isfinite([score.score for score in event.embedding.scores]).all()
    for event in events:
        if event.HasField("audio_source") and event.audio_source.HasField("heat_map"):
            assert np.isfinite(heat_map_of(event.audio_source.heat_map)).all()


def assert_accounted(status: pb.Status) -> None:
    assert status.ticks_produced == status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight


@pytest.fixture(scope="module")
def recorded(nano_weights: Path) -> tuple[list[pb.Event], list[pb.Status]]:
    return run(offline(nano_weights), fixed_clock())


def test_every_tick_is_accounted_for_at_every_moment_and_none_is_shed(
    recorded: tuple[list[pb.Event], list[pb.Status]],
) -> None:
    events, statuses = recorded
    for status in statuses:
        assert_accounted(status)
        assert not status.ticks_shed
    assert len(statuses) > 2
    assert statuses[-1].ticks_in_flight == 0
    assert statuses[-1].ticks_delivered == len(embeddings(events)) == 2 * DURATION_S


def test_ticks_lie_on_multiples_of_the_hop_and_events_are_numbered_without_holes(
    recorded: tuple[list[pb.Event], list[pb.Status]],
) -> None:
    events, statuses = recorded
    hop_ns = round(statuses[-1].hop_s * 1e9)
    first = START_NS // hop_ns + 1
    ticks = embeddings(events)
    assert [event.embedding.tick for event in ticks] == list(range(first, first + len(ticks)))
    assert all(event.capture_ns == event.embedding.tick * hop_ns for event in ticks)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {event.run_id for event in events} == {statuses[-1].run_id}


def test_windows_are_present_once_they_are_long_enough_and_vectors_are_unit(
    recorded: tuple[list[pb.Event], list[pb.Status]],
) -> None:
    events, _ = recorded
    assert_finite(events)
    ticks = embeddings(events)
    # Seconds of scene before each tick: the run begins 0.3 s before the first.
    assert [missing(event).get("imu", "") for event in ticks[:9]] == ["too short"] * 9
    assert [missing(event).get("microphone", "") for event in ticks[:3]] == ["too short"] * 3
    assert missing(ticks[4]) == {"imu": "too short"}
    assert missing(ticks[-1]) == {}
    ended = [event.health for event in events if event.HasField("health")]
    assert {health.sensor for health in ended if health.state == pb.StreamHealth.STATE_ENDED} == SENSORS


def test_the_same_config_gives_the_same_events(
    recorded: tuple[list[pb.Event], list[pb.Status]], nano_weights: Path
) -> None:
    """Bit for bit and in one order, but for what belongs to a run."""
    first, _ = recorded
    again, _ = run(offline(nano_weights), fixed_clock())
    assert {event.WhichOneof("event") for event in first} >= {"embedding", "audio_source", "health"}
    assert differences(first, again) == []


def test_bad_samples_cost_their_window_only(nano_weights: Path) -> None:
    good = offline(nano_weights)
    microphone = good.sensors["microphone"]
    nan = replace(microphone, spec=replace(microphone.spec, type="odd_drivers:NanMicrophone"))
    odd = replace(good, sensors={**good.sensors, "microphone": nan})
    events, statuses = run(odd, fixed_clock(), HastyThermal)
    assert_finite(events)
    ticks = embeddings(events)
    assert missing(ticks[4]) == {"imu": "too short"}
    assert missing(ticks[-1]) == {"microphone": "invalid: not finite"}
    assert len(ticks) == 2 * DURATION_S
    drops = {stream.sensor: dict(stream.drops) for stream in statuses[-1].streams}
    assert drops["thermal"] == {"far future": 1}
    assert_accounted(statuses[-1])


def test_vectors_that_are_not_finite_are_missing_with_the_reason(nano_weights: Path, tmp_path: Path) -> None:
    tensors = load_file(nano_weights)
    for name, tensor in tensors.items():
        if name.startswith("encoders.thermal.head"):
            tensors[name] = torch.full_like(tensor, 3e38, dtype=torch.float32)  # finite, but no product of two is
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, metadata_of(nano_weights))
    events, statuses = run(offline(broken), fixed_clock())
    assert_finite(events)
    assert {missing(event)["thermal"] for event in embeddings(events)} == {"not finite"}
    assert all(event.embedding.HasField("fused") for event in embeddings(events))
    assert statuses[-1].ticks_delivered == len(embeddings(events))


def metadata_of(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata())


class Gate:
    """An embedder that can be made to wait, in place of a model that is too slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        embed = Embedder.embed

        def wait_and_embed(embedder: Embedder, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
            assert self.open.wait(DEADLINE_S)
            return embed(embedder, ticks, budget)

        monkeypatch.setattr(Embedder, "embed", wait_and_embed)


def eventually(what: str, met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:g} s"
        time.sleep(0.05)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def test_live_all_modalities_arrive_late_ticks_are_shed_and_nothing_is_left(nano_weights: Path, gate: Gate) -> None:
    shared, threads = set(Path("/dev/shm").iterdir()), set(threading.enumerate())
    others = children()  # what tests before this one have left running for the whole process
    whole = config(nano_weights, microphone_hz=8_000)
    whole.model.leave_out = False
    pipeline = build.live(whole)
    subscription, events = subscribe(pipeline), list[pb.Event]()

    def status() -> pb.Status:
        events.extend(taken(subscription))
        status = pipeline.status()
        assert_accounted(status)
        return status

    try:
        pipeline.start()
        pipeline.load_model()
        eventually("all modalities", lambda: status() is not None and any(not missing(e) for e in embeddings(events)))
        assert len(children() - others) == len(SENSORS)

        gate.open.clear()
        before = status().ticks_shed["behind"]
        eventually("ticks shed", lambda: status().ticks_shed["behind"] >= before + 3)
        gate.open.set()
        # Only with a tick that comes after them do those that were shed show as a hole between those delivered.
        eventually("a tick after those that were shed", lambda: status() is not None and holes(embeddings(events)) >= 3)
    finally:
        pipeline.stop()
    final = status()
    assert_finite(events)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ticks = [event.embedding.tick for event in embeddings(events)]
    assert ticks == sorted(set(ticks))
    assert len(ticks) == final.ticks_delivered
    # The oldest were shed: they are the holes between those delivered, but for some that the end may have cut off.
    assert 3 <= holes(embeddings(events)) <= final.ticks_shed["behind"]
    assert {"model loading", "behind", "stopped"} >= set(final.ticks_shed)
    eventually("no processes", lambda: not children() - others)
    assert set(Path("/dev/shm").iterdir()) <= shared
    eventually("no threads", lambda: set(threading.enumerate()) <= threads)


def holes(told: Sequence[pb.Event]) -> int:
    """Ticks that are missing between the first and the last that were told."""
    ticks = [event.embedding.tick for event in told]
    return ticks[-1] - ticks[0] + 1 - len(ticks) if ticks else 0


def children() -> set[str]:
    """Process ids of this process's children, dead ones that nobody waited for included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= set((task / "children").read_text().split())
    return found


def test_faults_are_told_in_the_status_and_by_the_stream_that_has_them() -> None:
    pipeline = build.offline(parse({"sensors": {"camera": {"type": "synthetic_camera", "duration_s": 1.0}}}))
    for place in ("camera", "subscriber 7", "camera"):
        pipeline.faults.count(place, ValueError("odd"))
    assert dict(pipeline.status().faults) == {"camera": 2, "subscriber 7": 1}
    pipeline.stop()


def test_what_capture_and_subscribers_cost_is_counted_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Sample:
        raise ValueError("no such lens")

    def wake() -> None:
        raise ValueError("no such loop")

    monkeypatch.setattr(SyntheticDepth, "read", fail)
    sensors = {name: {"type": f"synthetic_{name}", "pace": "fast", "duration_s": 1.0} for name in ("camera", "depth")}
    pipeline = build.offline(parse({"sensors": sensors}))
    pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), wake)
    pipeline.start()
    assert pipeline.wait(DEADLINE_S)
    pipeline.stop()
    status = pipeline.status()
    firsts = {stream.sensor: stream.first_fault for stream in status.streams}
    assert firsts == {"camera": "", "depth": "ValueError: no such lens"}
    assert set(status.faults) == {"depth", "subscribers"}
    assert status.faults["depth"] == next(stream.faults for stream in status.streams if stream.sensor == "depth")


def test_a_recorder_that_fails_for_one_sensor_costs_its_samples_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensors = {name: {"type": f"synthetic_{name}", "pace": "fast", "duration_s": 2.0} for name in ("camera", "depth")}
    pipeline = build.offline(parse({"sensors": sensors}), tmp_path / "run.mcap")
    write = Recorder.write_sample

    def write_or_fail(recorder: Recorder, sensor: str, sample: Sample) -> None:
        if sensor == "depth":
            raise ValueError("no such pixels")
        write(recorder, sensor, sample)

    monkeypatch.setattr(Recorder, "write_sample", write_or_fail)
    pipeline.start()
    assert pipeline.wait(DEADLINE_S)
    pipeline.stop()
    status = pipeline.status()
    faults = {stream.sensor: stream.faults for stream in status.streams}
    assert faults["camera"] == 0
    assert faults["depth"] > 10
    assert dict(status.faults) == {"depth": faults["depth"]}
    assert {stream.first_fault for stream in status.streams} == {"", "ValueError: no such pixels"}
