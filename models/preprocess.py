"""From live arrays to the model's inputs: one pure function per modality, one item at a time.

    frames     uint8   [1 or 2, H, W, 3] RGB         -> vision   [3, 2, 224, 224]
    waveform   float32 [n] or [n, channels], +-1     -> audio    [1, 128, 204]
    depth      float32 [H, W] metres, 0 = invalid    -> depth    [1, 224, 224]
    thermal    float32 [H, W] degrees Celsius        -> thermal  [1, 224, 224]
    rows       float32 [n, 6] m/s2 and rad/s         -> imu      [6, 2000]

Inputs are not changed, results are finite float32 on the CPU; `torch.stack` makes a batch. What cannot be used raises
PreprocessError. Images keep their shape: the shorter side becomes 224 px and the centre is cut out; `CropMap` leads
back to the pixels of the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import resample

from models.encoders import (
    AUDIO_FRAMES,
    AUDIO_MEL_BINS,
    FRAMES,
    IMAGE_PX,
    IMU_CHANNELS,
    IMU_STEPS,
    VISION_GRID,
    VISION_PATCH_PX,
)

ASPECT_MAX: Final = 16
"""Longest image accepted, long side over short side: the resized image stays small."""

RGB_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
RGB_STD: Final = (0.26862954, 0.26130258, 0.27577711)

AUDIO_RATE_HZ: Final = 16000
AUDIO_WINDOW_S: Final = 2
AUDIO_MEAN, AUDIO_STD = -4.268, 9.138
_AUDIO_SAMPLES: Final = AUDIO_WINDOW_S * AUDIO_RATE_HZ
_AUDIO_FRAME_SAMPLES: Final = 400  # 25 ms
_RESAMPLE_RATIO_MAX: Final = 1_000_000  # 441 x 160 for 44.1 kHz; the filter bank grows with the product

KINECT_FOCAL_PX: Final = 518.86
KINECT_BASELINE_M: Final = 0.075
DISPARITY_MAX_PX: Final = 75.0
DISPARITY_MEAN, DISPARITY_STD = 0.0418, 0.0295
_STORED_DEPTH_PER_MM: Final = 8.0

THERMAL_LOW_C, THERMAL_HIGH_C = 0.0, 60.0

IMU_RATE_HZ: Final = 400
IMU_WINDOW_S: Final = IMU_STEPS / IMU_RATE_HZ
STANDARD_GRAVITY_MPS2: Final = 9.80665


class PreprocessError(ValueError):
    """An array is not what the modality needs; one line: which, what it is, what it should be."""


@dataclass(frozen=True, slots=True)
class CropMap:
    """Where the model's 224 x 224 crop lies in an image of `height` x `width` pixels.

    Coordinates are continuous, x to the right and y down, (0, 0) at the outer corner of the first pixel.
    """

    height: int
    width: int

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width after resizing, before the cut."""
        short = min(self.height, self.width)
        return IMAGE_PX * self.height // short, IMAGE_PX * self.width // short

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the cut in the resized image."""
        height, width = self.resized
        return round((height - IMAGE_PX) / 2), round((width - IMAGE_PX) / 2)

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """Crop pixels (0..224) -> image pixels."""
        (height, width), (top, left) = self.resized, self.corner
        return (x + left) * self.width / width, (y + top) * self.height / height

    def to_crop(self, x: float, y: float) -> tuple[float, float]:
        """Image pixels -> crop pixels; outside 0..224 is what the model does not see."""
        (height, width), (top, left) = self.resized, self.corner
        return x * width / self.width - left, y * height / self.height - top

    def patch_boxes(self) -> NDArray[np.float32]:
        """Image-pixel box x0, y0, x1, y1 of every vision patch, [16, 16, 4] over rows and columns."""
        edges = range(0, IMAGE_PX, VISION_PATCH_PX)
        boxes = [
            (*self.to_image(x, y), *self.to_image(x + VISION_PATCH_PX, y + VISION_PATCH_PX))
            for y in edges
            for x in edges
        ]
        return np.array(boxes, np.float32).reshape(VISION_GRID, VISION_GRID, 4)


def vision(frames: NDArray[np.uint8]) -> Tensor:
    """RGB frames [1 or 2, H, W, 3] -> [3, 2, 224, 224]; a single frame fills both places.

    CLIP's recipe: antialiased bicubic in 8 bits as PIL does it, then CLIP's mean and standard deviation.
    """
    _check("frames", frames, np.uint8, "[1 or 2, H, W, 3] RGB", frames.ndim == 4 and frames.shape[-1] == 3)
    if len(frames) not in (1, FRAMES):
        raise PreprocessError(f"frames: {len(frames)} of them; the model takes 1 or {FRAMES}")
    x = _tensor(frames).permute(0, 3, 1, 2)  # [n, 3, H, W]
    x = _centre(x, "bicubic").float() / 255  # [n, 3, 224, 224]
    x = (x - torch.tensor(RGB_MEAN).view(3, 1, 1)) / torch.tensor(RGB_STD).view(3, 1, 1)
    return x.expand(FRAMES, -1, -1, -1).transpose(0, 1).contiguous()  # [3, 2, 224, 224]


def audio(waveform: NDArray[np.float32], rate_hz: float) -> Tensor:
    """One window of at most 2 s -> log-mel spectrogram [1, 128, 204]; a shorter one is padded as published.

    Of several channels the first is used, as published; a mean over the microphones of an array would cancel
    frequencies depending on where the sound comes from.
    """
    samples = _channels(waveform)[:1]  # [1, n]
    duration_s = samples.shape[1] / rate_hz if rate_hz > 0 else 0.0
    if duration_s > AUDIO_WINDOW_S + 0.05:
        raise PreprocessError(f"waveform: {duration_s:.2f} s long; cut it to {AUDIO_WINDOW_S} s or use audio_clips")
    clip = _at_model_rate(samples, rate_hz)[:, :_AUDIO_SAMPLES]
    return _log_mel(clip - clip.mean())


def audio_clips(waveform: NDArray[np.float32], rate_hz: float, clips: int = 3) -> Tensor:
    """A recording of any length -> `clips` spectrograms of 2 s each, [clips, 1, 128, 204], as published.

    The published sampler divides the room for the clips' starts by their number, so the last clip ends before the
    recording does. Its means are subtracted from one shared buffer, so a clip that overlaps an earlier one carries the
    earlier means too; that happens here on a copy.
    """
    samples = _at_model_rate(_channels(waveform), rate_hz)  # [channels, n]
    room_s = max(Fraction(samples.shape[1], AUDIO_RATE_HZ) - AUDIO_WINDOW_S, Fraction(0))
    spectrograms = []
    for i in range(clips):
        start_s = room_s * i / clips
        clip = samples[:, int(start_s * AUDIO_RATE_HZ) : int((start_s + AUDIO_WINDOW_S) * AUDIO_RATE_HZ)]
        clip -= clip.mean()
        spectrograms.append(_log_mel(clip))
    return torch.stack(spectrograms)


def depth(
    depth_m: NDArray[np.float32], focal_px: float = KINECT_FOCAL_PX, baseline_m: float = KINECT_BASELINE_M
) -> Tensor:
    """Depth in metres [H, W], 0 or not finite where invalid -> normalised disparity [1, 224, 224].

    ImageBind reads disparity = focal length x baseline / depth. Its code for that was not published; Omnivore's, which
    it follows, clamps at 75 px, divides by 75 and normalises with mean 0.0418 and deviation 0.0295. Those statistics
    fit rooms only for SUN RGB-D's stored depths, which are 1/8 mm taken as mm, so the factor 8 is kept: the mean is
    then at 1.6 m. The defaults are the Kinect of that data set, a fixed scale that suits any metric sensor.
    Invalid pixels take the mean of the valid ones nearest around them.
    """
    _check("depth_m", depth_m, np.float32, "[H, W] metres", depth_m.ndim == 2)
    valid = np.isfinite(depth_m) & (depth_m > 0)
    if not valid.any():
        raise PreprocessError("depth_m: no valid pixel (all are 0 or not finite); check the depth camera's range")
    if (mean_m := float(depth_m.mean(where=valid))) > 200.0:
        raise PreprocessError(f"depth_m: mean is {mean_m:.0f} m; the values look like millimetres, not metres")
    scale = np.float32(focal_px * baseline_m / _STORED_DEPTH_PER_MM / DISPARITY_MAX_PX)
    disparity = np.divide(
        scale, np.maximum(depth_m, 1e-3), out=np.zeros(depth_m.shape, np.float32), where=valid
    )  # [H, W]
    layers = np.stack([np.minimum(disparity, 1.0), valid.astype(np.float32)])  # [2, H, W]
    x = _centre(torch.from_numpy(layers)[None], "bilinear")  # [1, 2, 224, 224]
    filled = _filled(x[:, :1], x[:, 1:])  # [1, 1, 224, 224]
    return (filled[0] - DISPARITY_MEAN) / DISPARITY_STD


def thermal(temperature_c: NDArray[np.float32], low_c: float = THERMAL_LOW_C, high_c: float = THERMAL_HIGH_C) -> Tensor:
    """Temperatures in degrees Celsius [H, W] -> [1, 224, 224] between 0 at `low_c` and 1 at `high_c`.

    The published model saw 8-bit pictures scaled to 0..1 without further normalisation. The range here is fixed, not
    stretched to each picture, so that a person is as bright beside a stove as in an empty room; hotter saturates.
    """
    _check("temperature_c", temperature_c, np.float32, "[H, W] degrees Celsius", temperature_c.ndim == 2)
    _check_finite("temperature_c", temperature_c)
    if (mean_c := float(temperature_c.mean())) > 200.0:
        raise PreprocessError(f"temperature_c: mean is {mean_c:.0f}; the values look like kelvin or raw counts")
    x = _centre(_tensor(temperature_c)[None, None], "bicubic")[0]  # [1, 224, 224]
    return ((x - low_c) / (high_c - low_c)).clamp(0.0, 1.0)


def imu(rows: NDArray[np.float32], rate_hz: float) -> Tensor:
    """The last 5 s of accelerometer xyz (m/s2) and gyroscope xyz (rad/s), [n, 6] -> [6, 2000] at 400 Hz.

    Linear interpolation, aligned at the newest row. Acceleration is given to the model in units of gravity, so that
    both sensors have the order of 1; the published recipe does not say.
    """
    _check("rows", rows, np.float32, "[n, 6] m/s2 and rad/s", rows.ndim == 2 and rows.shape[1] == IMU_CHANNELS)
    _check_finite("rows", rows)
    _check_rate(rate_hz)
    if len(rows) < math.floor(0.99 * IMU_WINDOW_S * rate_hz):
        raise PreprocessError(f"rows: {len(rows)} at {rate_hz:g} Hz are too short; need {IMU_WINDOW_S:g} s")
    if (accel := float(np.abs(rows[:, :3]).max())) > 500.0:
        raise PreprocessError(f"rows: acceleration reaches {accel:.0f} m/s2; the values look like milli-g")
    if (gyro := float(np.abs(rows[:, 3:]).max())) > 50.0:
        raise PreprocessError(f"rows: rotation reaches {gyro:.0f} rad/s; the values look like degrees per second")
    t_s = (np.arange(len(rows)) - (len(rows) - 1)) / rate_hz
    wanted_s = (np.arange(IMU_STEPS) - (IMU_STEPS - 1)) / IMU_RATE_HZ
    steps = np.stack([np.interp(wanted_s, t_s, channel) for channel in rows.T])  # [6, 2000]
    steps[:3] /= STANDARD_GRAVITY_MPS2
    return torch.from_numpy(steps.astype(np.float32))


def _check(name: str, array: NDArray[Any], dtype: type, wanted: str, shape_fits: bool) -> None:
    if array.dtype != dtype or not shape_fits or array.size == 0:
        got = f"{array.dtype} {list(array.shape)}"
        raise PreprocessError(f"{name}: got {got}, need {np.dtype(dtype)} {wanted}")


def _check_finite(name: str, array: NDArray[np.float32]) -> None:
    if not np.isfinite(array).all():
        raise PreprocessError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are NaN or infinite")


def _check_rate(rate_hz: float) -> None:
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise PreprocessError(f"rate_hz: {rate_hz} is not a rate")


def _tensor(array: NDArray[Any]) -> Tensor:
    """Share the memory where PyTorch can: it warns about arrays that are read-only, as views of a ring are."""
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def _centre(images: Tensor, mode: str) -> Tensor:
    """[n, C, H, W] -> [n, C, 224, 224]: shorter side to 224, antialiased, middle of the longer side."""
    height, width = images.shape[-2:]
    if max(height, width) > ASPECT_MAX * min(height, width):
        raise PreprocessError(f"image: {height} x {width} is too long; at most {ASPECT_MAX} times as long as wide")
    crop = CropMap(height, width)
    (top, left), size = crop.corner, crop.resized
    if size != (height, width):
        images = F.interpolate(images, size, mode=mode, antialias=True)
    return images[..., top : top + IMAGE_PX, left : left + IMAGE_PX]


def _filled(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted values [1, 1, 224, 224] -> values; where there is no weight, the mean of the nearest coarser cell."""
    filled = value / weight.clamp(min=1e-6)
    known = weight > 1e-3
    for side in (112, 56, 28, 14, 7, 1):
        if known.all():
            break
        coarse_weight = F.adaptive_avg_pool2d(weight, side)
        coarse = F.adaptive_avg_pool2d(value, side) / coarse_weight.clamp(min=1e-6)
        coarse, coarse_weight = (F.interpolate(t, IMAGE_PX, mode="nearest") for t in (coarse, coarse_weight))
        new = ~known & (coarse_weight > 1e-6)
        filled = torch.where(new, coarse, filled)
        known = known | new
    return filled


