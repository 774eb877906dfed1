"""Calibration of weights: what margins of scores are worth as probabilities. One JSON file beside the weights.

A margin is the logit of a query in a softmax against background prompts. How often it is right differs with the
modality, and with what is asked: an IMU feels a fall, but no dog. So a calibration has a curve for each modality and
concept, and a query takes those of the concept whose vector is nearest to its own:

    probability = 1 / (1 + exp(-(slope x margin of the window + patch_slope x margin of the patches + offset)))

Slopes are never below 0, so that a better match never scores lower. It is Platt's scaling (Platt 1999) with two inputs.
A calibration serves only the weights whose hash it holds, and only the prompts that it was made with. Imports no torch.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FORMAT: Final = "sensebind-calibration-1"
POOLED: Final = "pooled"
"""Name of the curves of queries that are near to no concept."""
NEAR_COSINE: Final = 0.7
_LARGEST: Final = 4 << 20
"""Bytes. A file of hundreds of concepts of Huge's length takes less."""

Curve = tuple[float, float, float]
"""Slope of the window's margin, slope of the patches' margin, and offset."""

_log = logging.getLogger(__name__)


class CalibrationError(ValueError):
    """A file is not a calibration; the message is one line."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Curves by modality and concept; "vision dense" stands for pictures whose patches are scored as well."""

    weights: str
    """`models.files.checkpoint.content_hash` of the weights that it belongs to."""
    prompts: str
    """Hash of the prompts and factors of the margins that it was made with."""
    made_by: str
    """Command that made it."""
    concepts: Mapping[str, NDArray[np.float32]]
    """Unit vector [D] of each concept's name."""
    curves: Mapping[str, Mapping[str, Curve]]
    """By modality, then by concept; each modality has POOLED ones."""

    def concept(self, vector: NDArray[np.float32]) -> str:
        """Return the concept that a query's unit vector [D] is nearest to, or POOLED."""
        if not self.concepts or vector.shape != self._vectors.shape[1:]:
            return POOLED
        cosines = self._vectors @ vector
        nearest = int(cosines.argmax())
        return list(self.concepts)[nearest] if cosines[nearest] >= NEAR_COSINE else POOLED

    def curve(self, modality: str, concept: str) -> Curve:
        """Return the curve of a concept in a modality. Raises KeyError for a modality that has none."""
        curves = self.curves[modality]
        return curves.get(concept, curves[POOLED])

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return np.stack(list(self.concepts.values()))

    def tree(self) -> dict[str, Any]:
        """The calibration as plain values."""
        return {
            "format": FORMAT,
            "weights": self.weights,
            "prompts": self.prompts,
            "made_by": self.made_by,
            "curves": {m: {name: list(curve) for name, curve in of.items()} for m, of in self.curves.items()},
            "concepts": {name: [round(float(x), 5) for x in vector] for name, vector in self.concepts.items()},
        }

    @classmethod
    def of_tree(cls, tree: Any) -> Calibration:
        """The calibration of plain values. Raises CalibrationError."""
        try:
            if tree["format"] != FORMAT:
                raise ValueError(f"format {tree['format']!r}, not {FORMAT!r}")
            concepts = {str(name): _unit(numbers) for name, numbers in tree["concepts"].items()}
            if len({vector.shape for vector in concepts.values()}) > 1:
                raise ValueError("the vectors of its concepts differ in length")
            curves = {str(m): {str(n): _curve(c) for n, c in of.items()} for m, of in tree["curves"].items()}
            if lacking := [modality for modality, of in curves.items() if POOLED not in of]:
                raise ValueError(f"{lacking[0]} has no curve {POOLED!r}")
            return cls(str(tree["weights"]), str(tree["prompts"]), str(tree["made_by"]), concepts, curves)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise CalibrationError(f"not a calibration ({' '.join(str(error).split())[:200]})") from None


def path_beside(weights: Path) -> Path:
    """Return the place of the calibration of weights that are one file, or a folder."""
    if weights.is_dir():
        return weights / "calibration.json"
    return weights.with_suffix(".calibration.json")


def beside(weights: Path, content_hash: str) -> Calibration | None:
    """Read the calibration beside weights of this hash; None without one that can be used, which is logged."""
    file = path_beside(weights)
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _LARGEST:
            raise CalibrationError(f"has more than {_LARGEST >> 20} MB")
        found = Calibration.of_tree(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s: cannot be used: %s; make it anew with `sensebind weights calibrate`", file, error)
        return None
    if found.weights != content_hash:
        _log.warning(
            "%s: is of other weights (%s, and these are %s); make it anew with `sensebind weights calibrate`",
            file,
            found.weights,
            content_hash,
        )
        return None
    return found


def write(calibration: Calibration, file: Path) -> None:
    """Write a file: one line for each curve and each vector."""
    file.write_text(_rows(calibration.tree()) + "\n")


def _rows(value: Mapping[str, Any], indent: str = " ") -> str:
    rows = [
        f"{indent}{json.dumps(k)}: {_rows(v, indent + ' ') if isinstance(v, dict) else json.dumps(v)}"
        for k, v in value.items()
    ]
    return "{\n" + ",\n".join(rows) + f"\n{indent[:-1]}}}"


def _unit(numbers: Any) -> NDArray[np.float32]:
    vector = np.array([float(x) for x in numbers], np.float32)
    norm = float(np.linalg.norm(vector))
    if not len(vector) or not math.isfinite(norm) or norm < 1e-3:
        raise ValueError("a concept has no vector")
    return vector / np.float32(norm)


def _curve(numbers: Any) -> Curve:
    slope, patch_slope, offset = (float(x) for x in numbers)
    if not all(map(math.isfinite, (slope, patch_slope, offset))) or slope < 0 or patch_slope < 0:
        raise ValueError(f"a curve is {list(numbers)}; it has two slopes of at least 0 and an offset")
    return slope, patch_slope, offset
