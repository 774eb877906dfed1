"""Budget of a tick that must be embedded in time: a value, so that it means the same in another process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from drivers.driver import Modality


@dataclass(frozen=True, slots=True)
class Budget:
    """The time that the newest tick has, and what its modalities are expected to take. Times are in seconds."""

    age_s: float
    """Of the tick when the model is asked."""
    most_age_s: float
    """When its embedding is published."""
    costs_s: Mapping[Modality, float] = field(default_factory=dict)
    """What each modality is expected to take, as far as that is known."""
    overdue: frozenset[Modality] = frozenset()
    """Those that are embedded when they are the first of the tick, in time or not."""

    def allows(self, modality: Modality, elapsed_s: float, so_far_s: Mapping[Modality, float]) -> bool:
        """Return whether a modality is to be embedded, so long after the model was asked.

        `so_far_s` is what others of the tick have taken: when they were slower than expected, this one will be.
        """
        if not so_far_s and modality in self.overdue:
            return True
        expected_s = sum(self.costs_s.get(m, 0.0) for m in so_far_s)
        slower = max(1.0, sum(so_far_s.values()) / expected_s) if expected_s else 1.0
        return self.age_s + elapsed_s + self.costs_s.get(modality, 0.0) * slower <= self.most_age_s

    def later(self, by_s: float) -> Self:
        """Return the rest of the budget after so long."""
        return replace(self, age_s=self.age_s + by_s)
