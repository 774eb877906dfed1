"""Windows in, unit vectors out: batches change nothing, and one bad window costs no other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agent.clock import ManualClock
from agent.embedding.budget import Budget
from agent.embedding.cache import Reuse
from agent.embedding.embedder import Embedder, resolve_device
from agent.embedding.model import NotFinite, fuse
from agent.embedding.reduction import LEFT_OUT
from agent.faults import Faults
from agent.windows.window import Tick, Window
from drivers.driver import MODALITIES, Modality
from models import preprocess
from models.imagebind import LOGIT_SCALES, ImageBind, Sizes
from models.preprocess import PreprocessError
from models.tokenizer import tokenize
from models.transformer import TowerSizes
from models.vocabulary import Reading, Vocabulary

TOWER = TowerSizes(32, 1, 2)
SIZES = Sizes(16, TOWER, TOWER, TOWER, TOWER, TOWER, TOWER)


@pytest.fixture(scope="module")
def model() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(SIZES)


@pytest.fixture
def embedder(model: ImageBind) -> Embedder:
    return Embedder(model, clock=ManualClock())


def window(rng: np.random.Generator, modality: Modality, sensor: str = "") -> Window:
    data: NDArray[Any]
    rate_hz = 0.0
    match modality:
        case "vision":
            data = rng.integers(0, 256, (2, 60, 80, 3), np.uint8)
        case "audio":
            data, rate_hz = rng.normal(0, 0.1, (32000, 2)).astype(np.float32), 16000.0
        case "depth":
            data = rng.uniform(1, 5, (60, 80)).astype(np.float32)
        case "thermal":
            data = rng.uniform(10, 35, (60, 80)).astype(np.float32)
        case "imu":
            data, rate_hz = rng.normal(0, 1, (2000, 6)).astype(np.float32), 400.0
    return Window(sensor or modality, modality, data, rate_hz, 1, "")


def absent(modality: Modality, reason: str) -> Window:
    return Window(modality, modality, None, 0.0, 0, reason)


def tick(index: int, *windows: Window) -> Tick:
    return Tick(index, index * 500_000_000, {w.sensor: w for w in windows}, 0)


def full_tick(seed: int) -> Tick:
    rng = np.random.default_rng(seed)
    return tick(seed, *(window(rng, modality) for modality in MODALITIES))


def test_every_modality_gives_what_the_model_gives_for_its_preprocessed_window(
    model: ImageBind, embedder: Embedder
) -> None:
    t = full_tick(0)
    data = {m: t.windows[m].data for m in MODALITIES}
    (embedded,) = embedder.embed([t])
    inputs = {
        "vision": preprocess.vision(data["vision"][None]),
        "audio": preprocess.audio(data["audio"][None], 16000.0),
        "depth": preprocess.depth(data["depth"][None]),
        "thermal": preprocess.thermal(data["thermal"][None]),
        "imu": preprocess.imu(data["imu"][None], 400.0, guess_units=False),
    }
    with torch.inference_mode():
        wanted = model.embed(inputs, patches=True)
    assert embedded.missing == {}
    assert embedded.vectors.keys() == set(MODALITIES)
    for m, vector in embedded.vectors.items():
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, wanted.vectors[m][0].numpy(), atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert wanted.patches is not None
    np.testing.assert_allclose(embedded.patches["vision"], wanted.patches[0].numpy(), atol=1e-5)
    assert embedded.patches["vision"].shape == (16, 16, 16)
    np.testing.assert_allclose(np.linalg.norm(embedded.patches["vision"], axis=-1), 1.0, atol=1e-5)


def test_a_batch_of_ticks_and_sensors_gives_each_its_own_vectors(embedder: Embedder) -> None:
    rng = np.random.default_rng(1)
    ticks = [
        tick(0, window(rng, "vision", "left"), window(rng, "vision", "right"), window(rng, "audio")),
        tick(1, window(rng, "vision", "left"), absent("audio", "stale")),
        tick(2),
        tick(3, window(rng, "audio")),
    ]
    together = embedder.embed(ticks)
    for t, embedded in zip(ticks, together, strict=True):
        assert embedded.tick is t
        (alone,) = embedder.embed([t])
        assert embedded.missing == alone.missing
        assert embedded.vectors.keys() == alone.vectors.keys()
        for sensor, vector in embedded.vectors.items():
            np.testing.assert_allclose(vector, alone.vectors[sensor], atol=1e-5)
        for sensor, patches in embedded.patches.items():
            np.testing.assert_allclose(patches, alone.patches[sensor], atol=1e-5)
    assert together[0].patches.keys() == {"left", "right"}
    assert together[1].missing == {"audio": "stale"}
    assert together[2].fused is None


def test_each_modality_takes_one_forward_pass(embedder: Embedder, model: ImageBind) -> None:
    passes: list[int] = []
    hook = model.encoders["vision"].trunk.register_forward_hook(lambda _m, x, _y: passes.append(len(x[0])))
    rng = np.random.default_rng(2)
    embedder.embed([tick(i, window(rng, "vision", "a"), window(rng, "vision", "b")) for i in range(3)])
    hook.remove()
    assert passes == [6]


def test_fused_is_the_normalised_mean_of_what_is_present(embedder: Embedder) -> None:
    rng = np.random.default_rng(3)
    (embedded,) = embedder.embed([tick(0, window(rng, "depth"), window(rng, "imu"), absent("audio", "lost"))])
    mean = (embedded.vectors["depth"] + embedded.vectors["imu"]) / 2
    assert embedded.fused is not None
    np.testing.assert_allclose(embedded.fused, mean / np.linalg.norm(mean), atol=1e-6)
    assert fuse([]) is None
    axis = np.eye(4, dtype=np.float32)[0]
    assert fuse([axis, -axis]) is None


@pytest.mark.parametrize(
    ("modality", "data", "rate_hz", "reason"),
    [
        ("vision", np.zeros((2, 8, 800, 3), np.uint8), 0.0, "too long"),
        ("depth", np.zeros((60, 80), np.float32), 0.0, "no valid pixel"),
        ("thermal", np.full((60, 80), np.nan, np.float32), 0.0, "NaN or infinite"),
        ("imu", np.full((2000, 6), np.inf, np.float32), 400.0, "infinite"),
        ("imu", np.zeros((10, 6), np.float32), 400.0, "too short"),
        ("audio", np.full((300, 1), 0.1, np.float32), 16000.0, "less than one 25 ms frame"),
        ("audio", np.full((32000, 1), np.nan, np.float32), 16000.0, "NaN"),
    ],
)
def test_a_window_that_cannot_be_used_is_missing_and_the_others_go_on(
    embedder: Embedder, modality: Modality, data: NDArray[Any], rate_hz: float, reason: str
) -> None:
    rng = np.random.default_rng(4)
    other: Modality = "audio" if modality != "audio" else "depth"
    bad = Window(modality, modality, data, rate_hz, 1, "")
    (embedded,) = embedder.embed([tick(0, bad, window(rng, other))])
    assert embedded.vectors.keys() == {other}
    assert reason in embedded.missing[modality]
    assert embedded.missing[modality].startswith("unusable: ")
    assert "\n" not in embedded.missing[modality]


def test_vectors_that_are_not_finite_are_withheld_and_counted() -> None:
    broken = ImageBind(SIZES, ("vision", "depth"))
    with torch.no_grad():
        broken.encoders["vision"].head.proj.weight.fill_(torch.nan)
    embedder = Embedder(broken)
    rng = np.random.default_rng(5)
    (embedded,) = embedder.embed([tick(0, window(rng, "vision"), window(rng, "depth"))])
    assert embedded.missing == {"vision": "not finite"}
    assert embedded.vectors.keys() == {"depth"}
    assert embedded.patches == {}
    assert embedded.fused is not None
    assert np.isfinite(embedded.fused).all()
    assert embedder.not_finite == 1
    with pytest.raises(NotFinite, match="vision"):
        embedder.embed_images([np.zeros((32, 32, 3), np.uint8)])


def test_a_modality_without_an_encoder_is_missing() -> None:
    embedder = Embedder(ImageBind(SIZES, ("depth",)))
    rng = np.random.default_rng(6)
    (embedded,) = embedder.embed([tick(0, window(rng, "depth"), window(rng, "imu"))])
    assert embedded.missing == {"imu": "no encoder"}


def test_windows_that_cannot_be_used_do_not_spoil_the_batch_of_their_kind(embedder: Embedder) -> None:
    rng = np.random.default_rng(12)
    windows = [window(rng, "depth") for _ in range(5)]
    bad = [Window("depth", "depth", np.full((60, 80), value, np.float32), 0.0, 1, "") for value in (0.0, np.inf)]
    ticks = [tick(i, w) for i, w in enumerate([windows[0], bad[0], *windows[1:4], bad[1], windows[4]])]
    passes: list[int] = []
    hook = embedder._model.encoders["depth"].trunk.register_forward_hook(lambda _m, x, _y: passes.append(len(x[0])))
    embedded = embedder.embed(ticks)
    hook.remove()
    assert passes == [5]
    reasons = [e.missing.get("depth", "") for e in embedded]
    assert [i for i, reason in enumerate(reasons) if reason] == [1, 5]
    assert all(reasons[i].startswith("unusable: depth_m: no valid pixel") for i in (1, 5))
    for e in embedded:
        if not e.missing:
            (alone,) = Embedder(embedder._model).embed([e.tick])
            np.testing.assert_allclose(e.vectors["depth"], alone.vectors["depth"], atol=1e-5)


def long_windows(rng: np.random.Generator, length_s: float, ends_s: Sequence[float]) -> list[Window]:
    """Windows of one sound that end at some times."""
    sound = rng.normal(0, 0.1, (16000 * 20, 2)).astype(np.float32)
    cuts = [(round(16000 * (end_s - length_s)), round(16000 * end_s)) for end_s in ends_s]
    return [Window("mic", "audio", sound[start:stop], 16000.0, 1, "") for start, stop in cuts]


def test_audio_longer_than_two_seconds_is_the_mean_of_clips_up_to_its_newest_sound(embedder: Embedder) -> None:
    (long,) = long_windows(np.random.default_rng(7), 5.0, [10.0])
    assert long.data is not None
    (embedded,) = embedder.embed([tick(0, long)])
    clips = embedder.embed_audio([(long.data[16000 * s : 16000 * (s + 2)], 16000.0) for s in (1, 2, 3)])
    wanted = fuse(list(clips))
    assert wanted is not None
    np.testing.assert_allclose(embedded.vectors["mic"], wanted, atol=1e-5)


def test_ticks_share_the_clips_of_long_audio(embedder: Embedder) -> None:
    ends_s = [10.0 + 0.5 * i for i in range(6)]
    windows = long_windows(np.random.default_rng(13), 5.0, ends_s)
    # The first two ticks need three clips each; of every later one only the newest is new.
    found = [embedder.embed([tick(i, w)])[0] for i, w in enumerate(windows)]
    assert embedder.reuse["windows"] == Reuse(hits=8, misses=10)
    for e in found:
        (alone,) = Embedder(embedder._model).embed([e.tick])
        np.testing.assert_allclose(e.vectors["mic"], alone.vectors["mic"], atol=1e-5)


def test_what_did_not_change_between_ticks_is_not_computed_again(embedder: Embedder, model: ImageBind) -> None:
    passes: list[int] = []
    hooks = [
        model.encoders[m].trunk.register_forward_hook(lambda _m, x, _y: passes.append(len(x[0])))
        for m in ("vision", "depth", "imu")
    ]
    rng = np.random.default_rng(14)
    slow, other, inertial = window(rng, "vision", "slow"), window(rng, "vision", "slow"), window(rng, "imu")
    ticks = [tick(i, copied(slow), window(rng, "depth"), inertial) for i in range(3)]
    first = embedder.embed(ticks)
    assert sorted(passes) == [1, 1, 3]
    passes.clear()
    again, changed, back = embedder.embed([tick(3, copied(slow)), tick(4, other), tick(5, copied(slow))])
    assert passes == [2]
    for hook in hooks:
        hook.remove()
    np.testing.assert_array_equal(first[0].vectors["slow"], again.vectors["slow"])
    np.testing.assert_array_equal(first[0].patches["slow"], again.patches["slow"])
    assert not np.array_equal(changed.vectors["slow"], again.vectors["slow"])
    np.testing.assert_allclose(back.vectors["slow"], again.vectors["slow"], atol=1e-5)
    assert embedder.reuse["windows"] == Reuse(hits=5, misses=7)
    with pytest.raises(ValueError, match="read-only"):
        again.vectors["slow"][0] = 0.0


def copied(w: Window) -> Window:
    """The same content in other memory."""
    assert w.data is not None
    return Window(w.sensor, w.modality, w.data.copy(), w.rate_hz, w.newest_ns, w.missing)


def test_the_same_ticks_give_the_same_vectors_each_time_whatever_is_asked_between(model: ImageBind) -> None:
    rng = np.random.default_rng(15)
    slow = [window(rng, "depth", "slow") for _ in range(4)]
    ticks = [tick(i, slow[i // 3], window(rng, "vision", "fast"), window(rng, "imu")) for i in range(12)]
    batches = [ticks[:5], ticks[5:10], ticks[10:]]
    one, two = Embedder(model), Embedder(model)
    for batch in batches:
        plain = one.embed(batch)
        two.embed_images([ticks[0].windows["fast"].data[0]])
        two.embed_texts(["a dog", f"{batch[0].index} dogs"])
        for a, b in zip(plain, two.embed(batch), strict=True):
            assert a.vectors.keys() == b.vectors.keys() == {"slow", "fast", "imu"}
            for sensor, vector in a.vectors.items():
                np.testing.assert_array_equal(vector, b.vectors[sensor])
    assert one.reuse["windows"] == Reuse(hits=8, misses=28)


def test_what_failed_is_computed_when_it_comes_again(model: ImageBind) -> None:
    embedder = Embedder(model)
    t = tick(0, window(np.random.default_rng(16), "depth"))

    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    hook = model.encoders["depth"].trunk.register_forward_pre_hook(out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        embedder.embed([t])
    hook.remove()
    (embedded,) = embedder.embed([t])
    assert embedded.vectors.keys() == {"depth"}
    assert embedded.missing == {}


def test_texts_are_embedded_once(embedder: Embedder, model: ImageBind) -> None:
    passes: list[int] = []
    hook = model.encoders["text"].trunk.register_forward_hook(lambda _m, x, _y: passes.append(len(x[0])))
    first = embedder.embed_texts(["a dog", "a cat", "a dog"])
    again = embedder.embed_texts(["a cat", "a bird", "a dog"])
    hook.remove()
    assert passes == [2, 1]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(again[[2, 0]], first[:2])
    again[:] = 0.0  # what is given out is the caller's
    np.testing.assert_array_equal(embedder.embed_texts(["a dog"])[0], first[0])
    assert embedder.reuse["texts"] == Reuse(hits=4, misses=3)


def test_bfloat16_points_the_same_way_with_unit_length() -> None:
    torch.manual_seed(0)
    exact = Embedder(ImageBind(SIZES)).embed([full_tick(8)])[0]
    torch.manual_seed(0)
    rounded = Embedder(ImageBind(SIZES), dtype="bfloat16").embed([full_tick(8)])[0]
    assert rounded.missing == {}
    for sensor, vector in rounded.vectors.items():
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        assert float(vector @ exact.vectors[sensor]) > 0.99


def test_inference_time_is_measured_on_the_clock_and_shared_by_the_batch(model: ImageBind) -> None:
    class Ticking(ManualClock):
        def now_ns(self) -> int:
            self.sleep_until(super().now_ns() + 30_000_000)
            return super().now_ns()

    rng = np.random.default_rng(9)
    embedded = Embedder(model, clock=Ticking()).embed([tick(i, window(rng, "imu")) for i in range(3)])
    # The clock is read at the begin and the end, before the modality, when its pass is queued and when it is through.
    assert [e.inference_ms for e in embedded] == [40.0, 40.0, 40.0]
    assert [dict(e.costs_ms) for e in embedded] == [{"imu": 20.0}] * 3


def test_texts_are_embedded_in_chunks_as_one_by_one(model: ImageBind, embedder: Embedder) -> None:
    texts = [f"a photo of {n} dogs" for n in range(70)]
    passes: list[int] = []
    hook = model.encoders["text"].trunk.register_forward_hook(lambda _m, x, _y: passes.append(len(x[0])))
    vectors = embedder.embed_texts(texts)
    hook.remove()
    assert passes == [64, 6]  # a long request takes no more memory than a short one
    assert vectors.shape == (70, embedder.dimensions) == (70, 16)
    with torch.inference_mode():
        last = model({"text": tokenize(texts[-1:])})["text"].numpy()
    np.testing.assert_allclose(vectors[-1:], last, atol=1e-5)
    assert embedder.embed_texts([]).shape == (0, 16)


def test_requests_with_unusable_input_raise(embedder: Embedder) -> None:
    with pytest.raises(PreprocessError):
        embedder.embed_images([np.zeros((4, 400, 3), np.uint8)])
    with pytest.raises(PreprocessError):
        embedder.embed_audio([(np.zeros(10, np.float32), 16000.0)])


def test_words_without_an_embedding_are_named_as_never_trained() -> None:
    model = ImageBind(SIZES, ("text",))
    assert Embedder(model).read("a zebra") == Reading("a zebra")
    known = torch.zeros(49408, dtype=torch.bool)
    known[tokenize(["a dog barking"]).flatten()] = True
    with torch.no_grad():
        model.encoders["text"].token_embedding[~known] = 0.0
    embedder = Embedder(model)
    assert embedder.read("A dog barking") == Reading("A dog barking")
    horse = {"shown": {"caption": "a horse", "heads": ["horse", "zebra"]}}
    text = "is there a zebra, a dog, a zebra?"
    assert embedder.read(text) == Reading(text, ("zebra",))  # "is" and "there" carry no meaning
    assert Embedder(model, vocabulary=Vocabulary({"meanings": {"horse": horse}})).read("zebras").text == "a horse"


def test_vision_is_scored_at_the_text_towers_scale_and_the_config_may_differ(embedder: Embedder) -> None:
    scales = embedder.logit_scales()
    assert scales["vision"] == pytest.approx(1 / 0.07, rel=1e-5)
    assert {m: scales[m] for m in MODALITIES if m != "vision"} == {
        m: LOGIT_SCALES[m] for m in MODALITIES if m != "vision"
    }
    assert embedder.logit_scales({"audio": 30.0})["audio"] == 30.0


def test_auto_takes_the_gpu_when_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.gpu
def test_the_gpu_gives_the_cpus_vectors() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    here = Embedder(ImageBind(SIZES)).embed([full_tick(10), full_tick(11)])
    torch.manual_seed(0)
    there = Embedder(ImageBind(SIZES), device="cuda").embed([full_tick(10), full_tick(11)])
    for cpu, gpu in zip(here, there, strict=True):
        for sensor, vector in cpu.vectors.items():
            assert float(vector @ gpu.vectors[sensor]) > 0.999


def test_preprocessing_that_fails_costs_its_modality_only(model: ImageBind, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise IndexError("out of range")

    rng = np.random.default_rng(11)
    faults = Faults()
    embedder = Embedder(model, faults=faults)
    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "thermal", fail)
        (embedded,) = embedder.embed([tick(0, *(window(rng, m) for m in MODALITIES))])
    assert set(embedded.vectors) == set(MODALITIES) - {"thermal"}
    assert embedded.missing == {"thermal": "fault in preprocessing"}
    assert faults.counts() == {"preprocessing of thermal": 1}
    (embedded,) = embedder.embed([tick(1, window(rng, "thermal"))])
    assert set(embedded.vectors) == {"thermal"}


def test_what_the_budget_does_not_allow_is_left_out_and_embedded_when_it_comes_again(embedder: Embedder) -> None:
    rng = np.random.default_rng(12)
    same = tick(0, window(rng, "imu"), window(rng, "vision"), window(rng, "depth"))
    (first,) = embedder.embed([same], Budget(age_s=0.5, most_age_s=1.0, costs_s={"vision": 0.4, "imu": 0.6}))
    assert first.missing == {"imu": LEFT_OUT}
    assert first.declined == {"imu"}
    assert list(first.costs_ms) == ["vision", "depth"]  # the most important first
    (again,) = embedder.embed([same])
    assert set(again.vectors) == {"imu", "vision", "depth"}
    assert set(again.costs_ms) == {"imu"}  # the others were known
    assert not again.declined


def test_a_budget_is_spent_by_the_time_that_passes_and_stretched_by_what_was_slower_than_expected() -> None:
    budget = Budget(age_s=0.2, most_age_s=0.8, costs_s={"vision": 0.1, "audio": 0.2}, overdue=frozenset({"imu"}))
    assert budget.allows("audio", 0.4, {})
    assert not budget.allows("audio", 0.45, {})
    assert not budget.later(0.45).allows("audio", 0.0, {})
    # Vision took three times as long as expected, so audio will: 0.6 s.
    assert not budget.allows("audio", 0.3, {"vision": 0.3})
    assert budget.allows("audio", 0.1, {"vision": 0.1})
    assert budget.allows("imu", 9.0, {})
    assert not budget.allows("imu", 9.0, {"vision": 0.1})
