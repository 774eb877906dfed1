"""Condition of the model, judged by the worker's recent progress. Pure: facts in, a condition out.

A model is FAILING when every tick of the last seconds has failed on it, and as long as its process is gone; HUNG while
one tick or request does not come back; OVERLOADED while something is left out to keep up. A tick in which no sensor has
anything says nothing of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["loading", "ok", "overloaded", "failing", "hung"]

HUNG_S = 5.0
"""For one tick, at least; longer for a model whose ticks take long."""
HUNG_TIMES = 3.0
"""The 99th percentile of its last ticks."""
FAILING_S = 5.0
"""In which every tick failed, two or more."""
RECOVERED_S = 1.0
"""Time without another failure after FAILING: one tick that works between many that fail is not a recovery."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the worker, and results of the last ticks. Times are of the worker's clock."""

    now_ns: int
    running: str = ""
    """Work on the model: "tick 12", "a request"; empty when nothing runs."""
    running_since_ns: int = 0
    running_ticks: int = 0
    """That share the pass which has not come back."""
    failures: int = 0
    """Ticks that have failed since the last one that did not."""
    failing_since_ns: int = 0
    """Time of the first of these failures."""
    fault: str = ""
    """Reason of the last of them, one line."""
    gone: str = ""
    """Why the model takes nothing at present, one line: its process has ended. Empty when it does."""


@dataclass(frozen=True, slots=True)
class Load:
    """Durations of ticks, and the parts that are left out."""

    inference_ms: Sequence[float] = ()
    """Of the last ticks."""
    age_s: float = 0.0
    """Of the newest tick when its embedding was published."""
    overloaded: bool = False
    reduced: tuple[str, ...] = ()
    """Parts that are left out, the earliest first."""


@dataclass(frozen=True, slots=True)
class Condition:
    """State of the model, as `ModelState` publishes it."""

    state: State = "loading"
    reason: str = ""
    """One line; empty when `ok`."""
    reduced: tuple[str, ...] = ()
    inference_ms: float = 0.0
    """Median of the last ticks."""
    age_s: float = 0.0

    @property
    def works(self) -> bool:
        """True if ticks are embedded at all."""
        return self.state in ("ok", "overloaded")


LOADING = Condition("loading", "the model is loading")


class Judge:
    """Tells a model's condition again and again; remembers what hysteresis needs."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._failing = False
        self._failed_ns = 0

    def judge(self, progress: Progress, load: Load) -> Condition:
        """Return the present condition."""
        inference_ms = _quantile(load.inference_ms, 0.5)
        state, reason = self._state(progress, load, inference_ms)
        return Condition(state, reason, load.reduced, inference_ms, load.age_s)

    def _state(self, progress: Progress, load: Load, inference_ms: float) -> tuple[State, str]:
        if progress.failures:
            self._failed_ns = progress.now_ns
            failing_s = (progress.now_ns - progress.failing_since_ns) / 1e9
            self._failing = self._failing or (progress.failures > 1 and failing_s >= FAILING_S)
        elif progress.now_ns - self._failed_ns >= RECOVERED_S * 1e9:
            self._failing = False
        if progress.gone:
            return "failing", progress.gone
        running_s = (progress.now_ns - progress.running_since_ns) / 1e9 if progress.running else 0.0
        if running_s >= patience_s(load.inference_ms, progress.running_ticks):
            return "hung", f"has not come back for {running_s:.1f} s from {progress.running}"
        if self._failing:
            fault = f"{progress.failures} ticks in a row, the last one on: {progress.fault}"
            return "failing", f"fails on every tick: {fault}" if progress.failures else "has just come back"
        if load.overloaded:
            left_out = "; ".join(load.reduced)
            return "overloaded", f"takes {inference_ms:.0f} ms a tick" + (f"; left out: {left_out}" if left_out else "")
        return "ok", ""


def patience_s(inference_ms: Sequence[float], ticks: int = 1) -> float:
    """Return the time for so many ticks after which the model counts as hung."""
    return max(HUNG_S, HUNG_TIMES * _quantile(inference_ms, 0.99) / 1e3) * max(1, ticks)


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] if ordered else 0.0
