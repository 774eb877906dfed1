"""Live arrays to inputs: the published recipe's numbers, known signals, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models import preprocess
from models.preprocess import RGB_MEAN, RGB_STD, CropMap, PreprocessError

REFERENCE = Path(__file__).parent / "data" / "reference"


def rgb(name: str) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(REFERENCE / name))[..., ::-1], np.uint8)


def tone(frequency_hz: float, rate_hz: int, duration_s: float = 2.0) -> NDArray[np.float32]:
    t_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * frequency_hz * t_s)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("landscape", "landscape_224"), ("portrait", "portrait_224"), ("tiny", "tiny_224"), ("square", "square")],
)
def test_vision_is_pils_bicubic(name: str, expected: str) -> None:
    target = (torch.from_numpy(rgb(f"{expected}.png").copy()) / 255 - torch.tensor(RGB_MEAN)) / torch.tensor(RGB_STD)
    frames = preprocess.vision(rgb(f"{name}.png")[None])
    assert frames.shape == (3, 2, 224, 224)
    assert torch.equal(frames[:, 0], frames[:, 1])
    difference = (frames[:, 0] - target.permute(2, 0, 1)).abs()
    assert difference.mean() <= 0.01
    assert difference.max() <= 0.15


def test_vision_keeps_the_order_of_frames() -> None:
    frames = np.stack([np.full((240, 320, 3), level, np.uint8) for level in (0, 255)])
    out = preprocess.vision(frames)
    assert out[0, 0].max() == pytest.approx(-RGB_MEAN[0] / RGB_STD[0], abs=1e-5)
    assert out[0, 1].min() == pytest.approx((1 - RGB_MEAN[0]) / RGB_STD[0], abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (224, 224), (50, 70), (1080, 1920)])
@pytest.mark.parametrize("patch", [(0, 0), (5, 12), (15, 15)])
def test_patch_boxes_lie_where_the_model_looks(height: int, width: int, patch: tuple[int, int]) -> None:
    crop = CropMap(height, width)
    x0, y0, x1, y1 = crop.patch_boxes()[patch]
    image = np.zeros((1, height, width, 3), np.uint8)
    image[:, max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = 255
    seen = preprocess.vision(image)[:, 0].mean(dim=0)  # [224, 224]
    per_patch = seen.reshape(16, 14, 16, 14).mean(dim=(1, 3))
    assert divmod(int(per_patch.argmax()), 16) == patch


@given(st.integers(20, 2000), st.integers(20, 2000), st.floats(0, 224), st.floats(0, 224))
def test_crop_map_goes_there_and_back(height: int, width: int, x: float, y: float) -> None:
    crop = CropMap(height, width)
    image_x, image_y = crop.to_image(x, y)
    assert -1.0 <= image_x <= width + 1.0
    assert -1.0 <= image_y <= height + 1.0
    assert crop.to_crop(image_x, image_y) == pytest.approx((x, y), abs=1e-6)


def test_crop_map_loses_the_sides_of_a_wide_image() -> None:
    boxes = CropMap(240, 320).patch_boxes()
    assert boxes[0, 0, :2] == pytest.approx((40, 0), abs=1.0)
    assert boxes[15, 15, 2:] == pytest.approx((280, 240), abs=1.0)


def test_audio_clips_are_the_published_spectrograms() -> None:
    expected = load_file(REFERENCE / "audio.safetensors")
    short, rate_hz = soundfile.read(REFERENCE / "mono16k_1p2s.flac", dtype="float32")
    assert (preprocess.audio_clips(short, rate_hz)[0] - expected["mono16k_1p2s"][0]).abs().max() <= 1e-4
    assert (preprocess.audio(short, rate_hz) - expected["mono16k_1p2s"][0]).abs().max() <= 1e-4
    stereo, rate_hz = soundfile.read(REFERENCE / "stereo44k_3p3s.flac", dtype="float32")
    clips = preprocess.audio_clips(stereo, rate_hz)
    assert clips.shape == (3, 1, 128, 204)
    assert (clips[1] - expected["stereo44k_3p3s"][0]).abs().max() <= 1e-4


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
def test_audio_shows_a_tone_at_its_mel_bin(rate_hz: int) -> None:
    spectrogram = preprocess.audio(tone(1000.0, rate_hz), rate_hz)[0]
    mel = np.linspace(*(1127 * np.log1p(f / 700) for f in (20.0, 8000.0)), 130)[1:-1]  # centres of the 128 bins
    nearest = int(np.abs(mel - 1127 * np.log1p(1000 / 700)).argmin())
    assert (spectrogram[:, 5:190].argmax(dim=0) - nearest).abs().max() <= 1
    silence = preprocess.audio(np.zeros(2 * rate_hz, np.float32), rate_hz)[0]
    assert spectrogram[nearest, 100] > silence[nearest, 100] + 1.0


def test_audio_hears_the_first_channel() -> None:
    both = np.stack([tone(500.0, 16000), tone(3000.0, 16000)], axis=1)
    assert torch.equal(preprocess.audio(both, 16000), preprocess.audio(both[:, 0], 16000))


def test_nearer_is_larger_disparity() -> None:
    near, mean, far = (
        float(preprocess.depth(np.full((240, 320), depth_m, np.float32)).mean()) for depth_m in (0.8, 1.55, 8.0)
    )
    assert near > 1.0
    assert mean == pytest.approx(0.0, abs=0.05)
    assert -1.42 < far < -1.0


def test_invalid_depth_takes_its_neighbours_depth() -> None:
    depth_m = np.full((240, 320), 1.0, np.float32)
    depth_m[:, 160:] = 4.0
    holes = depth_m.copy()
    holes[100:140, 80:120] = 0.0
    holes[50:60, 200:240] = np.nan
    holes[200:, 250:270] = np.inf
    torch.testing.assert_close(preprocess.depth(holes), preprocess.depth(depth_m), atol=0.05, rtol=0)
    one_pixel = np.zeros((240, 320), np.float32)
    one_pixel[120, 160] = 1.0
    whole = preprocess.depth(np.ones((240, 320), np.float32))
    torch.testing.assert_close(preprocess.depth(one_pixel), whole, atol=1e-3, rtol=1e-3)


def test_thermal_is_a_fixed_scale() -> None:
    ramp = np.tile(np.linspace(-30.0, 90.0, 240, dtype=np.float32)[:, None], (1, 240))
    out = preprocess.thermal(ramp)[0]
    assert out.min() == 0.0
    assert out.max() == 1.0
    warm = preprocess.thermal(np.full((120, 160), 30.0, np.float32))
    torch.testing.assert_close(warm, torch.full((1, 224, 224), 0.5))


@pytest.mark.parametrize("rate_hz", [100.0, 400.0, 1000.0])
def test_imu_is_resampled_to_400_hz(rate_hz: float) -> None:
    t_s = np.arange(round(6 * rate_hz)) / rate_hz
    rows = np.zeros((len(t_s), 6), np.float32)
    rows[:, 2] = 9.80665
    rows[:, 5] = np.sin(2 * np.pi * 1.5 * t_s)
    out = preprocess.imu(rows, rate_hz)
    assert out.shape == (6, 2000)
    torch.testing.assert_close(out[2], torch.ones(2000))
    wanted_s = t_s[-1] + (np.arange(2000) - 1999) / 400
    assert np.abs(out[5].numpy() - np.sin(2 * np.pi * 1.5 * wanted_s)).max() < 0.002
    assert out[[0, 1, 3, 4]].abs().max() == 0.0


GOOD: dict[str, tuple[Callable[..., Tensor], NDArray[Any], tuple[float, ...]]] = {
    "vision": (preprocess.vision, np.random.default_rng(0).integers(0, 256, (2, 90, 160, 3), np.uint8), ()),
    "audio": (preprocess.audio, tone(440.0, 48000), (48000,)),
    "audio_clips": (preprocess.audio_clips, tone(440.0, 16000, 5.0), (16000,)),
    "depth": (preprocess.depth, np.eye(120, dtype=np.float32), ()),
    "thermal": (preprocess.thermal, np.full((90, 160), 25.0, np.float32), ()),
    "imu": (preprocess.imu, np.ones((1000, 6), np.float32), (200.0,)),
}


@pytest.mark.parametrize("name", GOOD)
def test_inputs_are_not_changed_and_may_be_read_only(name: str) -> None:
    function, array, rate = GOOD[name]
    before = array.copy()
    out = function(array, *rate)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    np.testing.assert_array_equal(array, before)
    before.flags.writeable = False
    assert torch.equal(function(before, *rate), out)
    out.zero_()
    np.testing.assert_array_equal(array, before)


def broken(array: NDArray[Any], value: float) -> NDArray[Any]:
    """A copy with one bad value in the middle."""
    copy = array.copy()
    copy.flat[copy.size // 2] = value
    return copy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: preprocess.vision(np.zeros((240, 320, 3), np.uint8)),
            r"frames: got uint8 \[240, 320, 3\], need uint8",
        ),
        (lambda: preprocess.vision(np.zeros((1, 240, 320, 3), np.float32)), "frames: got float32"),  # type: ignore[arg-type]
        (lambda: preprocess.vision(np.zeros((3, 240, 320, 3), np.uint8)), "3 of them; the model takes 1 or 2"),
        (lambda: preprocess.vision(np.zeros((1, 0, 320, 3), np.uint8)), "frames: got"),
        (lambda: preprocess.vision(np.zeros((1, 2, 320, 3), np.uint8)), "2 x 320 is too long"),
        (lambda: preprocess.audio(np.zeros(32000, np.int16), 16000), "waveform: got int16"),  # type: ignore[arg-type]
        (lambda: preprocess.audio(tone(440, 16000) * 32768, 16000), "scale integer samples"),
        (lambda: preprocess.audio(broken(tone(440, 16000), np.nan), 16000), "1 values are NaN or infinite"),
        (lambda: preprocess.audio(np.zeros(300, np.float32), 16000), "less than one 25 ms frame"),
        (lambda: preprocess.audio(tone(440, 16000, 3.0), 16000), "3.00 s long; cut it to 2 s or use audio_clips"),
        (lambda: preprocess.audio(tone(440, 16000), 0), "rate_hz: 0 is not a rate"),
        (lambda: preprocess.audio(tone(440, 16000), float("nan")), "rate_hz: nan is not a rate"),
        (lambda: preprocess.audio(tone(440, 44101), 44101), "no simple ratio to 16000"),
        (lambda: preprocess.audio(tone(440, 1999), 1999), "rate_hz: 1999 has no simple ratio to 16000"),
        (lambda: preprocess.depth(np.full((240, 320), 1500, np.uint16)), "depth_m: got uint16"),  # type: ignore[arg-type]
        (lambda: preprocess.depth(np.full((240, 320), 1500, np.float32)), "look like millimetres"),
        (lambda: preprocess.depth(np.zeros((240, 320), np.float32)), "no valid pixel"),
        (lambda: preprocess.thermal(np.full((120, 160), 295, np.float32)), "look like kelvin"),
        (lambda: preprocess.thermal(broken(np.zeros((120, 160), np.float32), np.nan)), "1 values are NaN or infinite"),
        (lambda: preprocess.imu(np.zeros((2000, 3), np.float32), 400), "rows: got"),
        (lambda: preprocess.imu(np.zeros((1900, 6), np.float32), 400), "1900 at 400 Hz are too short; need 5 s"),
        (lambda: preprocess.imu(np.full((2000, 6), 981, np.float32), 400), "look like milli-g"),
        (lambda: preprocess.imu(np.full((2000, 6), 90, np.float32), 400), "look like degrees per second"),
        (lambda: preprocess.imu(broken(np.zeros((2000, 6), np.float32), np.inf), 400), "NaN or infinite"),
        (lambda: preprocess.imu(np.zeros((2000, 6), np.float32), -1), "rate_hz: -1 is not a rate"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(PreprocessError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
