"""Reliability of scores: of all ticks with a score of 0.3, the thing is there in three of ten, if 0.3 is a probability.

The expected calibration error (Naeini 2015) is the mean distance of the two over bins of a tenth, weighted by ticks.
Scores near 0 are left out: nine ticks of ten hold nothing, and would hide every error of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.lab.assessment import Verdict, verdict
from agent.scores import scores_of
from drivers.driver import Modality
from drivers.forms import FORMS
from protos import perception_pb2 as pb
from world.scene import Scene

BINS = 10
LEAST_SCORE = 0.05


@dataclass
class Reliability:
    """Scores of ticks at which it is certain whether the thing was there, by modality."""

    scores: dict[Modality, list[float]] = field(default_factory=dict)
    true: dict[Modality, list[bool]] = field(default_factory=dict)

    def observe(self, scene: Scene, start_ns: int, events: Iterable[pb.Event], kinds: Mapping[str, str]) -> None:
        """Take the scores of a run; arguments as of `agent.lab.assessment.assess`."""
        for event in events:
            if not event.HasField("embedding"):
                continue
            scores, t_s = scores_of(event.embedding), (event.capture_ns - start_ns) / 1e9
            for query_id in scores.query_ids:
                for modality, score in scores.of(query_id).items():
                    told = verdict(scene, t_s, kinds[query_id], FORMS[modality].sense)
                    if told is not Verdict.UNSURE:
                        self.scores.setdefault(modality, []).append(score)
                        self.true.setdefault(modality, []).append(told is Verdict.YES)

    def add(self, other: Reliability) -> None:
        """Sum up several scenes."""
        for modality, scores in other.scores.items():
            self.scores.setdefault(modality, []).extend(scores)
            self.true.setdefault(modality, []).extend(other.true[modality])

    def error(self, modality: Modality) -> float:
        """Return the expected calibration error over scores of at least LEAST_SCORE; nan without any."""
        scores, true = self._counted(modality)
        if not len(scores):
            return float("nan")
        bins = np.minimum((scores * BINS).astype(np.intp), BINS - 1)
        off = np.bincount(bins, scores - true, BINS)
        return float(np.abs(off).sum() / len(scores))

    def counted(self, modality: Modality) -> int:
        """Return the number of scores that the error is over."""
        return len(self._counted(modality)[0])

    def _counted(self, modality: Modality) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scores = np.array(self.scores.get(modality, []), np.float64)
        true = np.array(self.true.get(modality, []), np.float64)
        kept = scores >= LEAST_SCORE
        return scores[kept], true[kept]