def _channels(waveform: NDArray[np.float32]) -> Tensor:
    """Checked waveform -> [channels, n]."""
    _check("waveform", waveform, np.float32, "[n] or [n, channels] in -1..1", waveform.ndim in (1, 2))
    _check_finite("waveform", waveform)
    if (peak := float(np.abs(waveform).max())) > 16.0:
        raise PreprocessError(f"waveform: peak is {peak:.0f}; scale integer samples to -1..1")
    return _tensor(waveform.reshape(len(waveform), -1).T)


def _at_model_rate(samples: Tensor, rate_hz: float) -> Tensor:
    """[channels, n] at `rate_hz` -> a new [channels, n] at 16 kHz."""
    _check_rate(rate_hz)
    rate = round(rate_hz)
    divisor = math.gcd(rate, AUDIO_RATE_HZ)
    if rate < 1 or (rate // divisor) * (AUDIO_RATE_HZ // divisor) > _RESAMPLE_RATIO_MAX:
        raise PreprocessError(f"rate_hz: {rate_hz:g} has no simple ratio to {AUDIO_RATE_HZ}; give the nominal rate")
    resampled: Tensor = samples.clone() if rate == AUDIO_RATE_HZ else resample(samples, rate, AUDIO_RATE_HZ)
    if resampled.shape[1] < _AUDIO_FRAME_SAMPLES:
        raise PreprocessError(f"waveform: {samples.shape[1]} samples at {rate_hz:g} Hz are less than one 25 ms frame")
    return resampled


def _log_mel(clip: Tensor) -> Tensor:
    """[channels, n] at 16 kHz -> normalised log-mel of the first channel [1, 128, 204], cut or zero-padded in time."""
    mel: Tensor = kaldi.fbank(
        clip,
        htk_compat=True,
        sample_frequency=AUDIO_RATE_HZ,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=AUDIO_MEL_BINS,
        dither=0.0,
        frame_length=25,
        frame_shift=10,
    )  # [frames, 128]
    mel = F.pad(mel.T, (0, max(0, AUDIO_FRAMES - len(mel))))[:, :AUDIO_FRAMES]  # [128, 204]
    return (mel[None] - AUDIO_MEAN) / AUDIO_STD
