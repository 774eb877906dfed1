"""Is a sound in view when the agent says so, and does noise that means nothing stay unheard?

    python -m benchmarks.in_view [--seeds 10] [--first 35000] [--recordings FOLDER]

Runs the whole pipeline, offline, on scenes of the synthetic world, with the array of four microphones and with one, and
counts the ticks at which one thing alone sounds that certainly is, or is not, in view. Seeds from 35000 on are used
for nothing else. Then steady sounds (silence, noise, tones, hum) go through perception with pictures of the same
scenes, and all ten sounding kinds are asked for. With FOLDER, such as ESC-10's, one subfolder per class, it counts
the windows of 2 s of real recordings that pass for steady. Intervals of 95 % are from a bootstrap over scenes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile

from agent.config.parse import Config, parse, synthetic
from agent.embedding.embedder import Embedder
from agent.embedding.weights import load_embedder
from agent.events.filters import EventFilter
from agent.lab.assessment import Verdict
from agent.lab.limits import STEADY_SOUNDS, in_view, steady_sound, tick_of
from agent.perceiving.findings import AudioSource, ScoredTick, Transition
from agent.perceiving.limits import read_limits
from agent.perceiving.localization.source import SourceState
from agent.perceiving.perception import Perception
from agent.perceiving.steadiness import STEADY, meaningless
from agent.query import Query
from agent.run import build
from agent.windows.window import Tick
from models.files import store
from protos import perception_pb2 as pb
from world.kinds import KINDS, SOUNDING
from world.scene import Scene, SceneOptions

SECONDS = 60.0
RESAMPLED = 2000
IOU_OF_A_HIT = 0.5
STEADY_TICKS = 8
THRESHOLD = 0.6


@dataclass
class Counts:
    """Ticks of one scene."""

    seen: int = 0
    """What sounds is in view,"""
    kept: int = 0
    """and it is said so."""
    peaks: int = 0
    """The peak lies in its box."""
    boxes: int = 0
    """The box has an IoU of IOU_OF_A_HIT with its box."""
    unseen: int = 0
    """What sounds is not in view,"""
    let_through: int = 0
    """and it is said that it is."""
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Ticks in view, peaks and boxes, by kind."""


