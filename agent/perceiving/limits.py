"""Limits that hold for one set of weights: when a sound is in view, and whether steady sound means anything.

They lie beside the weights, in a file that `sensebind weights limits` writes from scenes of known truth, and hold for
the weights whose hash the file names.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InView:
    """Probability that what sounds is in the picture, by the cosine of the sound and the patches most like it.

    A logistic curve over the mean cosine of the best patches; as many sounds of its scenes were in view as were not.
    """

    slope: float
    offset: float

    def probability(self, similarity: float, log_odds: float = 0.0) -> float:
        """Return 0..1; `log_odds` are those that something else gives, such as a direction."""
        logit = self.slope * similarity + self.offset + log_odds
        return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


@dataclass(frozen=True, slots=True)
class WeightLimits:
    """Likeness from which a sound is in view, and meaning of steady sound, for some weights."""

    in_view: InView | None = None
    """None where nothing is known: whatever stands out in a picture then counts as the source."""
    steady_means_something: bool = True
    """False for weights that give noise, hum and tones the name of a thing, since they were never trained on them."""


UNKNOWN: Final = WeightLimits()


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of limits."""

    weights: str
    """Hash of the weights' content."""
    made_by: str
    """Command."""
    seeds: str
    """Seeds of the synthetic world, such as "3000 to 3039"."""
    sounds_in_view: int
    sounds_out_of_view: int
    kept: float
    """Share of the sounds in view that are found to be, in those scenes."""
    let_through: float
    """Share of the others that are, too."""
    steady_named: float
    """Share of windows of noise, hum and tones in which the model heard a thing rather than noise or silence."""


def path_beside(weights: Path) -> Path:
    """Return the path of the limits of weights, a file or a folder."""
    return weights / "limits.json" if weights.is_dir() else weights.with_suffix(".limits.json")


def write_limits(path: Path, limits: WeightLimits, provenance: Provenance) -> None:
    """Write a file. Raises OSError."""
    path.write_text(json.dumps({"limits": asdict(limits), "provenance": asdict(provenance)}, indent=2) + "\n")


def read_limits(weights: Path, content_hash: str) -> WeightLimits:
    """Return the limits beside weights of that hash; UNKNOWN, with a warning, where none can be used."""
    path = path_beside(weights)
    try:
        limits, of = _parsed(json.loads(path.read_bytes()))
        if of != content_hash:
            raise ValueError(f"is of other weights ({of}, and these are {content_hash})")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be used: {error}"
        log.warning(
            "%s: %s; so whatever stands out in a picture counts as in view, and steady noise is scored like any other "
            "sound; `sensebind weights limits` makes it",
            path,
            " ".join(reason.split())[:200],
        )
        return UNKNOWN
    return limits


def _parsed(tree: Any) -> tuple[WeightLimits, str]:
    limits, view = tree["limits"], tree["limits"]["in_view"]
    in_view = None
    if view is not None:
        slope, offset = float(view["slope"]), float(view["offset"])
        if not (math.isfinite(slope) and math.isfinite(offset) and slope > 0):
            raise ValueError(f"slope {slope} and offset {offset} are not a rising curve")
        in_view = InView(slope, offset)
    steady = limits["steady_means_something"]
    if not isinstance(steady, bool):
        raise TypeError(f"steady_means_something is {steady!r}, not true or false")
    return WeightLimits(in_view, steady), str(tree["provenance"]["weights"])
