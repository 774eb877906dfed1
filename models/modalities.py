"""The modalities of the model. Imports no torch."""

from __future__ import annotations

from typing import Final, Literal, get_args

Modality = Literal["vision", "audio", "depth", "thermal", "imu", "text"]
MODALITIES: Final[tuple[Modality, ...]] = get_args(Modality)
