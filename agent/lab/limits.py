"""Measures the limits of weights (`agent.perceiving.limits`) on scenes of the synthetic world, whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.config.parse import synthetic
from agent.config.settings import ModelSettings
from agent.embedding.embedder import Embedder
from agent.embedding.model import hash_in
from agent.embedding.weights import load_embedder
from agent.lab.assessment import DIRECTION_WINDOW_S, Verdict, certainly_in_view
from agent.perceiving.alerts.prompts import QUIET, THINGS, embed_prompts
from agent.perceiving.alerts.scoring import share
from agent.perceiving.limits import InView, Provenance, WeightLimits
from agent.perceiving.localization.heatmap import best_mean, heat_map
from agent.perceiving.localization.source import IN_VIEW_FROM
from agent.windows.window import Tick, Window
from common.progress import Progress, untold
from common.window_lengths import AUDIO_WINDOW_S, FRAMES_APART_S
from world.scene import Scene, SceneOptions
from world.waveforms import noise, tilted, tone

FIRST_SEED: Final = 25_000
"""Training has 10000 to 19999, calibration of scores the seeds from 20000 on; tests and validation stay below."""
SCENES: Final = 60
SCENE_S: Final = 60
_STEADY: Final = 20
"""Windows of each kind of steady sound."""
MOST_NAMED: Final = 0.05
"""Of steady sounds that may have the name of a thing: with more, they mean nothing to the weights."""


@dataclass(frozen=True, slots=True)
class HeardMoment:
    """A tick at which one thing sounds that certainly is, or is not, in view."""

    similarity: float
    """Of the sound and the patches most like it, one microphone."""
    in_view: bool


def measure(
    settings: ModelSettings,
    *,
    first_seed: int = FIRST_SEED,
    scenes: int = SCENES,
    seconds: int = SCENE_S,
    progress: Progress = untold,
) -> tuple[WeightLimits, Provenance]:
    """Measure the limits of weights on scenes of so many seconds, which takes seconds for each.

    `progress` is told scenes. Raises CheckpointError and DeviceError, and ValueError where the scenes hold no sound in
    view, or none out of view.
    """
    model, name = load_embedder(settings, {"vision", "audio"})
    moments: list[HeardMoment] = []
    progress("scenes", 0, scenes)
    for seed in range(first_seed, first_seed + scenes):
        moments += moments_of(seed, model, seconds)
        progress("scenes", seed + 1 - first_seed, scenes)
    similarity = np.array([moment.similarity for moment in moments])
    in_view = np.array([moment.in_view for moment in moments], np.bool_)
    curve = fit(similarity, in_view)
    found = np.array([curve.probability(x) >= IN_VIEW_FROM for x in similarity.tolist()], np.bool_)
    named = steady_named(model)
    provenance = Provenance(
        weights=hash_in(name),
        made_by=f"sensebind weights limits {settings.weights} --first-seed {first_seed} --scenes {scenes}",
        seeds=f"{first_seed} to {first_seed + scenes - 1}",
        sounds_in_view=int(in_view.sum()),
        sounds_out_of_view=int((~in_view).sum()),
        kept=round(float(found[in_view].mean()), 4),
        let_through=round(float(found[~in_view].mean()), 4),
        steady_named=round(named, 4),
    )
    return WeightLimits(curve, steady_means_something=named <= MOST_NAMED), provenance


def moments_of(seed: int, model: Embedder, seconds: int) -> Iterator[HeardMoment]:
    """Yield the moments of a scene, a second apart, heard by one microphone."""
    config = synthetic(seed)
    assert config.camera is not None
    options = config.sensors[config.camera].spec.options
    scene = Scene(SceneOptions(seed, options.width, options.height, options.rate_hz, options.hfov_deg))
    for t_s in range(round(AUDIO_WINDOW_S) + 1, seconds):
        verdict = in_view(scene, t_s)
        if verdict is None or verdict is Verdict.UNSURE:
            continue
        [embedded] = model.embed([tick_of(scene, t_s)])
        heat = heat_map(embedded.patches["camera"], embedded.vectors["microphone"])
        yield HeardMoment(best_mean(heat), verdict is Verdict.YES)


def in_view(scene: Scene, t_s: float) -> Verdict | None:
    """Return whether what sounds is in view; None unless one thing alone sounded for most of the last half second."""
    sounded = scene.sounded_between(t_s - DIRECTION_WINDOW_S, t_s)
    if len(sounded) != 1 or min(sounded.values()) < 0.8 * DIRECTION_WINDOW_S:
        return None
    (kind,) = sounded
    thing = scene.truth(t_s).thing(kind)
    return None if thing is None else certainly_in_view(thing, scene.options.width * scene.options.height)


def tick_of(scene: Scene, t_s: float, channels: int = 1) -> Tick:
    """Return the windows of a camera and of some of the microphones, as the agent cuts them."""
    options, rows = scene.options, round(AUDIO_WINDOW_S * scene.options.audio_rate_hz)
    sound = scene.audio(round(t_s * options.audio_rate_hz) - rows, rows)[:, :channels]
    pictures = np.stack([scene.image(int(at_s * options.fps + 1e-6)) for at_s in (t_s - FRAMES_APART_S, t_s)])
    t_ns = round(t_s * 1e9)
    windows = {
        "microphone": Window("microphone", "audio", sound, float(options.audio_rate_hz), t_ns, ""),
        "camera": Window("camera", "vision", pictures, 0.0, t_ns, ""),
    }
    return Tick(t_ns, t_ns, windows, t_ns)


def fit(similarity: NDArray[np.float64], in_view: NDArray[np.bool_]) -> InView:
    """Return the logistic curve of similarities [n], with as much weight on sounds in view as on the others.

    Newton's method on the cross-entropy, which is convex; a ridge of one moment keeps it finite where both are apart.
    Raises ValueError where one of both is lacking.
    """
    if in_view.all() or not in_view.any():
        raise ValueError("no sound in view, or none out of view: more scenes are needed")
    centre, width = similarity.mean(), max(float(similarity.std()), 1e-6)
    inputs = np.column_stack([(similarity - centre) / width, np.ones(len(similarity))])
    weight = np.where(in_view, 0.5 / in_view.mean(), 0.5 / (~in_view).mean())
    curve, ridge = np.zeros(2), np.diag([1.0, 1e-9])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ curve, -60, 60)))
        slope = inputs.T @ (weight * (chance - in_view)) + ridge @ curve
        bend = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(bend, slope)
        curve -= step / max(1.0, float(np.abs(step).max()))  # far from the minimum a whole step leads away
        if np.abs(step).max() < 1e-9:
            break
    rise = float(curve[0] / width)
    return InView(slope=rise, offset=float(curve[1] - rise * centre))


def steady_named(model: Embedder) -> float:
    """Return the share of windows of noise, hum and tones in which the model hears a thing rather than quiet."""
    things, quiet = (embed_prompts(texts, lambda t: model.embed_texts(t, "audio")) for texts in (THINGS, QUIET))
    prompts = np.concatenate([quiet, things])
    is_quiet = np.arange(len(prompts)) < len(quiet)
    rng, scale = np.random.default_rng(0), model.logit_scales()["audio"]
    sounds = [(steady_sound(kind, rng), 16_000.0) for kind in STEADY_SOUNDS for _ in range(_STEADY)]
    vectors = model.embed_audio(sounds)
    return float(np.mean([share(vector, prompts, is_quiet, scale) < IN_VIEW_FROM for vector in vectors]))


STEADY_SOUNDS: Final[Sequence[str]] = ("white noise", "pink noise", "brown noise", "tone", "hum")


def steady_sound(kind: str, rng: np.random.Generator, seconds: float = AUDIO_WINDOW_S) -> NDArray[np.float32]:
    """Return a steady sound at 16 kHz, float32 [n], of -60 to -15 dBFS, over a microphone's own noise."""
    rate_hz, n = 16_000.0, round(seconds * 16_000)
    match kind:
        case "white noise":
            sound = rng.standard_normal(n)
        case "pink noise" | "brown noise":
            sound = noise(rng, n, rate_hz, tilted(30.0, 8000.0, 0.5 if kind == "pink noise" else 1.0))
        case "tone":
            sound = tone(np.full(n, rng.uniform(80.0, 6000.0)), rate_hz, [1.0])
        case "hum":
            harmonics = (rng.uniform(0.0, 1.0, 20) / np.arange(1, 21)).tolist()
            sound = tone(np.full(n, rng.choice([50.0, 60.0])), rate_hz, harmonics)
        case _:
            raise ValueError(f"{kind!r} is not one of {', '.join(STEADY_SOUNDS)}")
    level = 10 ** (rng.uniform(-60.0, -15.0) / 20) / (np.sqrt(np.mean(sound**2)) + 1e-12)
    heard: NDArray[np.float32] = (level * sound + 10 ** (-75 / 20) * rng.standard_normal(n)).astype(np.float32)
    return heard
