"""Heat map of a picture: the similarity of every patch to a vector, its peak and a box around it.

The patches come from the same forward pass as the picture's own vector. Pure: arrays in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

# 1.4826 medians of absolute deviations are one standard deviation of normal noise.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the original image; x to the right, y down, (0, 0) at the outer corner of the image."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Peak:
    """The top of a map, in patches from its upper left corner (the centre of the first patch is 0.5, 0.5)."""

    row: float
    column: float
    patch: tuple[int, int]
    """Row and column of the highest patch."""
    similarity: float
    contrast: float
    """Height of the peak over the map's median, in cosine."""
    sigmas: float
    """The same in robust standard deviations of the map: how unlike the rest the peak is."""


def heat_map(patches: Map, vector: Map) -> Map:
    """Cosine similarity of unit patches [rows, columns, D] to a unit vector [D]: float32 [rows, columns], -1..1."""
    similarity: Map = np.clip(patches @ vector, -1.0, 1.0).astype(np.float32)
    return similarity


def find_peak(heat: Map, columns: NDArray[np.bool_] | None = None) -> Peak:
    """The highest patch, and the centroid of what rises over half its height in the 3 x 3 patches around it.

    `columns` bool [columns] limits where the peak may lie; at least one must be true. What counts as background is the
    whole map all the same.
    """
    rows, width = heat.shape
    allowed = heat if columns is None else np.where(columns, heat, -np.inf)
    r, c = divmod(int(allowed.argmax()), width)
    median = float(np.median(heat))
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(heat - median)))
    similarity = float(heat[r, c])
    contrast = similarity - median
    # What lies under half of the peak's height is its foot, which the edges of the 3 x 3 patches cut unevenly.
    top, left = max(r - 1, 0), max(c - 1, 0)
    around = heat[top : min(r + 2, rows), left : min(c + 2, width)] - (median + contrast / 2)
    around = np.maximum(around, 0.0)
    row, column = r + 0.5, c + 0.5
    if (weight := float(around.sum())) > 0:
        row = float(around.sum(axis=1) @ (np.arange(around.shape[0]) + top + 0.5)) / weight
        column = float(around.sum(axis=0) @ (np.arange(around.shape[1]) + left + 0.5)) / weight
    # On a flat map nothing is a peak, however small the noise: 1e-4 is far below what a cosine tells.
    return Peak(row, column, (r, c), similarity, contrast, contrast / max(sigma, 1e-4))


def best_mean(heat: Map, columns: NDArray[np.bool_] | None = None, patches: int = 4) -> float:
    """Return the mean of the highest patches, of those in the allowed columns as of `find_peak`.

    A thing worth a box covers four; the highest of 256 alone is more by chance.
    """
    allowed = (heat if columns is None else heat[:, columns]).ravel()
    return float(np.sort(allowed)[-patches:].mean())


def find_box(heat: Map, start: tuple[int, int], threshold: float) -> tuple[float, float, float, float]:
    """The place of the patches that reach `threshold` and hang together with the one of `start`, side by side.

    In patches: top, left, bottom, right. An edge lies where the map, linear between the middles of patches, falls below
    the threshold.
    """
    member = _connected(heat >= threshold, start)
    bottom, right = _reach(heat, member, threshold, 0), _reach(heat, member, threshold, 1)
    rows, columns = heat.shape
    top = rows - _reach(heat[::-1], member[::-1], threshold, 0)
    left = columns - _reach(heat[:, ::-1], member[:, ::-1], threshold, 1)
    return top, left, bottom, right


def to_pixels(whole: Box, shape: tuple[int, ...], row: float, column: float) -> tuple[float, float]:
    """Patch coordinates on a map of `shape` that covers `whole` -> x, y in pixels of the image."""
    rows, columns = shape
    return whole.x0 + column * (whole.x1 - whole.x0) / columns, whole.y0 + row * (whole.y1 - whole.y0) / rows


def _reach(heat: Map, member: NDArray[np.bool_], threshold: float, axis: int) -> float:
    """Return how far the members reach along an axis, in patches from its start."""
    values, inside = (heat, member) if axis == 1 else (heat.T, member.T)
    last = int(np.flatnonzero(inside.any(axis=0))[-1])
    if last == inside.shape[1] - 1:
        return last + 1.0
    edge = inside[:, last]
    here, beyond = values[edge, last].astype(np.float64), values[edge, last + 1].astype(np.float64)
    fall = (here - threshold) / np.maximum(here - beyond, 1e-9)
    return last + 0.5 + float(np.clip(fall, 0.0, 1.0).max())


def _connected(member: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.bool_]:
    """The true cells that are reached from `start` over sides; `start` itself always belongs."""
    reached = np.zeros_like(member)
    reached[start] = True
    waiting = [start]
    while waiting:
        for cell in _neighbours(waiting.pop(), member.shape):
            if member[cell] and not reached[cell]:
                reached[cell] = True
                waiting.append(cell)
    return reached


def _neighbours(cell: tuple[int, int], shape: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    r, c = cell
    for row, column in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            yield row, column
