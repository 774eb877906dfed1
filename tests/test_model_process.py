"""The model in a process of its own gives what it gives in the agent's, and may end at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_agent import DEADLINE_S, RunningAgent, Subscriber
from test_embedder import full_tick, tick, window

import agent.embedding.condition
from agent.client import ClientError
from agent.clock import RunClock
from agent.config.parse import Config, parse
from agent.config.settings import ModelSettings
from agent.embedding import process
from agent.embedding.apart import ModelApart, runs_apart
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.keeper import StartError
from agent.embedding.model import Embedded
from agent.embedding.pipe import MOST_BYTES, Closed, Pipe, TooLarge
from agent.embedding.reduction import LEFT_OUT
from agent.embedding.requests import Texts
from agent.embedding.weights import load_embedder
from agent.embedding.wire import Embed, Sent, pack_request, raised, unpack_answer
from agent.embedding.worker import MODEL_GONE, ModelGone
from agent.faults import Faults
from agent.run import build
from agent.run.run import Run
from agent.windows.window import Tick
from drivers.driver import MODALITIES
from models.files.description import CheckpointError
from protos import perception_pb2 as pb

SHIPPED = ModelSettings(device="cpu", process=True)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def inside() -> Embedder:
    return load_embedder(SHIPPED, MODALITIES)[0]


@pytest.fixture(scope="module")
def apart() -> Iterator[ModelApart]:
    with closing(ModelApart(SHIPPED, MODALITIES)) as model:
        yield model


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def model_processes_of(pid: int) -> list[int]:
    """Those of an agent that run a model."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread, or a process, that has just ended
            children = (task / "children").read_text().split()
            found += [int(c) for c in children if b"agent.embedding.process" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return found


def model_process_of(pid: int) -> int | None:
    """The one of an agent, while there is one."""
    return next(iter(model_processes_of(pid)), None)


def assert_same(found: Sequence[Embedded], expected: Sequence[Embedded]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.missing == other.missing
        for ours, theirs in ((one.vectors, other.vectors), (one.patches, other.patches)):
            assert ours.keys() == theirs.keys()
            for sensor in ours:
                np.testing.assert_array_equal(ours[sensor], theirs[sensor])
        assert (one.fused is None) == (other.fused is None)
        if one.fused is not None:
            np.testing.assert_array_equal(one.fused, other.fused)


def test_ticks_get_the_same_vectors_patches_and_reasons(inside: Embedder, apart: ModelApart) -> None:
    rng = np.random.default_rng(5)
    bare = tick(3, window(rng, "imu"))
    unusable = tick(4, window(rng, "audio"))
    unusable.windows["audio"].data[:] = 1e9  # type: ignore[index]  # a window that preprocessing refuses
    for ticks in ([full_tick(1), full_tick(2)], [bare], [unusable], [tick(5)]):
        found = apart.embed(ticks)
        assert_same(found, inside.embed(ticks))
        assert [one.tick for one in found] == ticks
        assert all(not vector.flags.writeable for one in found for vector in one.vectors.values())


def test_a_budget_holds_there_as_well(apart: ModelApart) -> None:
    (embedded,) = apart.embed([full_tick(7)], Budget(age_s=1.0, most_age_s=0.5, overdue=frozenset({"vision"})))
    assert embedded.vectors.keys() == {"vision"}
    assert embedded.declined == set(MODALITIES) - {"vision"}
    assert set(embedded.missing.values()) == {LEFT_OUT}


def test_requests_get_the_same_answers(inside: Embedder, apart: ModelApart) -> None:
    rng = np.random.default_rng(6)
    picture = rng.integers(0, 256, (40, 60, 3), np.uint8)
    sound = (rng.normal(0, 0.1, (16_000, 2)).astype(np.float32)[::2], 8_000.0)  # not contiguous
    np.testing.assert_array_equal(
        apart.embed_texts(["a red ball", "zebra"]), inside.embed_texts(["a red ball", "zebra"])
    )
    np.testing.assert_array_equal(apart.embed_images([picture]), inside.embed_images([picture]))
    np.testing.assert_array_equal(apart.embed_audio([sound]), inside.embed_audio([sound]))
    assert apart.read("a red zzyzx") == inside.read("a red zzyzx")
    assert apart.logit_scales({"imu": 3.0}) == inside.logit_scales({"imu": 3.0})
    assert (apart.dimensions, apart.device) == (inside.dimensions, str(inside.device))


def test_what_cannot_be_used_is_refused_in_the_same_words(inside: Embedder, apart: ModelApart) -> None:
    nothing = np.zeros((0, 0, 3), np.uint8)
    with pytest.raises(ValueError, match="frames") as here:
        inside.embed_images([nothing])
    with pytest.raises(ValueError, match="frames") as there:
        apart.embed_images([nothing])
    assert str(there.value) == str(here.value)


def test_what_is_too_large_to_be_sent_is_refused_and_costs_no_process(apart: ModelApart) -> None:
    pid = apart.pid
    huge = np.broadcast_to(np.zeros(1, np.uint8), (MOST_BYTES // 3 // 1000 + 1, 1000, 3))
    with pytest.raises(TooLarge, match="more than the"):
        apart.embed_images([np.ascontiguousarray(huge)])
    assert apart.embed_texts(["a dog"]).shape == (1, apart.dimensions)
    assert apart.pid == pid


def test_weights_that_cannot_be_loaded_are_refused_in_the_same_words(tmp_path: Path) -> None:
    weights = tmp_path / "damaged.safetensors"
    weights.write_bytes(b"\x20" * 100)
    settings = ModelSettings(weights=str(weights), device="cpu")
    with pytest.raises(CheckpointError) as here:
        load_embedder(settings, MODALITIES)
    with pytest.raises(CheckpointError) as there:
        ModelApart(settings, MODALITIES)
    assert str(there.value) == str(here.value)


def test_a_first_process_that_ends_before_it_has_a_model_is_one_line() -> None:
    refused: list[Exception] = []

    def load() -> None:
        try:
            ModelApart(SHIPPED, {"imu"})
        except StartError as error:
            refused.append(error)

    before = set(model_processes_of(os.getpid()))
    loading = threading.Thread(target=load)
    loading.start()
    until(lambda: set(model_processes_of(os.getpid())) - before)
    (pid,) = set(model_processes_of(os.getpid())) - before
    os.kill(pid, signal.SIGKILL)
    loading.join(DEADLINE_S)
    assert [str(error) for error in refused] == [
        "the model's process was ended by SIGKILL while it loaded the weights; see whether memory is short"
    ]


def test_a_process_that_was_killed_is_told_and_replaced() -> None:
    with closing(ModelApart(SHIPPED, {"imu"})) as model:
        first, killed = model.pid, full_tick(1)
        assert first is not None
        expected = model.embed([killed])
        os.kill(first, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
        with pytest.raises(ModelGone, match="which was ended by SIGKILL; it is started again"):
            model.embed([killed])
        assert "SIGKILL" in model.gone
        until(lambda: not model.gone)
        assert model.pid != first
        assert_same(model.embed([killed]), expected)


def test_a_process_that_does_not_come_back_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(ModelApart(SHIPPED, {"imu"})) as model:
        model.embed([full_tick(1)])
        first = model.pid
        assert first is not None
        monkeypatch.setattr(agent.embedding.condition, "HUNG_S", 0.4)
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(ModelGone, match=r"has not come back for .* its process is killed and started again"):
            model.embed([full_tick(2)])
        until(lambda: not alive(first))
        monkeypatch.undo()
        until(lambda: not model.gone)
        assert model.embed([full_tick(2)])[0].vectors


def test_nothing_is_lost_where_nothing_may_be() -> None:
    with closing(ModelApart(SHIPPED, MODALITIES, lossless=True)) as model:
        first = model.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
        (embedded,) = model.embed([full_tick(1)])
        assert embedded.vectors.keys() == set(MODALITIES)
        assert model.pid != first


def test_an_end_while_a_process_hangs_is_an_end() -> None:
    model = ModelApart(SHIPPED, {"imu"})
    pid = model.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    refused: list[Exception] = []

    def ask() -> None:
        try:
            model.embed_texts(["a dog"])
        except ModelGone as error:
            refused.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    model.close()
    asking.join(DEADLINE_S)
    assert len(refused) == 1
    until(lambda: not alive(pid))
    model.close()


class Failing(Embedder):
    """Fails as CUDA does: from then on, every call."""

    def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:  # noqa: ARG002
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_cuda_error_ends_the_process_for_another_to_take_over(inside: Embedder) -> None:
    ours, fds = Pipe.pair()
    theirs = Pipe(*(os.dup(fd) for fd in fds))
    os.close(fds[0])
    clock = RunClock.start()
    serving = threading.Thread(
        target=process.serve, args=[Failing(inside._model), theirs, clock, Faults()], daemon=True
    )
    serving.start()
    with closing(ours):
        ours.send(pack_request(Sent(Texts(["a dog"]), clock.now_ns())))
        assert unpack_answer(ours.receive(DEADLINE_S)).trouble == ""
        ours.send(pack_request(Sent(Embed([full_tick(1)], None), clock.now_ns())))
        answer = unpack_answer(ours.receive(DEADLINE_S))
        serving.join(DEADLINE_S)
        assert not serving.is_alive()
    assert (answer.trouble, answer.message) == ("fatal", "CUDA error: an illegal memory access was encountered")
    theirs.close()


def test_an_error_of_the_model_is_that_error_with_its_trace() -> None:
    try:
        raise KeyError("no such\nthing")
    except KeyError as error:
        answer = process.refusal(error)
    again = raised(answer)
    assert isinstance(again, RuntimeError)
    assert str(again) == "'no such\\nthing'"
    assert "test_model_process.py" in str(again.__cause__)


def test_a_channel_takes_any_bytes_and_tells_that_the_other_end_has_gone() -> None:
    ours, fds = Pipe.pair()
    theirs = Pipe(*(os.dup(fd) for fd in fds))
    os.close(fds[0])
    large = os.urandom(1 << 20)
    for parts in ([b"x"], [b"", large, b""], [large] * 3):
        ours.send(parts)
        assert [part.tobytes() for part in theirs.receive(DEADLINE_S)] == parts
    with pytest.raises(TimeoutError):
        theirs.receive(0.01)
    ours.close()
    with pytest.raises(Closed):
        theirs.receive(DEADLINE_S)
    with pytest.raises(Closed):
        theirs.send([b"x"])
    theirs.close()


@pytest.mark.parametrize(
    ("device", "given", "has_gpu", "expected"),
    [
        ("auto", None, False, False),
        ("auto", None, True, True),
        ("cuda", None, False, True),
        ("cpu", None, True, False),
        ("cpu", True, False, True),
        ("cuda", False, True, False),
    ],
)
def test_it_has_a_process_where_it_runs_on_a_gpu(
    device: Any, given: bool | None, has_gpu: bool, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "gpu"
    if has_gpu:
        driver.touch()
    monkeypatch.setattr("agent.embedding.apart.GPU_FILES", (str(driver),))
    assert runs_apart(ModelSettings(device=device, process=given)) == expected


def told_of_all(run: Run) -> list[pb.Event]:
    """What a whole run publishes, in order."""
    told: list[pb.Event] = []
    run.bus.listen(told.append)
    try:
        run.load_model()
        run.start()
        assert run.wait(DEADLINE_S)
    finally:
        run.stop()
    return [event for event in told if event.HasField("embedding")]


def test_recording_and_replay_give_the_same_vectors(tmp_path: Path) -> None:
    scene = {"pace": "fast", "duration_s": 3.0, "seed": 4}
    sensors = {
        "eye": {"type": "synthetic_camera", "width": 64, "height": 48, **scene},
        "ear": {"type": "synthetic_microphone", **scene},
    }

    def config(*, apart: bool) -> Config:
        return parse({"sensors": sensors, "model": {"device": "cpu", "process": apart}})

    log = tmp_path / "run.mcap"
    recorded = told_of_all(build.offline(config(apart=True), log_to=log))
    inside, apart = (told_of_all(build.replay(log, config(apart=where))) for where in (False, True))
    assert len(recorded) == len(inside) == len(apart) > 2
    for one, other in zip(inside, apart, strict=True):
        assert one.embedding.fused == other.embedding.fused
        assert [(w.sensor, w.present, w.vector) for w in one.embedding.windows] == [
            (w.sensor, w.present, w.vector) for w in other.embedding.windows
        ]


ROBOT: dict[str, Any] = {
    "model": {"device": "cpu", "process": True},
    "windows": {"hop_s": 0.2},
    "sensors": {
        "imu": {"type": "synthetic_imu"},
        "eye": {"type": "synthetic_camera", "width": 64, "height": 64},
    },
    "queries": [{"id": "dog", "text": "a dog"}],
}


def assert_accounted(agent_: RunningAgent) -> pb.Status:
    status = agent_.status()
    assert status.ticks_produced == status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
    return status


def test_a_live_agent_whose_model_is_killed_sheds_tells_and_goes_on(tmp_path: Path) -> None:
    def is_embedding(event: pb.Event) -> bool:
        return any(w.present for w in event.embedding.windows)

    def says(state: pb.ModelState.State.ValueType) -> Callable[[pb.Event], bool]:
        return lambda event: event.HasField("model") and event.model.state == state

    with (
        RunningAgent(ROBOT, tmp_path) as agent_,
        Subscriber(agent_.address) as subscriber,
        grpc.insecure_channel(agent_.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def serves(status: int) -> Callable[[], bool]:
            return lambda: health.Check(health_pb2.HealthCheckRequest()).status == status

        subscriber.wait("an embedding", is_embedding)
        until(serves(SERVING))
        first = model_process_of(agent_.process.pid)
        assert first is not None
        mark = subscriber.mark()
        os.kill(first, signal.SIGKILL)
        until(lambda: model_process_of(agent_.process.pid) not in (None, first))
        second = model_process_of(agent_.process.pid)
        assert second is not None
        os.kill(second, signal.SIGSTOP)  # it loads no model until it may
        gone = subscriber.wait("the model's end", says(pb.ModelState.STATE_FAILING), mark)
        assert "lost its process, which was ended by SIGKILL" in gone.model.reason
        until(serves(NOT_SERVING))
        with pytest.raises(ClientError, match="lost its process") as refused:
            agent_.ask(lambda client: client.embed(texts=["a dog"]))
        assert refused.value.code == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ClientError, match="lost its process") as refused:
            agent_.ask(lambda client: client.add_query("a dog"))
        assert refused.value.code == grpc.StatusCode.UNAVAILABLE
        until(lambda: assert_accounted(agent_).ticks_shed[MODEL_GONE] > 2)
        mark = subscriber.mark()
        os.kill(second, signal.SIGCONT)
        subscriber.wait("the model is back", says(pb.ModelState.STATE_OK), mark)
        subscriber.wait("the stream goes on", is_embedding, mark)
        until(serves(SERVING))
        assert_accounted(agent_)
        assert agent_.ask(lambda client: client.add_query("a dog")).text == "a dog"
        sequence = [event.seq for event in subscriber.events]
        assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))
        assert agent_.end(signal.SIGTERM) == 0
        until(lambda: not alive(second))


def test_the_process_ends_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    with RunningAgent(ROBOT, tmp_path) as agent_:
        pid = model_process_of(agent_.process.pid)
        assert pid is not None
        agent_.end(signal.SIGKILL)
        until(lambda: not alive(pid))


def test_the_agent_itself_does_without_torch(nano_weights: Path) -> None:
    script = """
import json, sys
from agent.config.parse import Config, parse
from agent.run import build
from agent.run.run import Run
config = parse(json.loads(sys.argv[1]))
run = build.live(config)
try:
    run.load_model()
finally:
    run.stop()
print("torch" in sys.modules)
"""
    robot = {**ROBOT, "model": {**ROBOT["model"], "weights": str(nano_weights)}}
    ran = subprocess.run(
        [sys.executable, "-c", script, json.dumps(robot)], capture_output=True, timeout=DEADLINE_S, check=True
    )
    assert ran.stdout == b"False\n"
