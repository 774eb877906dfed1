"""Reduction of ticks when the model cannot keep up, step by step in a stated order. Pure.

First what costs least to miss: the older clips of a long audio window; then thermal and depth, then IMU, then vision
and audio come to every second tick, the latter two in turns if need be; then all of them to every fourth, and every
eighth. A window that is left out is missing, with LEFT_OUT as the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from agent.windows.window import Tick, Window
from common.window_lengths import AUDIO_WINDOW_S
from drivers.driver import Modality

LEFT_OUT = "left out: overloaded"
"""Reason of a window that is left out although its sensor has samples."""
CYCLE = 8
"""Ticks, after which every step of the ladder is where it began."""
IMPORTANCE: tuple[Modality, ...] = ("vision", "audio", "imu", "depth", "thermal")
"""In this order modalities are embedded, and in the other one they are left out."""
CLIPS_MAX = 3
"""Of a long audio window, as many as the published recipe takes of a recording."""

_ORDINALS = {2: "second", 4: "fourth", 8: "eighth"}


@dataclass(frozen=True, slots=True)
class Turn:
    """The ticks of a cycle that a modality comes to."""

    every: int = 1
    first: int = 0

    def comes(self, count: int) -> bool:
        """Return whether the tick with this number, counting those that are embedded, is one of them."""
        return count % self.every == self.first


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the ladder, with those below it."""

    reduced: tuple[str, ...] = ()
    """Parts that are left out, in words, the earliest first."""
    one_clip: bool = False
    turns: Mapping[Modality, Turn] = field(default_factory=dict)
    """Of those that do not come to every tick."""

    def comes(self, modality: Modality, count: int) -> bool:
        """Return whether a modality is embedded at a tick."""
        turn = self.turns.get(modality)
        return turn is None or turn.comes(count)


def ladder(modalities: Collection[Modality], *, long_audio: bool) -> tuple[Step, ...]:
    """All steps for the modalities that there are, the lowest, which leaves out nothing, first.

    `long_audio`: windows of audio are longer than one clip.
    """
    steps = [Step()]
    words: dict[str, str] = {}
    turns: dict[Modality, Turn] = {}

    def add(group: tuple[Modality, ...], every: int, firsts: tuple[int, ...], manner: str = "") -> None:
        present = [m for m in group if m in modalities]
        if not present or (manner and len(present) < 2):
            return
        words["+".join(group)] = f"{' and '.join(present)} every {_ORDINALS[every]} tick{manner}"
        turns.update((m, Turn(every, first)) for m, first in zip(group, firsts, strict=True) if m in present)
        steps.append(Step(tuple(words.values()), steps[-1].one_clip, dict(turns)))

    if long_audio and "audio" in modalities:
        words["clips"] = "one audio clip a window"
        steps.append(Step(tuple(words.values()), one_clip=True))
    for every in _ORDINALS:
        # Vision and audio come to even ticks, the others to odd ones.
        add(("thermal", "depth"), every, (1, 1))
        add(("imu",), every, (every // 2 + 1 if every > 2 else 1,))
        if every == 2:
            # Together as long as that goes: a sound is found in the picture of the same tick.
            add(("vision", "audio"), every, (0, 0))
        add(("vision", "audio"), every, (0, every // 2), ", in turns")
        if len({"vision", "audio"} & set(modalities)) == 1 and every > 2:
            add(("vision", "audio"), every, (0, 0))
    return tuple(steps)


def reduced(tick: Tick, step: Step, count: int) -> Tick:
    """The tick without what a step leaves out of it; the tick itself when that is nothing."""
    if not step.reduced:
        return tick
    return replace(tick, windows={sensor: _reduced(w, step, count) for sensor, w in tick.windows.items()})


def _reduced(window: Window, step: Step, count: int) -> Window:
    if window.data is None:
        return window
    if not step.comes(window.modality, count):
        return replace(window, data=None, missing=LEFT_OUT)
    if step.one_clip and window.modality == "audio":
        return replace(window, data=window.data[-round(AUDIO_WINDOW_S * window.rate_hz) :])
    return window
