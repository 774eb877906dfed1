"""What all preprocessing has in common: batches, read-only inputs, devices, one clear error or a finite result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from models import preprocess
from models.preprocess import PreprocessError

RNG = np.random.default_rng(0)


def normal(*shape: int, scale: float = 0.1) -> NDArray[np.float32]:
    return RNG.normal(0, scale, shape).astype(np.float32)


def uniform(low: float, high: float, *shape: int) -> NDArray[np.float32]:
    return RNG.uniform(low, high, shape).astype(np.float32)


GRAVITY = np.float32([0, 0, 9.8, 0, 0, 0])
Function = Callable[..., Tensor]

GOOD: dict[str, tuple[Function, NDArray[Any], dict[str, float], tuple[int, ...]]] = {
    "vision, one frame": (preprocess.vision, RNG.integers(0, 256, (3, 1, 90, 160, 3), np.uint8), {}, (3, 2, 224, 224)),
    "vision, two frames": (preprocess.vision, RNG.integers(0, 256, (3, 2, 50, 40, 3), np.uint8), {}, (3, 2, 224, 224)),
    "video": (preprocess.video, RNG.integers(0, 256, (2, 3, 2, 60, 80, 3), np.uint8), {}, (3, 3, 2, 224, 224)),
    "audio": (preprocess.audio, normal(3, 96000, 2), {"rate_hz": 48000}, (1, 128, 204)),
    "audio_clips": (preprocess.audio_clips, normal(2, 132300, 2), {"rate_hz": 44100}, (3, 1, 128, 204)),
    "depth": (preprocess.depth, uniform(-1, 5, 3, 60, 80), {}, (1, 224, 224)),
    "thermal": (preprocess.thermal, uniform(10, 40, 3, 60, 80), {}, (1, 224, 224)),
    "thermal_counts": (preprocess.thermal_counts, RNG.integers(0, 16384, (3, 60, 80), np.uint16), {}, (1, 224, 224)),
    "kelvin": (
        preprocess.thermal_counts,
        RNG.integers(28000, 31000, (3, 60, 80), np.uint16),
        {"kelvin_per_count": 0.01},
        (1, 224, 224),
    ),
    "imu": (preprocess.imu, normal(3, 1000, 6) + GRAVITY, {"rate_hz": 200.0}, (6, 2000)),
    "imu, fast": (preprocess.imu, normal(3, 5000, 6) + GRAVITY, {"rate_hz": 1000.0}, (6, 2000)),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_batch_gives_each_item_what_it_gives_alone(name: str) -> None:
    function, array, options, shape = GOOD[name]
    out = function(array, **options)
    assert out.shape == (len(array), *shape)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert not out.is_inference()
    alone = torch.cat([function(array[i : i + 1], **options) for i in range(len(array))])
    torch.testing.assert_close(out, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", GOOD)
def test_inputs_are_not_changed_and_may_be_read_only(name: str) -> None:
    function, array, options, _ = GOOD[name]
    before = array.copy()
    out = function(array, **options)
    np.testing.assert_array_equal(array, before)
    before.flags.writeable = False
    assert torch.equal(function(before, **options), out)
    assert torch.equal(function(np.asfortranarray(array), **options), out)
    assert torch.equal(function(array[::-1], **options).flip(0), out)
    out.zero_()
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("name", GOOD)
def test_tensors_are_taken_as_arrays_are(name: str) -> None:
    function, array, options, _ = GOOD[name]
    tensor = torch.from_numpy(array.copy())
    before = tensor.clone()
    assert torch.equal(function(tensor, **options), function(array, **options))
    assert torch.equal(
        function(tensor, **options, device="cpu"), function(array, **options, device=torch.device("cpu"))
    )
    assert torch.equal(tensor, before)
    if array.dtype == np.float32:
        assert not function(tensor.requires_grad_(), **options).requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("name", GOOD)
def test_the_gpu_gives_what_the_cpu_gives(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    function, array, options, _ = GOOD[name]
    here, there = function(array, **options), function(array, **options, device="cuda")
    assert there.device.type == "cuda"
    assert function(torch.from_numpy(array.copy()).cuda(), **options).device.type == "cuda"
    # Levels of an image may differ by two of 255; spectrograms where hardly any energy is.
    assert (here - there.cpu()).abs().max() < 0.05
    assert (here - there.cpu()).abs().mean() < 1e-3


def spoiled(array: NDArray[Any], item: int, value: float) -> NDArray[Any]:
    copy = array.copy()
    copy[item] = value
    return copy


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("audio", np.nan, r"waveform: 192000 values are NaN or infinite"),
        ("audio", 3e4, r"waveform: peak is 30000; scale integer samples to -1..1"),
        ("audio_clips", np.inf, r"waveform: 264600 values are NaN or infinite"),
        ("depth", 0.0, r"depth_m: no valid pixel"),
        ("depth", 1500.0, r"depth_m: mean is 1500 m; the values look like millimetres"),
        ("thermal", np.nan, r"temperature_c: 4800 values are NaN or infinite"),
        ("thermal", 295.0, r"temperature_c: mean is 295; the values look like kelvin"),
        ("imu", np.nan, r"rows: all are NaN"),
        ("imu", -np.inf, r"rows: 6000 values are infinite"),
        ("imu", 90.0, r"rows: rotation is 90 rad/s most of the time; the values look like degrees"),
    ],
)
def test_the_items_that_are_at_fault_are_named_so_that_the_others_can_go_on(name: str, value: float, line: str) -> None:
    function, array, options, _ = GOOD[name]
    with pytest.raises(PreprocessError, match=rf"^item 1 of {len(array)}: {line}") as caught:
        function(spoiled(array, 1, value), **options)
    assert caught.value.items.keys() == {1}
    assert f"item 1 of {len(array)}: {caught.value.items[1]}" == str(caught.value)
    with pytest.raises(PreprocessError, match=f"^{line}"):
        function(spoiled(array[:1], 0, value), **options)
    everything = spoiled(spoiled(array, 0, value), 1, value)
    with pytest.raises(PreprocessError, match=r"^item 0 of .* \(1 more items are unusable\)$") as caught:
        function(everything, **options)
    assert caught.value.items.keys() == {0, 1}


def images(*shape: int) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


def waves(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: preprocess.vision(images(1, 240, 320, 3)),
            r"frames: got uint8 \[1, 240, 320, 3\], need uint8 \[B, F, H, W",
        ),
        (lambda: preprocess.vision(waves(1, 1, 240, 320, 3)), "frames: got float32"),
        (lambda: preprocess.vision(torch.zeros(1, 1, 240, 320, 3)), "frames: got float32"),
        (lambda: preprocess.vision([[0]]), "frames: got list, need an array or tensor, uint8"),  # type: ignore[arg-type]
        (lambda: preprocess.vision(images(1, 3, 240, 320, 3)), "3 of them; the model takes 1 or 2"),
        (lambda: preprocess.vision(images(1, 1, 0, 320, 3)), "frames: got"),
        (lambda: preprocess.vision(images(0, 1, 240, 320, 3)), "frames: got"),
        (lambda: preprocess.vision(images(1, 1, 240, 320, 4)), "frames: got"),
        (lambda: preprocess.vision(images(1, 1, 2, 320, 3)), "2 x 320 is too long"),
        (lambda: preprocess.video(images(1, 2, 240, 320, 3)), r"need uint8 \[B, clips, F, H, W, 3\]"),
        (lambda: preprocess.audio(np.zeros((1, 32000, 1), np.int16), 16000), "waveform: got int16"),
        (
            lambda: preprocess.audio(waves(32000), 16000),
            r"got float32 \[32000\], need float32 \[B, n, channels\] in -1..1",
        ),
        (lambda: preprocess.audio(waves(1, 300, 1), 16000), "300 samples at 16000 Hz are less than one 25 ms frame"),
        (lambda: preprocess.audio(waves(1, 48000, 1), 16000), "3.00 s long; cut it to 2 s or use audio_clips"),
        (lambda: preprocess.audio(waves(1, 32000, 1), 0), "rate_hz: 0 is not a rate"),
        (lambda: preprocess.audio(waves(1, 32000, 1), float("nan")), "rate_hz: nan is not a rate"),
        (lambda: preprocess.audio(waves(1, 44101, 1), 44101), "no simple ratio to 16000"),
        (lambda: preprocess.audio(waves(1, 1999, 1), 1999), "rate_hz: 1999 has no simple ratio to 16000"),
        (lambda: preprocess.audio_clips(waves(1, 32000, 1), 16000, 0), "clips: 0 is not a number of clips"),
        (
            lambda: preprocess.depth(np.full((1, 240, 320), 1500, np.uint16)),
            r"depth_m: got uint16 .* metres; of millimetres: depth_mm.astype\('float32'\) / 1000",
        ),
        (lambda: preprocess.depth(torch.ones(1, 24, 32, dtype=torch.uint16)), "of millimetres: depth_mm.astype"),
        (lambda: preprocess.depth(np.ones((1, 24, 32))), "depth_m: got float64 .* metres$"),
        (
            lambda: preprocess.thermal(waves(1, 24, 32), 30, 20),
            "low_c, high_c: 30 and 20 are not a range from low to high",
        ),
        (lambda: preprocess.thermal(waves(1, 24, 32), 0, 1e-300), "0 and 1e-300 are not a range"),
        (lambda: preprocess.thermal(waves(1, 24, 32), -1e308, 1e308), r"-1e\+308 and 1e\+308 are not a range"),
        (lambda: preprocess.thermal(waves(1, 24, 32), 0, float("nan")), "0 and nan are not a range"),
        (lambda: preprocess.thermal_counts(waves(1, 24, 32)), r"counts: got float32 .* need uint16"),
        (lambda: preprocess.thermal_counts(np.ones((1, 4, 4), np.uint16), low_count=5), "give both, or neither"),
        (
            lambda: preprocess.thermal_counts(np.ones((1, 4, 4), np.uint16), low_count=5, high_count=5),
            "are not a range",
        ),
        (lambda: preprocess.thermal_counts(np.ones((1, 4, 4), np.uint16), kelvin_per_count=0), "0.01 is usual"),
        (
            lambda: preprocess.thermal_counts(np.ones((1, 4, 4), np.uint16), kelvin_per_count=0.01, low_count=1),
            "take low_c and high_c",
        ),
        (lambda: preprocess.imu(waves(1, 2000, 3), 400), r"rows: got float32 \[1, 2000, 3\]"),
        (lambda: preprocess.imu(waves(1, 1900, 6), 400), "1900 at 400 Hz are too short; need 5 s"),
        (lambda: preprocess.imu(np.full((1, 2000, 6), 981, np.float32), 400), "look like milli-g"),
        (lambda: preprocess.imu(waves(1, 2000, 6), -1), "rate_hz: -1 is not a rate"),
        (lambda: preprocess.imu(waves(1, 2000, 6), 400, axes=["accel_x"] * 6), "need each of accel_x, .* gyro_z once"),
        (lambda: preprocess.imu(np.full((1, 2000, 6), np.nan, np.float32), 400), "rows: all are NaN"),
        (lambda: preprocess.imu(waves(1, 2000, 6), 400, max_gap_s=-1), "max_gap_s: -1 is not a duration"),
        (lambda: preprocess.imu_real_steps(waves(1, 2000, 6), 400, max_gap_s=float("nan")), "max_gap_s: nan"),
        (lambda: preprocess.imu_real_steps(waves(1, 20, 6), 400), "too short"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(PreprocessError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@st.composite
def odd_arrays(draw: st.DrawFn, *sizes: tuple[int, int]) -> NDArray[np.float32]:
    """Any of these sizes; numbers of any magnitude, constant or not, with some values that are none."""
    shape = [draw(st.integers(low, high)) for low, high in sizes]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    scale = draw(st.sampled_from([1.0, 0.0, 1e-40, 1e-3, 10.0, 100.0, 1e38]))
    array = (rng.uniform(-1, 1, shape) * scale + draw(st.sampled_from([0.0, 1.0, 9.0]))).astype(np.float32)
    odd = draw(st.sampled_from([(), (), (np.nan,), (0.0, 1e-45), (np.inf, np.nan), (-np.inf,), (1e38, -1e38)]))
    for value in odd:
        array[rng.random(shape) < draw(st.sampled_from([0.01, 0.5, 1.0]))] = value
    return array


def finite_or_refused(call: Callable[[], Tensor], shape: tuple[int, ...]) -> None:
    try:
        out = call()
    except PreprocessError as error:
        refusal = str(error)
    else:
        assert out.shape[1:] == shape
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        return
    assert "\n" not in refusal


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 40), st.integers(0, 40)), st.sampled_from([3, 3, 4])
)
def test_any_frames_are_refused_or_give_finite_inputs(shape: tuple[int, ...], channels: int) -> None:
    frames = np.full((*shape, channels), 255, np.uint8)
    finite_or_refused(lambda: preprocess.vision(frames), (3, 2, 224, 224))


@settings(deadline=None, max_examples=80)
@given(odd_arrays((1, 2), (300, 4000), (1, 2)), st.sampled_from([8000.0, 16000.0, 44100.0, 1600.0, 100.0, 0.3, 1e308]))
def test_any_sound_is_refused_or_gives_finite_inputs(waveform: NDArray[np.float32], rate_hz: float) -> None:
    finite_or_refused(lambda: preprocess.audio(waveform, rate_hz), (1, 128, 204))
    finite_or_refused(lambda: preprocess.audio_clips(waveform, rate_hz, 2), (2, 1, 128, 204))


@settings(deadline=None, max_examples=80)
@given(odd_arrays((1, 2), (1, 40), (1, 40)))
def test_any_map_is_refused_or_gives_finite_inputs(values: NDArray[np.float32]) -> None:
    finite_or_refused(lambda: preprocess.depth(values), (1, 224, 224))
    finite_or_refused(lambda: preprocess.thermal(values), (1, 224, 224))
    with np.errstate(invalid="ignore"):
        counts = np.nan_to_num(values).clip(0, 65535).astype(np.uint16)
    finite_or_refused(lambda: preprocess.thermal_counts(counts), (1, 224, 224))
    finite_or_refused(lambda: preprocess.thermal_counts(counts, kelvin_per_count=0.01), (1, 224, 224))


@settings(deadline=None, max_examples=80)
@given(odd_arrays((1, 2), (1, 3000), (6, 6)), st.sampled_from([100.0, 401.0, 0.1, 1.0, 400.0, 500.0, 1e308]))
def test_any_rows_are_refused_or_give_finite_inputs(rows: NDArray[np.float32], rate_hz: float) -> None:
    finite_or_refused(lambda: preprocess.imu(rows, rate_hz), (6, 2000))
