"""Arrays and tensors on their way in: checked, and never copied without need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.preprocess.errors import ItemFaults, PreprocessError

Array = NDArray[Any] | Tensor
Device = torch.device | str | None
"""Device of a result; None: that of the input tensor, the CPU for NumPy arrays."""

_DTYPES: Final = {
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.float32: np.dtype(np.float32),
}


def checked(name: str, values: Array, dtype: torch.dtype, shape: Sequence[int | str], means: str) -> Tensor:
    """The input as a tensor of this type and shape, where it lies; it may share memory with the input.

    In `shape` a number must be met and a name stands for any size from 1. `means` adds units or range to the error.
    """
    wanted = f"{str(dtype).removeprefix('torch.')} [{', '.join(map(str, shape))}]{means}"
    if not isinstance(values, np.ndarray | Tensor):
        raise PreprocessError(f"{name}: got {type(values).__name__}, need an array or tensor, {wanted}")
    fits = len(values.shape) == len(shape) and all(
        size > 0 and (isinstance(want, str) or size == want) for size, want in zip(values.shape, shape, strict=True)
    )
    if not fits or values.dtype != (_DTYPES[dtype] if isinstance(values, np.ndarray) else dtype):
        got = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
        raise PreprocessError(f"{name}: got {got}, need {wanted}")
    if isinstance(values, Tensor):
        return values.detach()
    # PyTorch warns about arrays that are read-only, as views of a ring are, and refuses negative strides.
    return torch.from_numpy(values if values.flags.writeable and values.flags.c_contiguous else values.copy())


def placed(x: Tensor, device: Device) -> Tensor:
    """The tensor on `device`."""
    return x if device is None else x.to(device)


def check_finite(name: str, x: Tensor, faults: ItemFaults) -> None:
    """Mark the items of float [B, ...] that hold NaN or infinity."""
    bad = (~x.isfinite()).flatten(1).sum(dim=1)  # [B]
    faults.add(bad > 0, lambda i: f"{name}: {bad[i]} values are NaN or infinite")


def check_rate(rate_hz: float) -> None:
    """Raise PreprocessError unless a rate is positive and finite."""
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise PreprocessError(f"rate_hz: {rate_hz} is not a rate")


def check_range(names: str, low: float, high: float) -> None:
    """Raise PreprocessError unless low < high, by as much as float32 can divide by."""
    float32 = torch.finfo(torch.float32)
    if not float32.tiny <= high - low <= float32.max:
        raise PreprocessError(f"{names}: {low:g} and {high:g} are not a range from low to high")
