"""The keys of the agent itself: model, server, windows, sensors, queries, scores and localization."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from made_up import SIZES
from numpy.typing import NDArray

from agent.address import ListenError
from agent.capture.ring import Ring
from agent.commands import verbs
from agent.config.parse import Config, parse
from agent.embedding import embedder as embedding
from agent.embedding.apart import ModelApart
from agent.embedding.budget import Budget
from agent.embedding.embedder import DeviceError, Embedder
from agent.embedding.model import Embedded
from agent.embedding.weights import load_embedder
from agent.log.format import logged_sensors
from agent.perceiving.alerts.book import AlertBook
from agent.perceiving.alerts.scoring import Scores
from agent.perceiving.alerts.table import QueryTable
from agent.perceiving.findings import AudioSource, ScoredTick
from agent.perceiving.perception import Perception
from agent.query import StandingQuery
from agent.run import build
from agent.run.serving import serving
from agent.windows.windower import Tick, Window, Windower
from common.physics import SPEED_OF_SOUND_MPS
from drivers.driver import MODALITIES, Modality, Sample
from drivers.registry import make_driver
from every_key import Row, Rows
from models.files import checkpoint
from models.imagebind import ImageBind
from models.inference import Runner, RunnerError

S = 1_000_000_000
CAMERA: dict[str, Any] = {"type": "synthetic_camera", "width": 64, "height": 48, "rate_hz": 10}
MICROPHONE: dict[str, Any] = {"type": "synthetic_microphone", "rate_hz": 16_000}


def config(sensors: Mapping[str, Any] | None = None, **keys: Any) -> Config:
    return parse({"sensors": sensors or {"camera": CAMERA}, **keys})


# The model: a made-up one of one block, for what is asked of it, not for what it says.


def weights(folder: Path, name: str = "any") -> str:
    path = folder / f"{name}.safetensors"
    torch.manual_seed(1)
    checkpoint.save(ImageBind(SIZES), path, {"trained_on": "nothing"})
    return str(path)


def loaded(folder: Path, **model: Any) -> tuple[Embedder, str]:
    return load_embedder(config(model={"weights": weights(folder), "device": "cpu", **model}).model, ("imu",))


def name_of(name: str, folder: Path) -> str:
    model = {"weights": weights(folder, name), "device": "cpu"}
    return load_embedder(config(model=model).model, ())[1].split()[0]


def device(name: str, folder: Path) -> str:
    try:
        return loaded(folder, device=name)[0].device.type
    except DeviceError:
        return "cpu" if torch.cuda.is_available() else "cuda"


def dtype(name: str, folder: Path) -> str:
    """What the model computes in; float16 is refused without a GPU."""
    try:
        return str(loaded(folder, dtype=name)[0]._runner.dtype)
    except RunnerError:
        return "torch.float16"


def runner(key: str) -> Callable[[bool, Path], bool]:
    """What reaches the Runner, whose own tests are what it does with that."""

    def given(value: bool, folder: Path) -> bool:
        asked: dict[str, Any] = {}

        def note(*args: Any, **options: Any) -> Runner:
            asked.update(options)
            return Runner(*args, **{**options, "compile": False, "cuda_graphs": False})

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedding, "Runner", note)
            loaded(folder, **{key: value})
        return bool(asked[key])

    return given


def leaves_out(leave_out: bool, folder: Path) -> bool:
    """Whether the agent's model is told how much time a tick has."""
    given: list[Budget | None] = []

    class Noted(Embedder):
        def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
            given.append(budget)
            return super().embed(ticks, budget)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.embedding.weights.load_embedder.__defaults__", (Noted,))
        model = {"weights": weights(folder), "device": "cpu", "process": False, "leave_out": leave_out}
        pipeline = build.live(config(model=model))
        try:
            worker = pipeline.load_model().worker
            worker.submit(Tick(0, 0, {}, 0))
            assert worker.drain(60.0)
        finally:
            pipeline.stop()
    return given[0] is not None


def has_a_process(process: bool, folder: Path) -> bool:
    """Whether the model runs in another process than the agent."""
    pipeline = build.live(config(model={"weights": weights(folder), "device": "cpu", "process": process}))
    try:
        model = pipeline.load_model().model
        return isinstance(model, ModelApart) and model.pid != os.getpid()
    finally:
        pipeline.stop()


# The server: what it says of an address where it cannot listen, before anything is started.


def refusal(**server: Any) -> Callable[[Path], str]:
    def of(folder: Path) -> str:
        path = folder / "robot.yaml"
        path.write_text(f"sensors: {{camera: {{type: synthetic_camera}}}}\nserver: {server}\n")
        with pytest.raises(ListenError) as refused:
            verbs.run(config=path)
        return str(refused.value)

    return of


