"""The source as perception finds it, by what the configuration says: how long a stretch, how steep a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.config.parse import parse
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.perceiving.alerts.prompts import QUIET
from agent.perceiving.findings import AudioSource
from agent.perceiving.localization.doa import DirectionFinder
from agent.perceiving.localization.source import SourceFinder, SourceState
from agent.perceiving.perception import Perception
from agent.windows.window import Tick, Window
from common.physics import SPEED_OF_SOUND_MPS
from drivers.driver import MODALITIES, Modality

S = 1_000_000_000
RATE_HZ = 16_000
MICS_M = 0.0323 * np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]])
DOG, STILL = np.eye(8, dtype=np.float32)[:2]


class Ear:
    """Embeds what is said of silence as STILL, and all else as DOG."""

    dimensions = 8

    def embed_texts(self, texts: Sequence[str], _: Modality) -> NDArray[np.float32]:
        return np.stack([STILL if any(quiet in text for quiet in QUIET) else DOG for text in texts])

    def unknown_words(self, _: str) -> list[str]:
        return []

    def logit_scales(self, overrides: Mapping[Modality, float]) -> dict[Modality, float]:
        return {**dict.fromkeys(MODALITIES, 5.0), **overrides}


def wave(azimuth_deg: float, seconds: float, level: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """A broadband plane wave at the array, and noise of its own at every microphone."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    towards = np.array([np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg)), 0.0])
    f_hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    turned = np.exp(2j * np.pi * f_hz * (MICS_M @ towards / SPEED_OF_SOUND_MPS)[:, None])
    sound = np.fft.irfft(np.fft.rfft(rng.normal(0, 1, n)) * turned, n).T
    return (level * sound + noise(seconds, 0.002, seed + 1)).astype(np.float32)


def noise(seconds: float, level: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, level, (round(seconds * RATE_HZ), 4)).astype(np.float32)


def heard(audio: NDArray[np.float32], t_ns: int = 10 * S, vector: NDArray[np.float32] = STILL) -> Embedded:
    window = Window("array", "audio", audio, RATE_HZ, t_ns, "")
    return Embedded(Tick(t_ns // S, t_ns, {"array": window}, t_ns), {"array": vector}, {}, vector, 1.0, {})


def found(embedded: Embedded, microphone: dict[str, Any], **keys: Any) -> AudioSource:
    sensors = {"array": {"type": "synthetic_microphone", "rate_hz": RATE_HZ, **microphone}}
    perception = Perception(cast(Embedder, Ear()), parse({"sensors": sensors, **keys}))
    (source,) = (finding for finding in perception.perceive(embedded) if isinstance(finding, AudioSource))
    return source


@pytest.mark.parametrize(("hop_s", "azimuth_deg"), [(0.4, -60.0), (1.2, 45.0)])
def test_the_direction_is_that_of_the_sound_since_the_tick_before(hop_s: float, azimuth_deg: float) -> None:
    # Loud from the left until half a second ago, softer from the right since.
    audio = np.concatenate([wave(45.0, 1.5, 0.3), wave(-60.0, 0.5, 0.03, seed=5)])
    source = found(heard(audio), {"mic_positions_m": MICS_M.tolist()}, windows={"hop_s": hop_s})
    assert source.direction is not None
    assert source.direction.azimuth_deg == pytest.approx(azimuth_deg, abs=2)


@pytest.mark.parametrize(("scale", "state"), [(0.5, SourceState.NOTHING_HEARD), (40.0, SourceState.UNSEEN)])
def test_how_sure_a_meaning_is_follows_from_the_scale_of_audio(scale: float, state: SourceState) -> None:
    # Steady and without a direction: only what it means can make it heard, and it is more of a dog than of stillness.
    vector = (DOG + 0.9 * STILL) / np.float32(np.linalg.norm(DOG + 0.9 * STILL))
    source = found(heard(noise(2, 0.01), vector=vector), {}, alerts={"logit_scales": {"audio": scale}})
    assert source.state is state


def test_the_noise_floor_does_not_rise_under_a_source_that_is_heard_from_a_direction() -> None:
    finder = SourceFinder("array", finder=DirectionFinder(MICS_M, RATE_HZ), stretch_s=0.4)
    first = finder.find(heard(noise(1, 0.002), 10 * S))
    assert first is not None
    assert first.direction is None
    for step in range(1, 8):  # over a minute, in which a floor that rises by 1 dB a second would reach the source
        during = finder.find(heard(wave(30.0, 1, seed=step), (10 + 10 * step) * S))
        assert during is not None
        assert during.direction is not None
    after = finder.find(heard(noise(1, 0.05, seed=9), 81 * S))
    assert after is not None
    assert after.direction is None
    assert after.state is SourceState.UNSEEN, "28 dB above the floor of before, 6 dB below the source"
