"""Do other words for the same thing work: is it found, and does nothing else fire?

    python -m benchmarks.paraphrases [--set held] [--first 700] [--seeds 10] [--seconds 60]

Runs the whole pipeline, offline, on scenes of the synthetic world (training uses seeds 10000 and up), with a query for
each paraphrase of `paraphrase_sets` and for each caption that it stands for, and holds the alerts against the truth. A
paraphrase is found if it alerts in at least 80 % of the episodes of its kind by its first sense: heard for a kind that
sounds, else seen, and felt for a motion. It fires elsewhere if its false alarms, of all senses, are more than those of
the caption and one more. A paraphrase that is refused fails both. Texts that are to be refused, or warned of, are
counted as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent.commands.demo import scene_of
from agent.config.parse import synthetic
from agent.lab.assessment import Verdict, intervals, verdict
from agent.query import Query
from agent.run import build
from agent.run.to_the_end import events_of
from benchmarks.paraphrase_sets import HELD, RELATED, UNKNOWN, WRITTEN
from drivers.driver import Modality
from models.files import store
from models.vocabulary import Vocabulary, vocabulary_of
from world.captions import MOTIONS
from world.kinds import KINDS
from world.scene import Scene

LEAST_FOUND = 0.8
MOST_PER_HOUR = 3.0
MOTION_S = 2.0
"""A motion is certainly felt when it has lasted for this long."""
IMU_S = 5.0
MOST_EVENTS = 1_000_000
SEEN_BY: tuple[Modality, ...] = ("vision", "depth", "thermal")

Truths = Sequence[Verdict]


@dataclass
class Row:
    """One text, and what it did in all scenes. Alarms are of all senses."""

    kind: str
    text: str
    read_as: str = ""
    refused: bool = False
    found: int = 0
    missed: int = 0
    alarms: int = 0
    """Alarms while nothing of its kind was there."""

    @property
    def share(self) -> float:
        """Share of the episodes that were found."""
        return self.found / (self.found + self.missed) if self.found + self.missed else float("nan")


def main() -> None:
    """Print a row for each paraphrase, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("written", "held"), default="held")
    parser.add_argument("--first", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threshold", type=float, default=None)
    arguments = parser.parse_args()
    vocabulary = vocabulary_of(store.find("imagebind_nano"))
    assert vocabulary is not None
    paraphrases = {"written": WRITTEN, "held": HELD}[arguments.set]
    rows = [_row(vocabulary, kind, text) for kind, texts in paraphrases.items() for text in texts]
    captions = {(row.kind, row.read_as): Row(row.kind, row.read_as, row.read_as) for row in rows if not row.refused}
    asked = [row for row in [*rows, *captions.values()] if not row.refused]
    hours = arguments.seeds * arguments.seconds / 3600
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        _measure(seed, arguments.seconds, asked, arguments.threshold)
    right = 0
    print(f"{'kind':13} {'found':>9} {'alarms':>6}  {'as caption':>14}  text")
    for row in rows:
        caption = captions.get((row.kind, row.read_as), row)
        works = not row.refused and row.share >= LEAST_FOUND
        quiet = not row.refused and row.alarms <= caption.alarms + 1
        right += works and quiet
        found = "refused" if row.refused else f"{row.found}/{row.found + row.missed}"
        beside = f"{caption.found}/{caption.found + caption.missed} {caption.alarms:4}"
        fault = "" if works and quiet else "  <- " + ("not found" if not works else "fires elsewhere")
        print(f"{row.kind:13} {found:>9} {row.alarms:6}  {beside:>14}  {row.text!r} -> {row.read_as!r}{fault}")
    print(f"{right} of {len(rows)} paraphrases are found and do not fire elsewhere ({hours:.2f} h)")
    quiet = sum(not row.refused and row.alarms <= MOST_PER_HOUR * hours for row in rows)
    alarms = sum(row.alarms for row in rows) / len(rows) / hours
    print(f"with at most {MOST_PER_HOUR:g} false alarms an hour: {quiet}; all: {alarms:.1f} an hour in the mean")
    refused = sum(bool(vocabulary.read(text).unknown) for text in UNKNOWN)
    warned = sum(bool(vocabulary.read(text).mixed) for text in RELATED)
    print(
        f"refused: {refused} of {len(UNKNOWN)} texts of unknown words; "
        f"warned of: {warned} of {len(RELATED)} new relations"
    )


def _row(vocabulary: Vocabulary, kind: str, text: str) -> Row:
    reading = vocabulary.read(text)
    return Row(kind, text, reading.text, bool(reading.unknown))


def _measure(seed: int, seconds: float, rows: Sequence[Row], threshold: float | None) -> None:
    """Add what the texts did in one scene."""
    config = synthetic(seed, pace="fast", duration_s=seconds)
    queries = [
        Query.of_tree({"id": f"t{i}", "text": row.text, "threshold_on": threshold}) for i, row in enumerate(rows)
    ]
    pipeline = build.offline(replace(config, queries=tuple(queries)))
    try:
        pipeline.load_model()
        events = list(events_of(pipeline, max_waiting=MOST_EVENTS))
    finally:
        pipeline.stop()
    start_ns = pipeline.clock.start_ns
    times_ns = [event.capture_ns for event in events if event.HasField("embedding")]
    scene = scene_of(config)
    truths = {kind: list(_truths(scene, kind, times_ns, start_ns)) for kind in {row.kind for row in rows}}
    for query, row in zip(queries, rows, strict=True):
        senses = truths[row.kind]
        first, truth = senses[0]
        _count(row, times_ns, truth, intervals(events, query.id, first, times_ns[-1]))
        for modality, verdicts in senses:
            for begin, end in intervals(events, query.id, modality, times_ns[-1]):
                during = [v for t, v in zip(times_ns, verdicts, strict=True) if begin <= t <= end]
                row.alarms += bool(during) and all(v is Verdict.NO for v in during)


def _count(row: Row, times_ns: Sequence[int], truth: Truths, alerts: Sequence[tuple[int, int]]) -> None:
    """Add the episodes of a kind in one scene: runs of ticks at which it is not certainly absent."""
    episode: list[tuple[int, Verdict]] = []
    for t_ns, wanted in [*zip(times_ns, truth, strict=True), (0, Verdict.NO)]:
        if wanted is not Verdict.NO:
            episode.append((t_ns, wanted))
            continue
        if sum(v is Verdict.YES for _, v in episode) >= 2:
            hit = any(begin <= t <= end for t, _ in episode for begin, end in alerts)
            row.found, row.missed = row.found + hit, row.missed + (not hit)
        episode = []


def _truths(scene: Scene, kind: str, times_ns: Sequence[int], start_ns: int) -> Iterator[tuple[Modality, Truths]]:
    """The truth of a kind at each tick, by modality; the one by which it is to be found comes first."""
    times_s = [(t_ns - start_ns) / 1e9 for t_ns in times_ns]
    if kind in MOTIONS:
        yield "imu", [_felt(scene, kind, t_s) for t_s in times_s]
        return
    if KINDS[kind].sound:
        yield "audio", [verdict(scene, t_s, kind, "heard") for t_s in times_s]
    seen = [verdict(scene, t_s, kind, "seen") for t_s in times_s]
    yield from ((modality, seen) for modality in SEEN_BY)


def _felt(scene: Scene, motion: str, t_s: float) -> Verdict:
    recent = [scene.truth(max(0.0, t_s - back)).motion for back in (0.0, MOTION_S / 2, MOTION_S)]
    if all(m == motion for m in recent):
        return Verdict.YES
    longer = {scene.truth(max(0.0, t_s - back / 2)).motion for back in range(int(2 * IMU_S) + 1)}
    return Verdict.UNSURE if motion in longer else Verdict.NO


if __name__ == "__main__":
    main()
