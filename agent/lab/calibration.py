"""Calibration of weights on scenes of the synthetic world: what a margin was worth where the truth is known.

Scenes of all sensors teach what things are worth, and rides of the IMU alone, which cost little, what motions are: a
fall is rare. Their seeds are used for nothing else. Everything runs on the path of the agent: its drivers, windows,
embedder and scorer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.capture.offline import Offline
from agent.clock import ManualClock
from agent.config.parse import Config, parse, synthetic
from agent.config.settings import ModelSettings
from agent.embedding.embedder import Embedder
from agent.embedding.model import hash_in
from agent.embedding.weights import load_embedder
from agent.lab.assessment import Verdict, scene_of, verdict
from agent.perceiving.alerts.curves import DENSE, PLACES, prompts_hash
from agent.perceiving.alerts.prompts import BACKGROUND, embed_prompts
from agent.perceiving.alerts.scoring import Margins
from agent.perceiving.perception import Perception
from agent.query import Query
from agent.vectors import Vectors
from agent.windows.window import Tick
from agent.windows.windower import Windower
from common.progress import Progress, untold
from drivers.driver import MODALITIES
from drivers.forms import FORMS
from models.files.calibration import POOLED, Calibration, Curve
from world.captions import MOTIONS, WORDS
from world.kinds import KINDS
from world.scene import Scene, SceneOptions

FIRST_SEED: Final = 20_000
"""Training draws from 10000 on; tests, the demo and validation stay below, and `benchmarks.accuracy` from 30000 on."""
SCENES: Final = 60
SCENE_S: Final = 60.0
RIDES: Final = 12
RIDE_S: Final = 600.0

_BATCH: Final = 8
_FREE: Final = 1e-3
"""Ticks that the prior of the pooled curves is worth: hardly any."""
_HELD: Final = 5.0
"""Ticks, at a margin of 1, that the pooled curve is worth to that of a concept."""

Floats = NDArray[np.float64]


class KnownMargins:
    """Margins with known truth, by place of the curves and concept."""

    def __init__(self) -> None:
        self._margins: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._true: dict[tuple[str, str], list[bool]] = {}

    def add(self, place: str, concept: str, margins: tuple[float, float], true: bool) -> None:
        """Take the margins of a window and of its patches (0 without)."""
        self._margins.setdefault((place, concept), []).append(margins)
        self._true.setdefault((place, concept), []).append(true)

    def curves(self, place: str) -> dict[str, Curve]:
        """Fit the curves of a place: of things and motions together, then of each concept, held by that of its like."""
        fitted: dict[str, Curve] = {}
        for group in (WORDS, MOTIONS):
            concepts = [concept for concept in group if (place, concept) in self._margins]
            if not concepts:
                continue
            pooled = fit(*self._of(place, concepts), (0.0, 0.0, 0.0), _FREE)
            fitted.setdefault(POOLED, pooled)
            fitted |= {concept: fit(*self._of(place, [concept]), pooled, _HELD) for concept in concepts}
        return fitted

    def _of(self, place: str, concepts: Sequence[str]) -> tuple[Floats, Floats]:
        margins = [pair for concept in concepts for pair in self._margins[place, concept]]
        true = [flag for concept in concepts for flag in self._true[place, concept]]
        return np.array(margins), np.array(true, np.float64)


def calibrate(
    settings: ModelSettings,
    *,
    first_seed: int = FIRST_SEED,
    scenes: int = SCENES,
    rides: int = RIDES,
    progress: Progress = untold,
) -> Calibration:
    """Run the scenes of `first_seed` on and the rides after them, and fit the curves; minutes.

    `progress` is told scenes. Raises CheckpointError and DeviceError.
    """
    embedder, name = load_embedder(settings, MODALITIES)
    examples, after = KnownMargins(), first_seed + scenes
    watcher = _Watcher(embedder, synthetic(), [*KINDS, *MOTIONS])
    progress("scenes and rides", 0, scenes + rides)
    for seed in range(first_seed, after):
        config = synthetic(seed, pace="fast", duration_s=SCENE_S)
        watcher.observe(config, scene_of(config), examples)
        progress("scenes and rides", seed + 1 - first_seed, scenes + rides)
    watcher = _Watcher(embedder, _ride(0), MOTIONS)
    for seed in range(after, after + rides):
        watcher.observe(_ride(seed), Scene(SceneOptions(seed)), examples)
        progress("scenes and rides", seed + 1 - first_seed, scenes + rides)
    asked = f"--first-seed {first_seed} --scenes {scenes} --rides {rides}"
    return Calibration(
        weights=hash_in(name),
        prompts=prompts_hash(BACKGROUND, embedder.logit_scales()),
        made_by=f"sensebind weights calibrate {settings.weights} {asked}",
        concepts={concept: _vector(embedder, texts) for concept, texts in phrases().items()},
        curves={place: examples.curves(place) for place in PLACES},
    )


def phrases() -> dict[str, list[str]]:
    """Return the texts that stand for each concept: a thing as it looks and as it sounds, and a motion."""
    things = {kind: [words.looks[0], *words.sounds[:1]] for kind, words in WORDS.items()}
    return things | {motion: list(texts[:2]) for motion, texts in MOTIONS.items()}


def fit(margins: Floats, true: Floats, prior: Curve, strength: float) -> Curve:
    """Return the curve of margins [n, 2] and truth [n], 0 or 1: logistic regression with slopes of at least 0.

    A ridge of `strength` holds it to the prior.
    """
    used = [0, 1, 2]
    inputs, held = np.column_stack([margins, np.ones(len(margins))]), np.array(prior)
    while True:
        curve = np.zeros(3)
        curve[used] = _newton(inputs[:, used], true, held[used], strength)
        if (curve[:2] >= 0).all():
            return float(curve[0]), float(curve[1]), float(curve[2])
        used.remove(int(curve[:2].argmin()))


def _newton(inputs: Floats, true: Floats, prior: Floats, strength: float) -> Floats:
    """Minimise the cross-entropy and the ridge; both are convex."""
    weights = prior.copy()
    for _ in range(100):
        share = 1 / (1 + np.exp(-np.clip(inputs @ weights, -60, 60)))
        slope = inputs.T @ (share - true) + strength * (weights - prior)
        bend = (inputs * (share * (1 - share))[:, None]).T @ inputs + strength * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        weights -= step / max(1.0, float(np.abs(step).max()))  # far from the minimum a whole step leads away
        if np.abs(step).max() < 1e-8:
            break
    return weights


class _Watcher:
    """Looks at scenes for the texts of some concepts."""

    def __init__(self, embedder: Embedder, config: Config, concepts: Iterable[str]) -> None:
        self._embedder, self._perception = embedder, Perception(embedder, replace(config, queries=()))
        self._concepts = list(concepts)
        self._asked = [(concept, text) for concept in self._concepts for text in phrases()[concept]]
        for number, (_, text) in enumerate(self._asked):
            self._perception.add(Query(f"q{number}", text), embedder)

    def observe(self, config: Config, scene: Scene, examples: KnownMargins) -> None:
        """Add every tick of a scene."""
        ticks = list(_ticks(config))
        for first in range(0, len(ticks), _BATCH):
            for embedded in self._embedder.embed(ticks[first : first + _BATCH]):
                self._add(self._perception.margins(embedded), scene, embedded.tick.t_ns / 1e9, examples)

    def _add(self, margins: Margins, scene: Scene, t_s: float, examples: KnownMargins) -> None:
        for i, modality in enumerate(margins.modalities):
            truth = {concept: verdict(scene, t_s, concept, FORMS[modality].sense) for concept in self._concepts}
            for row, (concept, _) in enumerate(self._asked):
                if truth[concept] is Verdict.UNSURE:
                    continue
                own, true = float(margins.windows[i, row]), truth[concept] is Verdict.YES
                examples.add(modality, concept, (own, 0.0), true)
                if modality == "vision" and margins.patches is not None:
                    examples.add(DENSE, concept, (own, float(margins.patches[row])), true)


def _ride(seed: int) -> Config:
    """A ride of the IMU alone."""
    sensor = {"type": "synthetic_imu", "seed": seed, "pace": "fast", "duration_s": RIDE_S}
    return parse({"sensors": {"imu": sensor}})


def _ticks(config: Config) -> Iterator[Tick]:
    """Ticks of a finite configuration, whose scene begins at time 0."""
    clock = ManualClock()
    source = Offline(config.specs, clock)
    windower = Windower(config.streams, config.hop_ns, clock.start_ns)
    source.start()
    try:
        while not source.ended:
            for sensor, sample in source.poll(0.0):
                windower.push(sensor, sample)
            yield from windower.advance(windower.newest_ns)
        yield from windower.finish()
    finally:
        source.stop()


def _vector(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Return the unit vector [D] in the middle of some texts."""
    vectors = embed_prompts(texts, embedder.embed_texts)
    middle: Vectors = vectors.mean(axis=0)
    return middle / np.float32(np.linalg.norm(middle))
