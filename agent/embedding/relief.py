"""Decides how much is left out of ticks so that the newest are told in time. Pure: measured times in, a step out.

    took more than a hop, twice in a row or on average -> the lowest step that is expected to fit
    a lower step is expected to fit with room to spare, for a while -> that one

What a step costs is computed from what each modality took when it came last. A load that comes and goes does not make
the ladder swing: the while doubles with every relapse.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from agent.embedding.budget import Budget
from agent.embedding.reduction import CLIPS_MAX, CYCLE, IMPORTANCE, Step
from drivers.driver import Modality

MOST_AGE_HOPS = 2.0
"""Of an embedding when it is published."""
PLANNED_AGE_HOPS = 1.8
"""Of which some is kept for what cannot be foreseen."""
MOST_PUT_OFF = 2
"""Times in a row that a modality waits for a tick in which it can be told in time."""
FULL_LOAD = 0.9
"""Share of the time that ticks may take on a step that is climbed to."""
ROOM_LOAD = 0.8
"""On a lower step, to go down to it."""
CHANGED = 1.5
"""Times slower or faster than the last time is a change of the machine and not noise."""
ROOM_S = 1.0
"""For how long a lower step must be expected to fit; two hops at least."""
LONGEST_ROOM_S = 32.0
"""However often the load comes back."""
RELAPSE_S = 10.0
"""A climb so soon after a step down is a relapse."""


@dataclass(frozen=True, slots=True)
class Took:
    """Durations of one tick, in seconds."""

    costs: Mapping[Modality, float]
    """Of the modalities that were embedded."""
    total_s: float
    """Of the model, or of what follows from its vectors on another thread: the longer of the two."""
    settle_s: float
    """From its time to when its windows were cut."""
    absent: frozenset[Modality] = frozenset()
    """Modalities that no sensor gave, so that they cost nothing."""
    declined: frozenset[Modality] = frozenset()
    """Modalities that the budget did not allow."""


class Relief:
    """The step of the ladder on which ticks are embedded. To be used by one thread; others may read."""

    def __init__(self, steps: tuple[Step, ...], hop_s: float) -> None:
        """Begins on the lowest of the steps."""
        self._steps, self._hop_s = steps, hop_s
        self._at = 0
        self._strained = False
        self._last: dict[Modality, deque[float]] = {}
        self._now: dict[Modality, float] = {}
        """Present duration of each of them."""
        self._put_off: Counter[Modality] = Counter()
        self._rest: deque[float] = deque([0.0], maxlen=2)
        self._took: deque[float] = deque(maxlen=4)
        self._settle_s = 0.0
        self._room_since_s: float | None = None
        self._room_at = 0
        self._room_s = ROOM_S
        self._went_down_s = -RELAPSE_S
        self._climbed_s = 0.0

    @property
    def step(self) -> Step:
        """The one that holds for the next tick."""
        return self._steps[self._at]

    @property
    def overloaded(self) -> bool:
        """True if something is left out, or ought to be."""
        return self._at > 0 or self._strained

    def cost_s(self, modality: Modality) -> float:
        """Return the expected duration of a modality in seconds; 0 if it is unknown."""
        last = self._last.get(modality)
        return max(*last, self._now[modality]) if last else 0.0

    def budget(self, age_s: float) -> Budget:
        """Return the budget of a tick that is so old by now. The first modality of a tick is not put off for ever."""
        costs_s = {m: self.cost_s(m) for m in self._last}
        hopeless = {m for m in IMPORTANCE if self._settle_s + self.cost_s(m) > MOST_AGE_HOPS * self._hop_s}
        waited = {m for m, times in self._put_off.items() if times >= MOST_PUT_OFF}
        return Budget(age_s, PLANNED_AGE_HOPS * self._hop_s, costs_s, frozenset(hopeless | waited))

    def note(self, now_s: float, took: Took) -> None:
        """Take in what a tick took, and change the step if that is due."""
        self._note_costs(took.costs)
        for modality in took.costs:
            self._put_off.pop(modality, None)
        self._put_off.update(took.declined)
        for modality in took.absent:
            self._last.pop(modality, None)
            self._now.pop(modality, None)
        self._rest.append(max(0.0, took.total_s - sum(took.costs.values())))
        self._took.append(took.total_s)
        self._settle_s = took.settle_s
        if self._is_strained():
            self._climb(now_s)
        else:
            self._strained = False
            self._descend(now_s)

    def _note_costs(self, costs: Mapping[Modality, float]) -> None:
        expected_s = sum(self._now.get(m, 0.0) for m in costs)
        changed = sum(costs.values()) / expected_s if expected_s else 1.0
        if not 1 / CHANGED < changed < CHANGED:
            # The machine, more likely than each of them by itself: so for those too whose turn has not come.
            self._now = {m: cost_s * changed for m, cost_s in self._now.items()}
        for modality, cost_s in costs.items():
            self._last.setdefault(modality, deque(maxlen=2)).append(cost_s)
            self._now[modality] = cost_s

    def _is_strained(self) -> bool:
        took, hop_s = list(self._took), self._hop_s
        twice = len(took) >= 2 and min(took[-2:]) > hop_s
        return twice or (len(took) == self._took.maxlen and sum(took) / len(took) > hop_s)

    def _climb(self, now_s: float) -> None:
        self._room_since_s = None
        top = len(self._steps) - 1
        if self._at == top:
            self._strained = True
            return
        if now_s - self._went_down_s < RELAPSE_S:
            self._room_s = min(2 * self._room_s, LONGEST_ROOM_S)
        above = range(self._at + 1, top + 1)
        costs = {m: self.cost_s(m) for m in self._last}
        fitting = [at for at in above if self._fits(at, costs, FULL_LOAD)]
        in_load = [at for at in above if self._load(at, costs) <= FULL_LOAD]
        self._move((fitting or in_load or [top])[0])
        self._climbed_s = now_s

    def _descend(self, now_s: float) -> None:
        if now_s - max(self._climbed_s, self._went_down_s) > 2 * LONGEST_ROOM_S:
            self._room_s = ROOM_S
        lower = next((at for at in range(self._at) if self._fits(at, self._now, ROOM_LOAD)), None)
        if lower is None:
            self._room_since_s = None
            return
        if self._room_since_s is None:
            self._room_since_s, self._room_at = now_s, lower
        self._room_at = max(self._room_at, lower)
        if now_s - self._room_since_s >= max(self._room_s, 2 * self._hop_s):
            # The highest of the steps that were the lowest to fit meanwhile.
            self._move(self._room_at)
            self._went_down_s = now_s

    def _move(self, at: int) -> None:
        self._at = at
        self._room_since_s = None
        self._took.clear()

    def _fits(self, at: int, costs: Mapping[Modality, float], most_load: float) -> bool:
        in_time = max(self._ages(at, costs)) <= PLANNED_AGE_HOPS * self._hop_s
        return in_time and self._load(at, costs) <= most_load

    def _load(self, at: int, costs: Mapping[Modality, float]) -> float:
        """The share of the time that ticks take on a step."""
        return sum(self._cycle(at, costs)) / (CYCLE * self._hop_s)

    def _ages(self, at: int, costs: Mapping[Modality, float]) -> list[float]:
        """Return the ages of a cycle's ticks at publication; each waits for the one before."""
        free_s, ages = 0.0, []
        for i, took_s in enumerate(self._cycle(at, costs) * 2):
            free_s = max(free_s, i * self._hop_s + self._settle_s) + took_s
            ages.append(free_s - i * self._hop_s)
        return ages[CYCLE:]

    def _cycle(self, at: int, costs: Mapping[Modality, float]) -> list[float]:
        """Return the durations of a cycle's ticks on a step."""
        step = self._steps[at]
        clips = CLIPS_MAX if self.step.one_clip and not step.one_clip else 1
        expected = {m: cost_s * (clips if m == "audio" else 1) for m, cost_s in costs.items()}
        rest_s = min(self._rest)
        return [rest_s + sum(c for m, c in expected.items() if step.comes(m, i)) for i in range(CYCLE)]
