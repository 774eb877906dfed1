"""Training shards out of the synthetic world: moments of many scenes, chosen so that every kind and sound is there.

Each shard draws its own scenes and its own choices from its number, so any number of processes writes the same bytes.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.pool import IMapIterator, Pool
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TypeAlias

import numpy as np

from agent.perceiving.alerts.prompts import QUIET, SCENERY, TEMPLATES
from common.progress import Progress, untold
from common.window_lengths import AUDIO_WINDOW_S, FRAMES_APART_S, IMU_WINDOW_S
from models.datasets.dataset import About, Classes, Example, Seen, write_index, write_shard
from models.preprocess import CropMap
from world import captions
from world.kinds import KINDS, SILENT, SOUNDING
from world.scene import Scene, SceneOptions
from world.truth import ThingTruth, Truth

Count: TypeAlias = "Synchronized[int]"
"""A number that processes share."""

WINDOWS_PER_SHARD = 200
WINDOWS_PER_SCENE = 4
SEEDS_PER_SHARD = 100

_FIRST_S, _LAST_S, _STEP_S = float(IMU_WINDOW_S), 50.0, 1.0

_CLEAR_FRACTION, _CLEAR_AREA = 0.5, 0.012
_NEAR_AREA, _FAR_AREA = 0.15, 0.04
_TRACE_FRACTION, _TRACE_AREA = 0.03, 0.0005
_HEARD_S, _FAINT = 1.0, 0.15
_STEADY_TRUTHS = 2

LOOK_S = 0.5
"""Time between two looks at what the processes have written."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A time of a scene that an example can be made of, and the wanted groups that it belongs to."""

    t_s: float
    about: About
    groups: tuple[str, ...]


def wanted_shares() -> dict[str, float]:
    """Return the wanted share of each group of examples in a shard; groups overlap, so shares do not sum to 1."""
    shares = {f"pair {kind}": 0.055 for kind in SOUNDING}
    shares |= {f"seen {kind}": 0.05 for kind in SILENT}
    shares |= {f"motion {motion}": 0.04 for motion in captions.MOTIONS}
    return shares | {"quiet": 0.09, "nothing in view": 0.12, "two in view": 0.25, "any": 0.10}


def simulate(
    out: Path,
    windows: int,
    seed: int,
    *,
    processes: int = 2,
    options: SceneOptions | None = None,
    windows_per_shard: int = WINDOWS_PER_SHARD,
    progress: Progress = untold,
) -> list[Path]:
    """Write `windows` examples as shards into the folder `out`, from scenes of seeds `seed`, `seed` + 1 ...

    Shards that are there already are kept, so an interrupted run can go on. `progress` is told examples. Returns the
    shards.
    """
    if windows < 1:
        raise ValueError(f"windows: {windows}; at least 1 is needed")
    out.mkdir(parents=True, exist_ok=True)
    write_index(out, classes())
    options = options or SceneOptions()
    sizes = [min(windows_per_shard, windows - first) for first in range(0, windows, windows_per_shard)]
    jobs = [
        _Job(out / f"{number:06d}.tar", size, seed + number * SEEDS_PER_SHARD, options)
        for number, size in enumerate(sizes)
    ]
    missing = [job for job in jobs if not job.path.exists()]
    kept, total = windows - sum(job.windows for job in missing), windows
    progress("examples", kept, total)
    if processes > 1 and len(missing) > 1:
        with _pool(min(processes, len(missing))) as (pool, written):
            shards = pool.imap_unordered(_write, missing)
            for _ in missing:
                _await(shards, lambda: progress("examples", kept + written.value, total))
    else:
        for job in missing:
            write_shard(job.path, _told(job, lambda count: progress("examples", count, total), kept))
            kept += job.windows
    return [job.path for job in jobs]


@contextmanager
def _pool(processes: int) -> Iterator[tuple[Pool, Count]]:
    """Processes, and threads of this one that replace them, which signals of a terminal pass by: this one ends them.

    With them comes the number of examples that they have written.
    """
    spawn = multiprocessing.get_context("spawn")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGQUIT})
    try:
        resource_tracker.ensure_running()  # which lets SIGINT through again when it starts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        written = spawn.Value("q", 0)
        pool = spawn.Pool(processes, _count_into, [written])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        yield pool, written


