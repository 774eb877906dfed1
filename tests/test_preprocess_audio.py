"""Spectrograms as published, a batch at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torchaudio.compliance import kaldi

from models import preprocess
from models.preprocess.spectrogram import log_mel

REFERENCE = Path(__file__).parent / "data" / "reference"


def tone(frequency_hz: float, rate_hz: int, duration_s: float = 2.0) -> NDArray[np.float32]:
    """[1, n, 1]."""
    t_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * frequency_hz * t_s)).astype(np.float32)[None, :, None]


def assert_published(spectrogram: Tensor, expected: Tensor) -> None:
    """Equal to 1e-4 within 80 dB of the loudest value; what is quieter is float32's rounding, each CPU's own."""
    difference = (spectrogram - expected).abs()
    audible = expected > expected.max() - 80 / 10 * np.log(10) / 9.138
    assert audible.float().mean() > 0.7
    assert difference[audible].max() <= 1e-4
    assert difference.max() <= 1e-3
    assert difference.mean() <= 5e-6


def test_audio_clips_are_the_published_spectrograms() -> None:
    expected = load_file(REFERENCE / "audio.safetensors")
    short, rate_hz = soundfile.read(REFERENCE / "mono16k_1p2s.flac", dtype="float32", always_2d=True)
    assert_published(preprocess.audio_clips(short[None], rate_hz)[0, 0], expected["mono16k_1p2s"][0])
    assert_published(preprocess.audio(short[None], rate_hz)[0], expected["mono16k_1p2s"][0])
    stereo, rate_hz = soundfile.read(REFERENCE / "stereo44k_3p3s.flac", dtype="float32", always_2d=True)
    clips = preprocess.audio_clips(np.stack([stereo[::-1], stereo]), rate_hz)
    assert clips.shape == (2, 3, 1, 128, 204)
    assert_published(clips[1, 1], expected["stereo44k_3p3s"][0])


@pytest.mark.parametrize("samples", [400, 559, 560, 19_201, 32_000, 40_000])
def test_log_mel_is_kaldis_filter_bank(samples: int) -> None:
    clips = torch.from_numpy(np.random.default_rng(samples).normal(0, 0.1, (5, samples)).astype(np.float32))
    clips[0] = 0.0  # digital silence
    clips[1] *= 1e-4
    together = log_mel(clips)
    for clip, mine in zip(clips, together, strict=True):
        mel = kaldi.fbank(
            clip[None],
            htk_compat=True,
            sample_frequency=16000,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
            frame_length=25,
            frame_shift=10,
        ).T[:, :204]
        wanted = torch.zeros(128, 204)
        wanted[:, : mel.shape[1]] = mel
        torch.testing.assert_close(mine[0], (wanted + 4.268) / 9.138, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
def test_audio_shows_a_tone_at_its_mel_bin(rate_hz: int) -> None:
    spectrogram = preprocess.audio(tone(1000.0, rate_hz), rate_hz)[0, 0]
    mel = np.linspace(*(1127 * np.log1p(f / 700) for f in (20.0, 8000.0)), 130)[1:-1]  # centres of the 128 bins
    nearest = int(np.abs(mel - 1127 * np.log1p(1000 / 700)).argmin())
    assert (spectrogram[:, 5:190].argmax(dim=0) - nearest).abs().max() <= 1
    silence = preprocess.audio(np.zeros((1, 2 * rate_hz, 1), np.float32), rate_hz)[0, 0]
    assert spectrogram[nearest, 100] > silence[nearest, 100] + 1.0


def test_a_measured_rate_is_taken_as_the_nominal_one() -> None:
    sound = tone(1000.0, 48000)
    for measured_hz in (47999.6, 48000.4):
        assert torch.equal(preprocess.audio(sound, measured_hz), preprocess.audio(sound, 48000))


def test_audio_hears_the_first_channel() -> None:
    first, second = tone(500.0, 16000), tone(3000.0, 16000)
    both = np.concatenate([first, second], axis=2)
    assert torch.equal(preprocess.audio(both, 16000), preprocess.audio(first, 16000))
    assert not torch.equal(preprocess.audio(both[..., ::-1], 16000), preprocess.audio(first, 16000))


def test_clips_begin_where_the_published_sampler_begins_them() -> None:
    # One tone a second: of 8 s and 3 clips the room is 6 s, so clips begin at 0, 2 and 4 s and the end is not heard.
    seconds = np.concatenate([tone(500.0 * (i + 1), 16000, 1.0) for i in range(8)], axis=1)
    clips = preprocess.audio_clips(seconds, 16000, clips=3)[0, :, 0]  # [3, 128, 204]
    alone = [preprocess.audio(seconds[:, 16000 * s : 16000 * (s + 2)], 16000)[0, 0] for s in (0, 2, 4)]
    for clip, wanted in zip(clips, alone, strict=True):
        torch.testing.assert_close(clip, wanted, atol=1e-3, rtol=0)
    one = preprocess.audio_clips(seconds, 16000, clips=1)
    assert torch.equal(one[0, 0], preprocess.audio_clips(seconds, 16000, clips=3)[0, 0])