def main() -> None:
    """Print a row per microphone arrangement, per kind, and per steady sound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=35_000)
    parser.add_argument("--recordings", type=Path, default=None)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    print(f"seeds {seeds[0]} to {seeds[-1]}, {SECONDS:.0f} s each")
    for name, microphones in (("one microphone", 1), ("array of four", 4)):
        scenes = [count(seed, microphones) for seed in seeds]
        print(f"{name}:")
        print(f"  off-screen sounds reported in view  {share(scenes, 'let_through', 'unseen')}")
        print(f"  sounds in view reported in view     {share(scenes, 'kept', 'seen')}")
        print(f"  peak in the box of what sounds      {share(scenes, 'peaks', 'seen')}")
        print(f"  box with IoU >= {IOU_OF_A_HIT}               {share(scenes, 'boxes', 'seen')}")
        kinds = sum((scene.by_kind for scene in scenes), Counter[tuple[str, str]]())
        for kind in SOUNDING:
            if seen := kinds[kind, "seen"]:
                peaks, boxes = kinds[kind, "peaks"] / seen, kinds[kind, "boxes"] / seen
                print(f"    {kind:10}  peak {peaks:4.0%}, box {boxes:4.0%} of {seen}")
    steady(seeds)
    if arguments.recordings:
        recordings(arguments.recordings)


def count(seed: int, microphones: int) -> Counts:
    """Run a scene and count its ticks."""
    config = configured(seed, microphones)
    scene = scene_of(config)
    result = Counts()
    start_ns, events = run(config)
    for event in events:
        t_s = (event.capture_ns - start_ns) / 1e9
        verdict = in_view(scene, t_s)
        if t_s < 2.0 or verdict is None or verdict is Verdict.UNSURE:
            continue
        source, said = event.audio_source, event.audio_source.state == pb.SOURCE_STATE_IN_VIEW
        if verdict is Verdict.NO:
            result.unseen += 1
            result.let_through += said
            continue
        (kind,) = scene.sounded_between(t_s - 0.5, t_s)
        thing = scene.truth(t_s).thing(kind)
        assert thing is not None
        assert thing.box is not None
        x0, y0, x1, y1 = thing.box
        peak = said and x0 <= source.peak_x <= x1 and y0 <= source.peak_y <= y1
        box = said and iou((source.box.x0, source.box.y0, source.box.x1, source.box.y1), thing.box) >= IOU_OF_A_HIT
        result.seen += 1
        result.kept += said
        result.peaks += peak
        result.boxes += box
        result.by_kind.update({(kind, "seen"): 1, (kind, "peaks"): int(peak), (kind, "boxes"): int(box)})
    return result


def configured(seed: int, microphones: int) -> Config:
    """The shipped synthetic configuration with camera and microphones alone; one of these hears no direction."""
    config = synthetic(seed, pace="fast", duration_s=SECONDS)
    tree = {**config.tree, "sensors": {name: dict(config.tree["sensors"][name]) for name in ("camera", "microphone")}}
    if microphones == 1:
        del tree["sensors"]["microphone"]["mic_positions_m"]
    return replace(parse(tree), queries=())


def run(config: Config) -> tuple[int, list[pb.Event]]:
    """Run a finite configuration to its end; its start, and the events of audio sources."""
    pipeline = build.offline(config)
    wanted = EventFilter(pb.SubscribeRequest(kinds=[pb.EVENT_KIND_AUDIO_SOURCE]))
    everything = pipeline.bus.subscribe(wanted, lambda: None, max_others=100_000)
    pipeline.load_model()
    pipeline.start()
    pipeline.wait()
    pipeline.stop()
    events = [pb.Event.FromString(data) for data in iter(everything.take, None)]
    return pipeline.clock.start_ns, [event for event in events if event.HasField("audio_source")]


def scene_of(config: Config) -> Scene:
    """The scene that the configured camera sees."""
    assert config.camera is not None
    options = config.sensors[config.camera].spec.options
    return Scene(SceneOptions(options.seed, options.width, options.height, options.rate_hz, options.hfov_deg))


def steady(seeds: Sequence[int]) -> None:
    """Print, per steady sound, the ticks in view, the states, and what was heard in it."""
    config = configured(seeds[0], 1)
    model, name = load_embedder(config.model, {"vision", "audio"})
    limits = read_limits(store.find(config.model.weights), name.split()[-1])
    print(f"steady sounds, {STEADY_TICKS} ticks each after the onset, with pictures of every scene:")
    for kind in ("silence", *STEADY_SOUNDS):
        for label, onset in (("steady", False), ("switched on", True)):
            found, alerts, ticks, scores = Counter[SourceState](), Counter[str](), 0, [0.0]
            for seed in seeds:
                perception = Perception(model, config, limits=limits)
                for asked in SOUNDING:
                    perception.add(Query(asked, str(KINDS[asked].sound), ("audio",), THRESHOLD), model)
                rng = np.random.default_rng(seed)
                for finding in findings(perception, model, seed, kind, rng, onset=onset):
                    if isinstance(finding, AudioSource):
                        found[finding.state] += 1
                        ticks += 1
                    elif isinstance(finding, Transition):
                        alerts[finding.query_id] += finding.phase == "begin"
                    elif isinstance(finding, ScoredTick) and finding.scores is not None:
                        scores.append(float(finding.scores.values[:, finding.scores.modalities.index("audio")].max()))
            told = ", ".join(f"{asked} {n}" for asked, n in alerts.items() if n) or "none"
            print(
                f"  {kind:12} {label:12} in view {found[SourceState.IN_VIEW] / ticks:4.0%} of {ticks}, nothing heard"
                f" {found[SourceState.NOTHING_HEARD] / ticks:4.0%}; highest score {max(scores):.2f}; alerts: {told}"
            )


def findings(
    perception: Perception, model: Embedder, seed: int, kind: str, rng: np.random.Generator, *, onset: bool
) -> Iterable[AudioSource | ScoredTick | Transition]:
    """Yield what is perceived in a steady sound before the pictures of a scene."""
    scene, rate_hz = Scene(SceneOptions(seed, 240, 240, hfov_deg=60.0)), 16_000
    seconds = 2.0 + STEADY_TICKS * 0.5
    quiet = 1e-4 * rng.standard_normal(round(seconds * rate_hz))
    sound = np.zeros_like(quiet) if kind == "silence" else steady_sound(kind, rng, seconds)
    began = round(rng.uniform(1.5, 2.5) * rate_hz) if onset else 0
    sound = np.concatenate([quiet[:began], sound[began:]]).astype(np.float32)
    for step in range(STEADY_TICKS):
        tick = tick_of(scene, 10.0 + 3.0 * step)
        last = round((2.0 + 0.5 * (step + 1)) * rate_hz)
        heard = replace(tick.windows["microphone"], data=sound[last - 2 * rate_hz : last, None])
        t_ns = (step + 1) * 500_000_000
        [embedded] = model.embed([Tick(step + 1, t_ns, {**tick.windows, "microphone": heard}, t_ns)])
        for finding in perception.perceive(embedded):
            if isinstance(finding, (AudioSource, ScoredTick, Transition)):
                yield finding


def recordings(folder: Path) -> None:
    """Print the share of windows of real recordings that pass for steady, per class."""
    print("real recordings that pass for steady, windows of 2 s:")
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = Counter[str]()
        for file in sorted(path for path in place.iterdir() if path.suffix in (".ogg", ".wav", ".flac")):
            sound, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
            for first in range(0, len(sound) - 2 * rate_hz + 1, rate_hz):
                found[meaningless(sound[first : first + 2 * rate_hz], rate_hz)] += 1
        if total := sum(found.values()):
            print(f"  {place.name:16} {found[STEADY] / total:5.1%} of {total}, silence {found['silence'] / total:5.1%}")


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def share(scenes: Sequence[Counts], part: str, whole: str) -> str:
    """A share over all scenes with its interval."""
    parts = np.array([[getattr(scene, part), getattr(scene, whole)] for scene in scenes])
    drawn = np.random.default_rng(0).integers(0, len(scenes), (RESAMPLED, len(scenes)))
    sums = parts[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1), [0.025, 0.975])
    total = parts.sum(axis=0)
    return f"{total[0] / max(total[1], 1):6.1%} of {total[1]:4} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
