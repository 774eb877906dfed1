"""Curves of a query: from the margins of its scores to probabilities, as far as the weights have a calibration."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.prompts import TEMPLATES
from agent.vectors import Vectors
from drivers.driver import MODALITIES, Modality
from models.files.calibration import Calibration

DENSE: Final = "vision dense"
"""Vision, where patches of the picture are scored as well."""
PLACES: Final[tuple[str, ...]] = (*MODALITIES, DENSE)
"""Order of the curves of a query."""

_log = logging.getLogger(__name__)


def prompts_hash(background: Sequence[str], logit_scales: Mapping[Modality, float]) -> str:
    """Return 12 hex digits that name what margins depend on beside the weights."""
    scales = {modality: round(scale, 3) for modality, scale in sorted(logit_scales.items())}
    told = json.dumps([list(TEMPLATES), list(background), scales])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def usable(
    calibration: Calibration | None, background: Sequence[str], logit_scales: Mapping[Modality, float]
) -> Calibration | None:
    """Return the calibration if it was made with these prompts and factors; if not, log that scores have none."""
    if calibration is None:
        why = "these weights have no calibration"
    elif calibration.prompts != prompts_hash(background, logit_scales):
        why = "the calibration of these weights was made with other background_prompts or alerts.logit_scales"
    elif lacking := [place for place in PLACES if place not in calibration.curves]:
        why = f"the calibration of these weights has no curve for {lacking[0]}"
    else:
        return calibration
    _log.warning("scores are not probabilities: %s; choose thresholds for each modality with `sensebind backtest`", why)
    return None


def curves_of(calibration: Calibration, vector: Vectors) -> NDArray[np.float32]:
    """Return the curves of a query's unit vector [D]: float32 [PLACES, 3]."""
    concept = calibration.concept(vector)
    return np.array([calibration.curve(place, concept) for place in PLACES], np.float32)
