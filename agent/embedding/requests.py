"""What others ask of the model beside ticks, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = tuple[NDArray[np.float32], float]
"""Audio rows [n, channels] with full scale -1..1, and their rate in Hz."""


class EmbedError(ValueError):
    """What was sent cannot be embedded. `field` names it as in EmbedRequest; the message is one line."""

    def __init__(self, message: str, field: str = "request") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, eq=False)
class EmbedAnswer:
    """Unit vectors, float32 [n, D] each, in the order of what was asked."""

    texts: NDArray[np.float32]
    images: NDArray[np.float32]
    audio: NDArray[np.float32]
    model: str
