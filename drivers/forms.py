"""The form of a sample of each modality."""

from __future__ import annotations

import numpy as np

from drivers.driver import BadData, Modality, Sample

_FORM: dict[Modality, tuple[type[np.generic], int]] = {
    "vision": (np.uint8, 3),
    "audio": (np.float32, 2),
    "depth": (np.float32, 2),
    "thermal": (np.float32, 2),
    "imu": (np.float32, 2),
}


def check_form(sample: Sample, modality: Modality) -> None:
    """Raise BadData unless the sample has the type and shape that `Sample` promises for its modality."""
    dtype, dimensions = _FORM[modality]
    data, rows = sample.data, modality in ("audio", "imu")
    if data.dtype != dtype or data.ndim != dimensions or data.size == 0:
        raise BadData(f"a {modality} sample of {data.dtype} {list(data.shape)} came")
    if (modality == "vision" and data.shape[2] != 3) or (modality == "imu" and data.shape[1] != 6):
        raise BadData(f"a {modality} sample of shape {list(data.shape)} came")
    if rows != (sample.rate_hz > 0.0) or not (sample.rate_hz == 0.0 or 1e-3 <= sample.rate_hz < 1e7):
        raise BadData(f"a {modality} sample of rate {sample.rate_hz:g} Hz came")