def health_address(listen: str, _: Path) -> str:
    async def start() -> None:
        async with serving(build.live(config(server={"health_listen": listen})), "127.0.0.1:0"):
            raise AssertionError("it listens where this machine has no address")

    with pytest.raises(ListenError) as refused:
        asyncio.run(start())
    return str(refused.value).partition(": ")[0]


# Windows.


def windower(**keys: Any) -> Windower:
    made = config(**keys)
    return Windower(made.streams, made.hop_ns, 0)


def fed(windows: Windower, sensor: str, samples: Sequence[Sample]) -> list[Tick]:
    for sample in samples:
        windows.push(sensor, sample)
    return windows.finish()


def frames(count: int) -> list[Sample]:
    """A picture every 100 ms, which shows its number."""
    return [Sample(number * S // 10, np.full((48, 64, 3), 1 + number, np.uint8)) for number in range(count)]


def rows(seconds: int, rate_hz: int, columns: int) -> list[Sample]:
    noise = np.random.default_rng(1).normal(0, 0.1, (rate_hz, columns)).astype(np.float32)
    return [Sample(second * S, noise, float(rate_hz)) for second in range(seconds)]


def frames_apart(vision_s: float, _: Path) -> int:
    window = fed(windower(windows={"vision_s": vision_s}), "camera", frames(21))[-1].windows["camera"]
    assert window.data is not None
    return int(window.data[1, 0, 0, 0]) - int(window.data[0, 0, 0, 0])


def rows_of(key: str, sensor: dict[str, Any], rate_hz: int, columns: int) -> Callable[[float, Path], int]:
    def of(seconds: float, _: Path) -> int:
        windows = windower(sensors={"sensor": sensor}, windows={key: seconds})
        window = fed(windows, "sensor", rows(12, rate_hz, columns))[-1].windows["sensor"]
        assert window.data is not None
        return len(window.data)

    return of


def waited_ms(max_lateness_s: float, _: Path) -> int:
    """How long a tick waits for a camera of which nothing more comes."""
    windows = windower(sensors={"camera": {**CAMERA, "max_lateness_s": max_lateness_s}})
    for frame in frames(10):
        windows.push("camera", frame)
    assert [tick.t_ns for tick in windows.advance(9 * S // 10)] == [S // 2]
    return next(ms for ms in range(0, 20_000, 10) if windows.advance(S + ms * 1_000_000))


# Sensors.


def modality_of(kind: str, _: Path) -> str:
    spec = config({"sensor": {"type": kind}}).specs[0]
    return make_driver(spec.type, spec.options, cast(Any, None)).modality


def unread(depth: int, _: Path) -> int:
    """How many of ten samples are still there for an agent that comes late."""
    stream = config({"microphone": {**MICROPHONE, "queue_depth": depth}}).streams["microphone"]
    ring = Ring.create(stream.queue_depth, stream.sample_bytes, stream.modality)
    try:
        for number in range(10):
            ring.write(Sample(number, np.zeros((4, 4), np.float32), 16_000.0))
        return sum(1 for _ in iter(ring.read, None))
    finally:
        ring.close()


# Queries and scores: a window shows one thing, whose direction in a small space its name is.

THINGS = ("dog", "cat", "hum", "wind")


def thing(*names: str) -> NDArray[np.float32]:
    vector = np.zeros(16, np.float32)
    for name in names:
        vector[THINGS.index(name)] = 1
    return vector / np.float32(np.linalg.norm(vector))


class Words:
    """Embeds a text as the first thing it names, and any other as a direction that nothing shows."""

    dimensions = 16

    def embed_texts(self, texts: Sequence[str], _: Modality) -> NDArray[np.float32]:
        named = [next((name for name in THINGS if name in text), None) for text in texts]
        nothing = np.eye(16, dtype=np.float32)[15]
        return np.stack([thing(name) if name else nothing for name in named])

    def unknown_words(self, text: str) -> list[str]:
        return [word for word in text.split() if word == "zebra"]

    def logit_scales(self, overrides: Mapping[Modality, float]) -> dict[Modality, float]:
        return {**dict.fromkeys(MODALITIES, 10.0), **overrides}


def perception(made: Config) -> Perception:
    words = Words()
    found = Perception(words, made)
    for query in made.queries:
        found.add(query, words)
    return found


def seen(vector: NDArray[np.float32], patches: NDArray[np.float32] | None = None) -> Embedded:
    window = Window("camera", "vision", np.zeros((2, 48, 64, 3), np.uint8), 10.0, 0, "")
    found = {} if patches is None else {"camera": patches}
    return Embedded(Tick(4, 2 * S, {"camera": window}, 0), {"camera": vector}, found, vector, 1.0, {})


def score(embedded: Embedded, **keys: Any) -> float:
    """How much a picture looks like the one query."""
    keys = {"queries": [{"id": "q", "text": "a dog"}], "background_prompts": ["a hum"], **keys}
    for finding in perception(config(**keys)).perceive(embedded):
        if isinstance(finding, ScoredTick) and finding.scores is not None:
            return round(finding.scores.of("q")["vision"], 2)
    raise AssertionError("nothing was scored")


def dense_score(dense: bool, _: Path) -> float:
    patches = np.tile(thing("hum"), (16, 16, 1))
    patches[4:6, 4:6] = thing("dog")
    return score(seen(thing("hum"), patches), alerts={"dense": dense})


def alerts(series: Sequence[float], modality: Modality = "vision", **query: Any) -> list[tuple[str, str, float]]:
    """What becomes of scores that come every half second, by query: phase and seconds."""
    (standing,) = config(queries=[{"text": "a dog", "cooldown_s": 0, "min_duration_s": 0, **query}]).queries
    book = AlertBook(QueryTable(), hold_s=1.0)
    book.add(StandingQuery(standing))
    told = []
    for number, value in enumerate(series):
        scores = Scores((standing.id,), (modality,), np.array([[value]], np.float32))
        told += [(t.query_id, t.phase, number / 2) for t in book.step(number * S // 2, scores)]
    return told


def phases(series: Sequence[float], key: str) -> Callable[[Any, Path], list[tuple[str, float]]]:
    return lambda value, _: [(phase, at) for _, phase, at in alerts(series, **{key: value})]


# Localization: a broadband sound from 40 degrees to the left, that looks like what a patch of the picture shows.

MICS_M = [[0.0323, 0.0323, 0.0], [0.0323, -0.0323, 0.0], [-0.0323, -0.0323, 0.0], [-0.0323, 0.0323, 0.0]]
AZIMUTH_DEG = 40.0


def sound() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    n = 32_000
    towards = np.array([math.cos(math.radians(AZIMUTH_DEG)), math.sin(math.radians(AZIMUTH_DEG)), 0.0])
    delay_s = -(np.array(MICS_M) @ towards) / SPEED_OF_SOUND_MPS
    f_hz = np.fft.rfftfreq(n, 1 / 16_000)
    spectrum = np.fft.rfft(rng.normal(0, 1, n)) * np.exp(-2j * np.pi * f_hz * delay_s[:, None])
    noise = rng.normal(0, 0.002, (n, 4))
    return (0.1 * np.fft.irfft(spectrum, n).T + noise).astype(np.float32)


def source(
    camera: Mapping[str, Any] | None = None, microphone: Mapping[str, Any] | None = None, **keys: Any
) -> AudioSource:
    """Where the sound is found by two cameras and two arrays, of which a key may choose."""
    square = {**CAMERA, "width": 64, "height": 64, **(camera or {})}
    array = {**MICROPHONE, "mic_positions_m": MICS_M, **(microphone or {})}
    sensors = {"left": square, "right": square, "front": array, "rear": array}
    made = parse({"sensors": sensors, "localization": {"camera": "left", "microphone": "front"}, **keys})
    windows = {
        name: Window(name, "vision", np.zeros((2, 64, 64, 3), np.uint8), 0.0, 1, "") for name in ("left", "right")
    }
    windows |= {name: Window(name, "audio", sound(), 16_000.0, 1, "") for name in ("front", "rear")}
    patches = np.random.default_rng(4).normal(0, 0.02, (16, 16, 16)).astype(np.float32)
    patches[7:9, 2:4] = thing("dog")
    vectors = {"left": thing("hum"), "right": thing("hum"), "front": thing("dog"), "rear": thing("dog")}
    embedded = Embedded(Tick(4, 2 * S, windows, 0), vectors, {"left": patches, "right": patches}, None, 1.0, {})
    (found,) = (f for f in perception(made).perceive(embedded) if isinstance(f, AudioSource))
    return found


def azimuth_deg(positions: list[list[float]], _: Path) -> float:
    direction = source(microphone={"mic_positions_m": positions}).direction
    assert direction is not None
    return direction.azimuth_deg


MIRRORED_M = [[x, -y, z] for x, y, z in MICS_M]
TURNED_M = [[-x, -y, z] for x, y, z in MICS_M]

OFF_AND_ON = [0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]

ROWS: Rows = {
    "model.weights": Row(name_of, ("one", "one"), ("another", "another")),
    "model.device": Row(device, ("cpu", "cpu"), ("cuda", "cuda")),
    "model.dtype": Row(dtype, ("bfloat16", "torch.bfloat16"), ("float16", "torch.float16")),
    "model.compile": Row(runner("compile"), (True, True), (False, False)),
    "model.cuda_graphs": Row(runner("cuda_graphs"), (True, True), (False, False)),
    "model.process": Row(has_a_process, (True, True), (False, False)),
    "model.leave_out": Row(leaves_out, (True, True), (False, False)),
    "server.listen": Row(
        lambda listen, folder: refusal(listen=listen)(folder).partition(": ")[0],
        ("192.0.2.1:50051", "192.0.2.1:50051"),
        ("192.0.2.2:50052", "192.0.2.2:50052"),
    ),
    "server.insecure": Row(
        lambda insecure, folder: "no such address" in refusal(listen="192.0.2.1:50051", insecure=insecure)(folder),
        (True, True),
        (False, False),
    ),
    "server.health_listen": Row(health_address, ("192.0.2.1:1", "192.0.2.1:1"), ("192.0.2.2:2", "192.0.2.2:2")),
    "windows.hop_s": Row(
        lambda hop_s, _: [tick.t_ns / S for tick in fed(windower(windows={"hop_s": hop_s}), "camera", frames(11))],
        (0.25, [0.25, 0.5, 0.75, 1.0]),
        (0.4, [0.4, 0.8]),
    ),
    "windows.vision_s": Row(frames_apart, (0.2, 2), (0.4, 4)),
    "windows.audio_s": Row(rows_of("audio_s", MICROPHONE, 16_000, 4), (1.0, 16_000), (3.0, 48_000)),
    "windows.imu_s": Row(
        rows_of("imu_s", {"type": "synthetic_imu", "rate_hz": 100}, 100, 6), (6.0, 600), (8.0, 800)
    ),
    "sensors.type": Row(modality_of, ("synthetic_depth", "depth"), ("synthetic_imu", "imu")),
    # Half of 60 degrees is less than the sound's 40, half of 100 more.
    "sensors.hfov_deg": Row(
        lambda hfov, _: source({"hfov_deg": hfov}).state.name, (60.0, "NOT_IN_VIEW"), (100.0, "IN_VIEW")
    ),
    "sensors.mic_positions_m": Row(
        azimuth_deg, (MIRRORED_M, pytest.approx(-40, abs=1)), (TURNED_M, pytest.approx(-140, abs=1))
    ),
    "sensors.max_lateness_s": Row(waited_ms, (0.5, 500), (1.5, 1500)),
    "sensors.queue_depth": Row(unread, (3, 3), (6, 6)),
    "sensors.logged": Row(
        lambda logged, _: list(logged_sensors(config({"camera": {**CAMERA, "logged": logged}}).specs)),
        (True, ["camera"]),
        (False, []),
    ),
    "queries.text": Row(
        lambda text, _: score(seen(thing("dog")), queries=[{"id": "q", "text": text}]) > 0.5,
        ("a dog", True),
        ("a cat", False),
    ),
    "queries.id": Row(lambda id, _: alerts([0.9], id=id)[0][0], ("first", "first"), ("second", "second")),
    "queries.modalities": Row(
        lambda modalities, _: [m for m in MODALITIES if alerts([0.9], m, modalities=modalities)],
        (["audio"], ["audio"]),
        (["vision", "imu"], ["vision", "imu"]),
    ),
    "queries.threshold_on": Row(phases([0.1, 0.5], "threshold_on"), (0.4, [("begin", 0.5)]), (0.8, [])),
    "queries.threshold_off": Row(
        phases([0.9, 0.4, 0.4], "threshold_off"), (0.2, [("begin", 0.0)]), (0.5, [("begin", 0.0), ("end", 0.5)])
    ),
    "queries.min_duration_s": Row(
        phases([0.9] * 9, "min_duration_s"), (1.0, [("begin", 1.0)]), (3.0, [("begin", 3.0)])
    ),
    "queries.cooldown_s": Row(
        phases(OFF_AND_ON, "cooldown_s"),
        (3.0, [("begin", 0.5), ("end", 1.5), ("begin", 4.5)]),
        (5.0, [("begin", 0.5), ("end", 1.5), ("begin", 6.5)]),
    ),
    "background_prompts": Row(
        lambda prompts, _: score(seen(thing("dog", "hum")), background_prompts=prompts),
        (["a hum"], 0.5),
        (["a wind", "a cat"], 1.0),
    ),
    "alerts.dense": Row(dense_score, (True, 1.0), (False, 0.0)),
    # exp(s / sqrt 2) against 1: a picture that is half a dog, and the rival that it has nothing of.
    "alerts.logit_scales": Row(
        lambda scales, _: score(seen(thing("dog", "cat")), alerts={"logit_scales": scales}),
        ({"vision": 1.0}, 0.67),
        ({"vision": 3.0}, 0.89),
    ),
    "localization.camera": Row(
        lambda name, _: source(localization={"camera": name, "microphone": "front"}).camera,
        ("left", "left"),
        ("right", "right"),
    ),
    "localization.microphone": Row(
        lambda name, _: source(localization={"camera": "left", "microphone": name}).microphone,
        ("front", "front"),
        ("rear", "rear"),
    ),
}  # fmt: skip
