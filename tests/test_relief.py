"""Overload on a simulated clock: what the model cannot keep up with is left out, and comes back when there is room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.embedding.reduction import CYCLE, IMPORTANCE, LEFT_OUT, Step, ladder, reduced
from agent.embedding.relief import Relief, Took
from agent.windows.window import Tick, Window
from drivers.driver import MODALITIES, Modality

SHARES: dict[Modality, float] = {"vision": 0.5, "audio": 0.26, "imu": 0.08, "depth": 0.08, "thermal": 0.08}
"""Of the time that a whole tick takes."""
SETTLE = 0.2
"""Of a hop: how long after its time a tick is cut."""


@dataclass
class Told:
    """One embedding that was published."""

    tick: int
    age_hops: float
    embedded: frozenset[Modality]
    at_s: float


@dataclass
class Machine:
    """A worker with room for one tick, whose model takes `load(t)` hops for a whole tick, on a simulated clock."""

    load: Callable[[float], float]
    hop_s: float = 0.5
    shares: Mapping[Modality, float] = field(default_factory=lambda: SHARES)
    noise: float = 0.05
    relieved: bool = True
    shed: int = 0
    told: list[Told] = field(default_factory=list)
    steps: list[tuple[float, Step]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        rng = np.random.default_rng(7)
        relief = Relief(ladder(self.shares, long_audio=False), self.hop_s)
        now, count, newest = 0.0, 0, -1
        while now < seconds:
            cut = int((now / self.hop_s) - SETTLE)  # the newest tick that has been cut
            if cut <= newest:
                now = (newest + 1 + SETTLE) * self.hop_s
                cut = newest + 1
            self.shed += cut - newest - 1
            newest, began = cut, now
            costs: dict[Modality, float] = {}
            declined: set[Modality] = set()
            budget = relief.budget(now - newest * self.hop_s)
            for modality in [m for m in IMPORTANCE if m in self.shares]:
                if self.relieved and not relief.step.comes(modality, count):
                    continue
                if self.relieved and not budget.allows(modality, now - began, costs):
                    declined.add(modality)
                    continue
                noise = 1 + self.noise * rng.standard_normal()
                costs[modality] = self.shares[modality] * self.load(now) * self.hop_s * noise
                now += costs[modality]
            count += 1
            self.told.append(Told(newest, now / self.hop_s - newest, frozenset(costs), now))
            relief.note(now, Took(costs, now - began, SETTLE * self.hop_s, declined=frozenset(declined)))
            if not self.steps or relief.step is not self.steps[-1][1]:
                self.steps.append((now, relief.step))
        assert newest + 1 == len(self.told) + self.shed

    def ages(self, from_s: float, to_s: float) -> list[float]:
        return [t.age_hops for t in self.told if from_s <= t.at_s < to_s]

    def embedded(self, from_s: float, to_s: float) -> dict[Modality, int]:
        return {m: sum(m in t.embedded for t in self.told if from_s <= t.at_s < to_s) for m in self.shares}


@pytest.mark.parametrize("load", [0.3, 0.8, 0.95])
def test_nothing_is_left_out_of_what_the_machine_can_do(load: float) -> None:
    machine = Machine(lambda _: load, noise=0.02)
    machine.run(120)
    assert [step.reduced for _, step in machine.steps] == [()]
    assert machine.shed == 0


@pytest.mark.parametrize("hop_s", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("load", [1.2, 1.5, 2.0, 3.0])
def test_overload_is_told_in_time_and_ends_with_the_load(load: float, hop_s: float) -> None:
    machine = Machine(lambda t: load if 20 <= t < 80 else 0.5, hop_s)
    machine.run(100)
    late = machine.ages(20, 80)
    assert max(late) <= 2.0
    bare = Machine(lambda t: load if 20 <= t < 80 else 0.5, hop_s, relieved=False)
    bare.run(100)
    assert max(late) < max(bare.ages(20, 80))
    # Every modality still has its turn.
    turns = machine.embedded(30, 80)
    assert min(turns.values()) >= 50 / hop_s / CYCLE - 2
    # All is back.
    back_s = [at for at, step in machine.steps if not step.reduced][-1]
    assert back_s <= 85
    # It does not swing.
    assert len(machine.steps) <= 6


def test_what_is_slow_by_itself_is_still_told_often() -> None:
    machine = Machine(lambda _: 8.0)
    machine.run(120)
    assert min(machine.embedded(60, 120).values()) >= 5


def test_a_load_that_comes_and_goes_does_not_make_it_swing() -> None:
    machine = Machine(lambda t: 2.0 if t % 8 < 4 else 0.5)
    machine.run(240)
    changes = [at for at, _ in machine.steps]
    assert sum(at < 60 for at in changes) > sum(at >= 180 for at in changes)
    assert sum(at >= 180 for at in changes) <= 10


def test_one_slow_tick_is_no_overload() -> None:
    machine = Machine(lambda t: 3.0 if 20 <= t < 20.4 else 0.4)
    machine.run(60)
    assert [step.reduced for _, step in machine.steps] == [()]


def test_it_stands_still_under_a_steady_load() -> None:
    machine = Machine(lambda _: 2.0)
    machine.run(600)
    assert not [at for at, _ in machine.steps if at > 60]


def test_the_ladder_is_climbed_in_the_stated_order() -> None:
    steps = ladder(MODALITIES, long_audio=True)
    assert [step.reduced[-1] for step in steps[1:4]] == [
        "one audio clip a window",
        "thermal and depth every second tick",
        "imu every second tick",
    ]
    assert steps[5].reduced == (
        "one audio clip a window",
        "thermal and depth every second tick",
        "imu every second tick",
        "vision and audio every second tick, in turns",
    )
    assert steps[-1].reduced[1:] == (
        "thermal and depth every eighth tick",
        "imu every eighth tick",
        "vision and audio every eighth tick, in turns",
    )
    for below, above in pairwise(steps):
        taken = [[sum(s.comes(m, i) for i in range(CYCLE)) for m in MODALITIES] for s in (below, above)]
        assert all(more >= less > 0 for more, less in zip(*taken, strict=True))
    # Vision and audio never come together in turns.
    assert not any(steps[-1].comes("vision", i) and steps[-1].comes("audio", i) for i in range(CYCLE))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_single_modality_has_a_ladder_too(modality: Modality) -> None:
    steps = ladder([modality], long_audio=False)
    assert [step.reduced for step in steps[1:]] == [
        (f"{modality} every {nth} tick",) for nth in ("second", "fourth", "eighth")
    ]


def window(modality: Modality, data: NDArray[np.float32] | None, missing: str = "") -> Window:
    return Window(modality, modality, data, 100.0 if modality == "audio" else 0.0, 5, missing)


def test_a_window_that_is_left_out_says_so_and_is_never_an_old_one() -> None:
    step = Step(
        ("one audio clip a window", "thermal every second tick"), True, ladder(["thermal"], long_audio=False)[1].turns
    )
    rows = np.arange(1000, dtype=np.float32)[:, None]
    windows = {
        "ear": window("audio", rows),
        "heat": window("thermal", np.zeros((2, 2), np.float32)),
        "eye": window("vision", None, "lost"),
    }
    tick = Tick(3, 30, windows, 40)
    left = reduced(tick, step, 0)
    assert (left.index, left.t_ns, left.settled_ns) == (3, 30, 40)
    heat, ear, eye = left.windows["heat"], left.windows["ear"].data, left.windows["eye"]
    assert (heat.data, heat.missing, heat.newest_ns) == (None, LEFT_OUT, 5)
    assert ear is not None
    assert ear[:, 0].tolist() == list(range(800, 1000))  # the newest 2 s
    assert eye.missing == "lost"
    assert reduced(tick, step, 1).windows["heat"].data is not None
    assert reduced(tick, Step(), 0) is tick
