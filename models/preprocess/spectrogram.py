"""Sound: the log-mel spectrograms of ImageBind's audio encoder."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.transforms import Resample

from common.window_lengths import AUDIO_WINDOW_S
from models.encoders import AUDIO_FRAMES, AUDIO_MEL_BINS
from models.extent import AUDIO_SLACK_S
from models.preprocess.arrays import Array, Device, check_finite, check_rate, checked, placed
from models.preprocess.errors import ItemFaults, PreprocessError

AUDIO_RATE_HZ: Final = 16000
AUDIO_MEAN, AUDIO_STD = -4.268, 9.138

_CLIP_SAMPLES: Final = AUDIO_WINDOW_S * AUDIO_RATE_HZ
_PEAK_MAX: Final = 16.0
_RESAMPLE_RATIO_MAX: Final = 1_000_000  # 441 x 160 for 44.1 kHz; the filter bank grows with the product

# Kaldi's filter-bank features (Povey 2011, and the HTK Book 3.4, section 5.4), as the published recipe sets them.
_FRAME: Final = 400  # 25 ms
_SHIFT: Final = 160  # 10 ms
_FFT: Final = 512
_PRE_EMPHASIS: Final = 0.97
_LOWEST_HZ: Final = 20.0


def audio(waveform: Array, rate_hz: float, *, guess_units: bool = True, device: Device = None) -> Tensor:
    """Windows of at most 2 s, float32 [B, n, channels] in -1..1 -> log-mel spectrograms [B, 1, 128, 204].

    Of several channels the first is used, as published; a mean over the microphones of an array would cancel
    frequencies depending on where the sound comes from. Resampled to 16 kHz; what is shorter than 2 s is padded as
    published. A peak that looks like integer samples is refused, unless `guess_units` is False. Raises PreprocessError.

    >>> import numpy as np
    >>> audio(np.zeros((1, 96_000, 2), np.float32), rate_hz=48_000).shape
    torch.Size([1, 1, 128, 204])
    """
    x = _checked(waveform, guess_units=guess_units)[:, :, 0]  # [B, n]
    duration_s = x.shape[1] / rate_hz if rate_hz > 0 else 0.0
    if duration_s > AUDIO_WINDOW_S + AUDIO_SLACK_S:
        raise PreprocessError(f"waveform: {duration_s:.2f} s long; cut it to {AUDIO_WINDOW_S} s or use audio_clips")
    x = _at_model_rate(placed(x, device), rate_hz)[:, :_CLIP_SAMPLES]
    return log_mel(x - x.mean(dim=1, keepdim=True))


def audio_clips(
    waveform: Array, rate_hz: float, clips: int = 3, *, guess_units: bool = True, device: Device = None
) -> Tensor:
    """Recordings of any length, float32 [B, n, channels] in -1..1 -> `clips` of 2 s each, [B, clips, 1, 128, 204].

    The published sampler divides the room for the clips' starts by their number, so the last clip ends before the
    recording does. Its means, over all channels, are subtracted from one shared buffer, so a clip that overlaps an
    earlier one carries the earlier means too; that happens here on a copy. A peak that looks like integer samples is
    refused, unless `guess_units` is False. Raises PreprocessError.

    >>> import numpy as np
    >>> audio_clips(np.zeros((1, 160_000, 1), np.float32), rate_hz=16_000).shape
    torch.Size([1, 3, 1, 128, 204])
    """
    if clips < 1:
        raise PreprocessError(f"clips: {clips} is not a number of clips, which begins at 1")
    x = _checked(waveform, guess_units=guess_units).transpose(1, 2)  # [B, channels, n]
    x = _at_model_rate(placed(x, device), rate_hz)
    room_s = max(Fraction(x.shape[2], AUDIO_RATE_HZ) - AUDIO_WINDOW_S, Fraction(0))
    found = []
    for i in range(clips):
        start_s = room_s * i / clips
        clip = x[:, :, int(start_s * AUDIO_RATE_HZ) : int((start_s + AUDIO_WINDOW_S) * AUDIO_RATE_HZ)]
        clip -= clip.mean(dim=(1, 2), keepdim=True)
        found.append(clip[:, 0].clone())
    spectrograms = log_mel(torch.stack(found, dim=1).flatten(0, 1))  # [B * clips, 1, 128, 204]
    return spectrograms.view(len(x), clips, *spectrograms.shape[1:])


def log_mel(clips: Tensor) -> Tensor:
    """Waveforms [n, samples] at 16 kHz -> normalised log-mel [n, 1, 128, 204], cut or zero-padded in time.

    What torchaudio's `kaldi.fbank` gives one waveform at a time, for all of them in the same few operations.
    """
    frames = clips.unfold(1, _FRAME, _SHIFT)  # [n, frames, 400]
    frames = frames - frames.mean(dim=2, keepdim=True)
    frames = frames - _PRE_EMPHASIS * torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    window, banks = _filters(clips.device)
    power = torch.fft.rfft(frames * window, n=_FFT).abs().square()  # [n, frames, 257]
    mel = (power @ banks).clamp(min=torch.finfo(torch.float32).eps).log()  # [n, frames, 128]
    mel = F.pad(mel.transpose(1, 2), (0, max(0, AUDIO_FRAMES - mel.shape[1])))[..., :AUDIO_FRAMES]  # [n, 128, 204]
    return (mel[:, None] - AUDIO_MEAN) / AUDIO_STD


@lru_cache(maxsize=8)
def _filters(device: torch.device) -> tuple[Tensor, Tensor]:
    """The window of a frame [400], and the mel banks as a matrix [257, 128]."""
    # The last four leave the frequency axis unwarped.
    banks, _ = kaldi.get_mel_banks(AUDIO_MEL_BINS, _FFT, AUDIO_RATE_HZ, _LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)
    banks = F.pad(banks, (0, 1)).T.contiguous()  # Kaldi's banks leave out the bin at half the rate
    return torch.hann_window(_FRAME, periodic=False).to(device), banks.to(device)


@lru_cache(maxsize=8)
def _resampler(rate: int, device: torch.device, dtype: torch.dtype) -> Resample:
    # The filter is computed in float32 by the published recipe, whatever it is applied in.
    return Resample(rate, AUDIO_RATE_HZ, dtype=torch.float32).to(device, dtype)


def _checked(waveform: Array, *, guess_units: bool = True) -> Tensor:
    """The waveform as a tensor [B, n, channels]."""
    x = checked("waveform", waveform, torch.float32, ("B", "n", "channels"), " in -1..1")
    faults = ItemFaults(len(x))
    check_finite("waveform", x, faults)
    if guess_units:
        peak = x.abs().flatten(1).amax(dim=1)  # [B]
        faults.add(peak > _PEAK_MAX, lambda i: f"waveform: peak is {peak[i]:.6g}; scale integer samples to -1..1")
    faults.refuse()
    return x


def _at_model_rate(x: Tensor, rate_hz: float) -> Tensor:
    """[..., n] at `rate_hz` -> a new tensor [..., m] at 16 kHz."""
    check_rate(rate_hz)
    rate = round(rate_hz)
    divisor = math.gcd(rate, AUDIO_RATE_HZ)
    if rate < 1 or (rate // divisor) * (AUDIO_RATE_HZ // divisor) > _RESAMPLE_RATIO_MAX:
        raise PreprocessError(f"rate_hz: {rate_hz:g} has no simple ratio to {AUDIO_RATE_HZ}; give the nominal rate")
    if x.shape[-1] * AUDIO_RATE_HZ <= (_FRAME - 1) * rate:
        raise PreprocessError(f"waveform: {x.shape[-1]} samples at {rate_hz:g} Hz are less than one 25 ms frame")
    if rate == AUDIO_RATE_HZ:
        return x.clone()
    # GPUs convolve float32 with 10-bit mantissas by default, a noise floor of -66 dB: quiet bands would drown in it.
    dtype = torch.float32 if x.device.type == "cpu" else torch.float64
    resampled: Tensor = _resampler(rate, x.device, dtype)(x.to(dtype).contiguous())
    return resampled.float()
