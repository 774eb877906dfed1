"""Vectors as they travel: little-endian bytes, not repeated floats, because that is what keeps a fan-out cheap."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protos import perception_pb2 as pb

Vectors = NDArray[np.float32]
"""Rows of unit vectors [n, D], or one [D]."""
Dtype = Literal["float16", "float32"]

_DTYPES: dict[int, np.dtype[np.float16] | np.dtype[np.float32]] = {
    pb.Vector.DTYPE_FLOAT16: np.dtype("<f2"),
    pb.Vector.DTYPE_FLOAT32: np.dtype("<f4"),
}


def vector_message(vector: NDArray[np.float32], dtype: Dtype = "float16") -> pb.Vector:
    """Build the message of a vector [D]. float16 keeps a unit vector's cosines to about 1e-3 at half the bytes."""
    kind = pb.Vector.DTYPE_FLOAT16 if dtype == "float16" else pb.Vector.DTYPE_FLOAT32
    # A value too large for float16 becomes infinity, which is never published.
    with np.errstate(over="ignore"):
        return pb.Vector(dtype=kind, data=vector.astype(_DTYPES[kind]).tobytes())


def vector_of(message: pb.Vector) -> NDArray[np.float32]:
    """Return the vector of a message, [D]; empty when the message holds none. Raises ValueError for a damaged one."""
    if not message.data:
        return np.zeros(0, np.float32)
    if message.dtype not in _DTYPES:
        raise ValueError(f"vector of dtype {message.dtype}; float16 (1) and float32 (2) are known")
    return np.frombuffer(message.data, _DTYPES[message.dtype]).astype(np.float32)


def heat_map_of(message: pb.HeatMap) -> NDArray[np.float32]:
    """Return the heat map of a message, [rows, columns]; 0 x 0 when the message holds none."""
    return np.frombuffer(message.data, "<f2").astype(np.float32).reshape(message.rows, message.columns)


def heat_map_message(heat: NDArray[np.float32]) -> pb.HeatMap:
    """Build the message of a heat map [rows, columns], in float16."""
    rows, columns = heat.shape
    with np.errstate(over="ignore"):
        return pb.HeatMap(rows=rows, columns=columns, data=heat.astype("<f2").tobytes())
