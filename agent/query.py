"""A query: what the user asks to be told of, and when it counts as seen or heard."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import cast

from drivers.driver import MODALITIES, Modality

MAX_TEXT = 1000
"""Characters. CLIP reads 77 tokens, about 60 words, and drops the rest."""
MAX_SECONDS = 3600.0
LEAST_THRESHOLD = 1e-6
"""Softmax scores of what is not there come close to it; a lower one says nothing."""
OFF_RATIO = 0.6
"""`threshold_off` over `threshold_on` when only the latter is given."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class QueryError(ValueError):
    """A query cannot be used. `field` names the field at fault; the message is one line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Query:
    """What the user asks to be told of. Raises QueryError for a value that cannot work."""

    id: str
    text: str
    modalities: tuple[Modality, ...] = ()
    """Which may carry it; empty: every one that is present."""
    threshold_on: float = 0.6
    threshold_off: float = cast("float", None)
    """None when it is made, and only then: OFF_RATIO of `threshold_on`."""
    min_duration_s: float = 0.5
    """On for this long before the alert begins: two ticks of the default hop, so that one odd window is no alert."""
    cooldown_s: float = 2.0
    """After an end, before the next begin."""
    clip: bool = False
    """Save what was recorded around the begin of its alerts."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise QueryError("id", f"{self.id[:80]!r} is not 1 to 64 letters, digits, '_', '.', ':' or '-'")
        if not self.text.strip():
            raise QueryError("text", "is empty; say in words what to watch for, for example 'a dog barking'")
        if len(self.text) > MAX_TEXT:
            raise QueryError("text", f"has {len(self.text)} characters; at most {MAX_TEXT} are allowed")
        if not self.text.isprintable():
            raise QueryError("text", "holds a line break or control character; write it on one line")
        if unknown := [m for m in self.modalities if m not in MODALITIES]:
            raise QueryError("modalities", f"{unknown[0]!r} is not one of {', '.join(MODALITIES)}")
        if len(set(self.modalities)) != len(self.modalities):
            raise QueryError("modalities", "names one twice")
        if not 0 < self.threshold_on <= 1:  # also false for nan
            raise QueryError("threshold_on", f"is {self.threshold_on}; it lies over 0 and at most at 1")
        if self.threshold_on < LEAST_THRESHOLD:
            raise QueryError("threshold_on", f"is {self.threshold_on}; below {LEAST_THRESHOLD:g} it would always fire")
        if self.threshold_off is None:
            object.__setattr__(self, "threshold_off", OFF_RATIO * self.threshold_on)
        if not 0 < self.threshold_off <= self.threshold_on:
            raise QueryError(
                "threshold_off",
                f"is {self.threshold_off}; it lies over 0 and at most at threshold_on {self.threshold_on}",
            )
        for field, seconds in (("min_duration_s", self.min_duration_s), ("cooldown_s", self.cooldown_s)):
            if not (math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS):
                raise QueryError(field, f"is {seconds}; it lies between 0 and {MAX_SECONDS:.0f}")


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A query that is being watched for, and what its user should know of it."""

    query: Query
    warnings: tuple[str, ...] = ()
