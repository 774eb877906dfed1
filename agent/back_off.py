"""Waits between attempts."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_S = 0.1
CAP_S = 1.0
"""A source that returns must be seen within 2 s: this wait, plus the start of a process and the opening of a device."""


@dataclass
class BackOff:
    """Waits that double up to a cap, each shortened by up to a quarter so that many who try do not do so in step."""

    cap_s: float = CAP_S
    attempts: int = 0

    def next_s(self) -> float:
        """The wait before the next attempt."""
        wait_s = min(self.cap_s, FIRST_S * 2.0 ** min(self.attempts, 10))
        self.attempts += 1
        return wait_s * random.uniform(0.75, 1.0)

    def reset(self) -> None:
        """It worked: begin again with the shortest wait."""
        self.attempts = 0