def _await(shards: IMapIterator[Path], look: Callable[[], None]) -> None:
    """Wait for the next shard, looking again and again."""
    while True:
        try:
            shards.next(LOOK_S)
        except multiprocessing.TimeoutError:
            look()
        else:
            return look()


def classes() -> Classes:
    """The kinds with the phrases that zero-shot evaluation uses."""

    def filled(phrase: str) -> tuple[str, ...]:
        return tuple(template.replace("{}", phrase) for template in TEMPLATES)

    return Classes(
        seen={kind: filled(captions.WORDS[kind].looks[0]) for kind in KINDS},
        heard={kind: filled(str(KINDS[kind].sound)) for kind in SOUNDING},
        motions={motion: phrases[:1] for motion, phrases in captions.MOTIONS.items()},
        absent_seen=(*QUIET, *SCENERY),
        absent_heard=(*QUIET, *SCENERY),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    windows: int
    seed: int
    options: SceneOptions


_written: Count | None = None
"""In a process of the pool, the examples that all of them have written."""


def _count_into(written: Count) -> None:
    global _written
    _written = written


def _write(job: _Job) -> Path:
    assert _written is not None

    def one_more(_: int) -> None:
        with _written.get_lock():
            _written.value += 1

    write_shard(job.path, _told(job, one_more))
    return job.path


def _told(job: _Job, told: Callable[[int], None], before: int = 0) -> Iterator[Example]:
    """The examples of a shard; `told` gets the number of each, counted from `before`."""
    for number, rendered in enumerate(examples(job.windows, job.seed, job.options), start=before + 1):
        yield rendered
        told(number)


def examples(windows: int, seed: int, options: SceneOptions) -> Iterator[Example]:
    """Draw examples from scenes of `seed`, `seed` + 1 ..., a few of each, keeping the wanted shares."""
    shares, counts, written = wanted_shares(), Counter[str](), 0
    while written < windows:
        scene = Scene(replace(options, seed=seed))
        rng = np.random.default_rng([seed, 301])
        moments = _moments(scene, rng)
        for moment in _chosen(moments, min(WINDOWS_PER_SCENE, windows - written), shares, counts, rng):
            rendered = example(scene, moment, f"{seed:08d}-{round(moment.t_s * 1e3):06d}")
            depth_m = rendered.depth_m
            if depth_m is not None and depth_m.any():  # lying on its face the robot sees no depth at all
                yield rendered
                written += 1
        seed += 1


def _moments(scene: Scene, rng: np.random.Generator) -> list[Instant]:
    first_s = _FIRST_S + rng.uniform(0.0, _STEP_S)
    before = round(AUDIO_WINDOW_S / _STEP_S)
    times_s = [first_s + _STEP_S * step for step in range(-before, round((_LAST_S - _FIRST_S) / _STEP_S))]
    truths = [scene.truth(t_s) for t_s in times_s]
    moments = []
    for last in range(before, len(truths)):
        about = describe(truths[last - before : last + 1], scene.options, rng)
        moments.append(Instant(times_s[last], about, groups(about)))
    return moments


def _chosen(
    moments: list[Instant], number: int, shares: dict[str, float], counts: Counter[str], rng: np.random.Generator
) -> list[Instant]:
    """Pick moments one by one, each the one of the most wanted group, none close to another."""
    left, chosen = [moments[i] for i in rng.permutation(len(moments))], list[Instant]()
    while left and len(chosen) < number:
        need = {group: counts[group] / share for group, share in shares.items()}
        best = min(left, key=lambda moment: min(need[group] for group in moment.groups))
        chosen.append(best)
        counts.update(best.groups)
        left = [moment for moment in left if abs(moment.t_s - best.t_s) >= AUDIO_WINDOW_S]
    return chosen


def groups(about: About) -> tuple[str, ...]:
    """The groups of `wanted_shares` that an example belongs to."""
    found = ["any", *(f"seen {kind}" for kind in about.seen if kind in SILENT)]
    if about.heard and about.shown:
        found.append(f"pair {about.heard}")
    if about.heard == "" and about.shown:
        found.append("quiet")
    if not about.seen and about.clear:
        found.append("nothing in view")
    if len(about.seen) > 1:
        found.append("two in view")
    if about.motion:
        found.append(f"motion {about.motion}")
    return tuple(found)


def describe(truths: Sequence[Truth], options: SceneOptions, rng: np.random.Generator) -> About:
    """Return the captions and labels of the windows that end at the last of `truths`, which are `_STEP_S` apart over
    `AUDIO_WINDOW_S`.

    Episodes of sound are longer than the audio window, so none of them falls between the truths.
    """
    now = truths[-1]
    crop = CropMap(options.height, options.width)
    shown = {thing.kind: _shown(thing, crop) for thing in now.things}
    seen = {
        thing.kind: Seen(
            (thing.box,), captions.of_thing(thing.kind, rng, TEMPLATES, near=area > _NEAR_AREA, far=area < _FAR_AREA)
        )
        for thing in now.things
        for fraction, area in (shown[thing.kind],)
        if thing.box is not None and fraction >= _CLEAR_FRACTION and area >= _CLEAR_AREA
    }
    traces = {kind for kind, (fraction, area) in shown.items() if fraction > _TRACE_FRACTION and area > _TRACE_AREA}
    sentences = captions.of_nothing(rng, TEMPLATES) if not traces else ()
    if len(seen) > 1:
        first, second = rng.choice(sorted(seen), 2, replace=False)
        sentences = (captions.of_pair(str(first), str(second), rng),)
    steady = all(truth.motion == now.motion for truth in truths[-_STEADY_TRUTHS:])
    heard = _heard(truths)
    return About(
        seen=seen,
        scene=sentences,
        movement=captions.of_motion(now.motion, rng) if steady else (),
        heard=heard,
        shown=heard is not None and (heard in seen if heard else not traces),
        clear=traces <= set(seen),
        motion=now.motion if steady else "",
    )


def _shown(thing: ThingTruth, crop: CropMap) -> tuple[float, float]:
    """Return the fraction of a thing's silhouette that the model can see, and the area of its box within the crop,
    0..1.
    """
    if thing.box is None:
        return 0.0, 0.0
    x0, y0, x1, y1 = thing.box
    (a0, b0), (a1, b1) = crop.to_crop(x0, y0), crop.to_crop(x1, y1)
    size = crop.to_crop(*crop.to_image(224.0, 224.0))[0]
    inside = max(0.0, min(a1, size) - max(a0, 0.0)) * max(0.0, min(b1, size) - max(b0, 0.0))
    whole = (a1 - a0) * (b1 - b0)
    return (thing.visible * inside / whole, inside / size**2) if whole > 0 else (0.0, 0.0)


def _heard(truths: Sequence[Truth]) -> str | None:
    """The one kind that clearly sounds in the audio window, "" when none does, None when it cannot be said."""
    sounding, loudness = Counter[str](), Counter[str]()
    for truth in truths:
        for thing in truth.things:
            sounding[thing.kind] += thing.sounding
            loudness[thing.kind] += thing.loudness  # type: ignore[assignment]  # Counter adds up floats as well
    if not sounding.total():
        return ""
    (loudest, most), *rest = loudness.most_common()
    alone = all(level <= _FAINT * most for _, level in rest)
    return loudest if alone and (sounding[loudest] - 1) * _STEP_S >= _HEARD_S else None


def example(scene: Scene, moment: Instant, key: str) -> Example:
    """Render the windows that end at a moment, cut as the agent cuts them: the newest image before, rows until then."""
    options, t_s = scene.options, moment.t_s
    newer, older = (math.floor(at_s * options.fps) for at_s in (t_s, t_s - FRAMES_APART_S))
    audio_rows, imu_rows = round(AUDIO_WINDOW_S * options.audio_rate_hz), round(IMU_WINDOW_S * options.imu_rate_hz)
    return Example(
        key=key,
        frames=np.stack([scene.image(older), scene.image(newer)]),
        audio=scene.audio(round(t_s * options.audio_rate_hz) - audio_rows, audio_rows)[:, 0],
        depth_m=scene.depth(newer),
        temperature_c=scene.thermal(newer),
        imu=scene.imu(round(t_s * options.imu_rate_hz) - imu_rows, imu_rows),
        about=moment.about,
        audio_rate_hz=options.audio_rate_hz,
    )
