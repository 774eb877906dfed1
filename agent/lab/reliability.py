"""Reliability of scores: of all ticks with a score of 0.3, the thing is there in three of ten, if 0.3 is a probability.

The expected calibration error (Naeini 2015) is the mean distance of the two over bins of a tenth, weighted by ticks.
Scores near 0 are left out: nine ticks of ten hold nothing, and would hide every error of the others.
"""

from __future__ import annotations

from collections import Counter
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
    """Sums by modality of scores from LEAST_SCORE on, at ticks at which it is certain whether the thing was there."""

    off: dict[Modality, NDArray[np.float64]] = field(default_factory=dict)
    """Scores less truths (0 or 1), summed in each bin, [BINS]."""
    counts: Counter[Modality] = field(default_factory=Counter)
    """Scores."""

    def observe(self, scene: Scene, start_ns: int, events: Iterable[pb.Event], kinds: Mapping[str, str]) -> None:
        """Take the scores of a run; arguments as of `agent.lab.assessment.assess`."""
        for event in events:
            if not event.HasField("embedding"):
                continue
            scores, t_s = scores_of(event.embedding), (event.capture_ns - start_ns) / 1e9
            for query_id in scores.query_ids:
                for modality, score in scores.of(query_id).items():
                    told = verdict(scene, t_s, kinds[query_id], FORMS[modality].sense)
                    if told is not Verdict.UNSURE and score >= LEAST_SCORE:
                        self._sums(modality)[min(int(score * BINS), BINS - 1)] += score - (told is Verdict.YES)
                        self.counts[modality] += 1

    def add(self, other: Reliability) -> None:
        """Sum up several scenes."""
        for modality, off in other.off.items():
            self._sums(modality)[:] += off
        self.counts.update(other.counts)

    def error(self, modality: Modality) -> float:
        """Return the expected calibration error; nan without a score."""
        count = self.counts[modality]
        return float(np.abs(self._sums(modality)).sum()) / count if count else float("nan")

    def _sums(self, modality: Modality) -> NDArray[np.float64]:
        return self.off.setdefault(modality, np.zeros(BINS))
