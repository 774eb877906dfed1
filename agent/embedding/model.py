"""Protocol of the model, wherever it runs, and its results for a tick. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from agent.embedding.budget import Budget
from agent.embedding.requests import Answers
from agent.vectors import Vectors
from agent.windows.window import Tick
from drivers.driver import Modality
from models.files.calibration import Calibration


def hash_in(name: str) -> str:
    """Return the hash of the weights in the name of a model, such as `imagebind_nano 0123456789ab`."""
    return name.rpartition(" ")[2]


class NotFinite(ArithmeticError):
    """The model gave a vector with NaN or infinity for something that was asked of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Results of one tick. Every vector is finite, of length 1, and read-only: ticks may share it."""

    tick: Tick
    vectors: dict[str, Vectors]
    """Sensor -> float32 [D]."""
    patches: dict[str, Vectors]
    """Vision sensor -> float32 [G, G, D] over the rows and columns of `models.extent.CropMap`'s crop."""
    fused: Vectors | None
    """Normalised mean of the vectors, [D]; None when there is none."""
    inference_ms: float
    """Preprocessing and model, this tick's part of the batch."""
    missing: dict[str, str]
    """Sensor -> why it has no vector."""
    costs_ms: Mapping[Modality, float] = field(default_factory=dict)
    """Of `inference_ms`, what each modality took; not those that were computed before, or left out."""
    declined: frozenset[Modality] = frozenset()
    """Modalities that the budget did not allow."""
    meaningless: Mapping[str, str] = field(default_factory=dict)
    """Sensor -> reason for which its sound means nothing: from a log, or filled in by perception."""


class Model(Answers, Protocol):
    """Ticks, texts, pictures and sounds in, unit vectors out. One thread at a time.

    What is asked raises NotFinite for a vector that is not finite, and ModelGone.
    """

    @property
    def device(self) -> object:
        """Device that it runs on; its `str` is shown to users."""
        ...

    @property
    def dimensions(self) -> int:
        """D, the length of every vector."""
        ...

    @property
    def gone(self) -> str:
        """Reason for taking no requests at present, one line; empty when it takes them. May be read from any thread."""
        ...

    def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
        """One result a tick, in order; all modalities without a budget. What the model raises is raised, or ModelGone.

        A window that cannot be used, or whose vector is not finite, is missing with the reason.
        """
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Of the weights; None without one."""
        ...

    def logit_scales(self, overrides: Mapping[Modality, float] | None = None) -> dict[Modality, float]:
        """The factor on the cosine of a window and a text, per modality."""
        ...

    def close(self) -> None:
        """Let go of it; what is running raises ModelGone if it runs elsewhere. May be called again, by any thread."""
        ...


def fuse(vectors: Sequence[Vectors]) -> Vectors | None:
    """Normalised mean of unit vectors [D]; None without any, or when they cancel."""
    if not vectors:
        return None
    mean = np.mean(vectors, axis=0)
    norm = float(np.linalg.norm(mean))
    return (mean / np.float32(norm)).astype(np.float32) if norm > 1e-6 else None
