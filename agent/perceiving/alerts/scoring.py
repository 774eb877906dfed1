"""How much a window looks, sounds or feels like each query.

The score of query q in modality m is its share of a softmax over q and the background prompts that it is held against:

    score = exp(s_m cos(q, v)) / (exp(s_m cos(q, v)) + sum over rivals b of exp(s_m cos(b, v)))

with s_m the modality's logit scale and v the window's vector. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.vectors import Vectors
from drivers.driver import MODALITIES, Modality

Array = NDArray[np.float64]

# Queries scored against one block of patches at a time: bounds the memory of `dense` to a few MB.
_DENSE_BLOCK = 1024
_AGREEING_PATCHES = 2
"""As many must see a thing: one of 256 alone is chance, and a thing worth an alert covers four."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of one tick: `values` float32 [queries, modalities], 0..1; only what was present has a column."""

    query_ids: tuple[str, ...]
    modalities: tuple[Modality, ...]
    values: NDArray[np.float32]

    def of(self, query_id: str) -> dict[Modality, float]:
        """The scores of one query; KeyError when it was not scored."""
        if query_id not in self.query_ids:
            raise KeyError(query_id)
        row = self.values[self.query_ids.index(query_id)]
        return dict(zip(self.modalities, row.tolist(), strict=True))


class Scorer:
    """The queries' vectors, laid out so that a tick costs one matrix product.

    `background` float32 [B, D] are unit vectors, `logit_scales` one factor a modality. `dense` lets vision score by the
    best of its whole-image vector and its patches, so that a small thing beside a large one still counts.

    Not thread-safe: add, remove and score on one thread.
    """

    def __init__(self, background: Vectors, logit_scales: Mapping[Modality, float], *, dense: bool = False) -> None:
        if background.ndim != 2 or not len(background):
            raise ValueError(f"background vectors have shape {background.shape}; at least one row [B, D] is needed")
        if lacking := [m for m in MODALITIES if not logit_scales.get(m, 0) > 0]:
            raise ValueError(f"{lacking[0]}: a logit scale over 0 is needed")
        self._background = background.astype(np.float32)
        self._scales = dict(logit_scales)
        self._dense = dense
        self._ids: tuple[str, ...] = ()
        # [D, capacity]: a column a query, so that the product with a few window vectors streams along memory. The
        # capacity doubles, and a removed query is replaced by the last one: neither costs a copy of everything.
        self._queries = np.zeros((background.shape[1], 16), dtype=np.float32)
        # Most queries are held against the whole bank: each distinct set of rivals is stored and summed once.
        self._rival_sets: dict[bytes, int] = {}
        self._rivals = np.zeros((0, len(background)), dtype=np.bool_)  # [sets, B]
        self._set_of = np.zeros(16, dtype=np.intp)  # [capacity]

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The order of the rows of `Scores.values`."""
        return self._ids

    def add(self, query_id: str, vector: Vectors, rivals: NDArray[np.bool_]) -> None:
        """Score a query from now on: its unit vector [D] and which background prompts it is held against, bool [B]."""
        if query_id in self._ids:
            raise ValueError(f"query {query_id!r} is scored already")
        if rivals.shape != (len(self._background),) or not rivals.any():
            raise ValueError(f"query {query_id!r} needs at least one of {len(self._background)} background prompts")
        n = len(self._ids)
        if n == self._queries.shape[1]:
            self._queries = np.hstack([self._queries, np.zeros_like(self._queries)])
            self._set_of = np.concatenate([self._set_of, np.zeros_like(self._set_of)])
        self._queries[:, n] = vector
        key = rivals.tobytes()
        if key not in self._rival_sets:
            self._rival_sets[key] = len(self._rivals)
            self._rivals = np.vstack([self._rivals, rivals])
        self._set_of[n] = self._rival_sets[key]
        self._ids = (*self._ids, query_id)

    def remove(self, query_id: str) -> None:
        """Score it no more; KeyError when it is unknown."""
        if query_id not in self._ids:
            raise KeyError(query_id)
        row, last = self._ids.index(query_id), len(self._ids) - 1
        self._queries[:, row] = self._queries[:, last]
        self._set_of[row] = self._set_of[last]
        ids = list(self._ids)
        ids[row] = ids[last]
        self._ids = tuple(ids[:last])

    def score(self, vectors: Mapping[Modality, Vectors], patches: Vectors | None = None) -> Scores:
        """Score every query in every modality given.

        `vectors` float32 [sensors, D] unit vectors of each modality that is present (several sensors: the best
        counts); `patches` float32 [..., D] of vision, used when `dense`.
        """
        n = len(self._ids)
        modalities = tuple(m for m in MODALITIES if m in vectors and len(vectors[m]))
        if not n or not modalities:
            return Scores(self._ids, modalities, np.zeros((n, len(modalities)), dtype=np.float32))
        windows = [len(vectors[m]) for m in modalities]
        rows = np.vstack([vectors[m] for m in modalities])  # [windows, D]
        scales = np.repeat(np.array([self._scales[m] for m in modalities], dtype=np.float32), windows)
        margin = self._margin(rows, scales[:, None], slice(0, n))  # [windows, n]
        # [modalities, n]; rows of one modality lie together
        best = np.stack([part.max(axis=0) for part in np.split(margin, np.cumsum(windows)[:-1])])
        if self._dense and patches is not None and "vision" in modalities:
            vision = best[modalities.index("vision")]
            grid = patches.reshape(-1, patches.shape[-1])  # [patches, D]
            scale = np.float32(self._scales["vision"])
            for start in range(0, n, _DENSE_BLOCK):
                block = slice(start, min(start + _DENSE_BLOCK, n))
                margins = self._margin(grid, scale, block)  # [patches, n]
                agreed = np.partition(margins, -_AGREEING_PATCHES, axis=0)[-_AGREEING_PATCHES]
                vision[block] = np.maximum(vision[block], agreed)
        return Scores(self._ids, modalities, np.ascontiguousarray(_sigmoid(best).T))

    def _margin(self, rows: Vectors, scale: Vectors | np.float32, block: slice) -> Vectors:
        """Logit of each query minus the log of the summed exponents of its rivals: float32 [rows, queries]."""
        logits: Vectors = rows @ self._queries[:, block]  # [rows, n]
        logits *= scale
        background = (rows @ self._background.T * scale).astype(np.float64)  # [rows, B]
        summed: Vectors = log_sum_exp(background, self._rivals).astype(np.float32)  # [rows, sets]
        logits -= np.take(summed, self._set_of[block], axis=1)
        return logits


def log_sum_exp(logits: Array, chosen: NDArray[np.bool_]) -> Array:
    """Log of the sum of exponents over each set of columns: logits [rows, B], chosen [sets, B] -> [rows, sets].

    Double precision: a rival that was left out may tower over those that were not.
    """
    top = logits.max(axis=1, keepdims=True)  # [rows, 1]
    # The exponents of what lies further below than this would be 0 and their logarithm -inf.
    exponents = np.exp(np.maximum(logits - top, -700.0))  # [rows, B]
    summed: Array = np.log(exponents @ chosen.T.astype(np.float64)) + top
    return summed


def share(vector: Vectors, prompts: Vectors, chosen: Sequence[bool] | NDArray[np.bool_], scale: float) -> float:
    """The part of a softmax over `prompts` [P, D] that falls on the chosen ones, 0..1."""
    logits: Array = (prompts @ vector * np.float32(scale)).astype(np.float64)
    weights = np.exp(logits - logits.max())
    return float(weights[np.asarray(chosen, dtype=np.bool_)].sum() / weights.sum())


def _sigmoid(x: Vectors) -> Vectors:
    # exp(88) is the last that float32 holds.
    return np.float32(1) / (np.float32(1) + np.exp(-np.clip(x, np.float32(-88), np.float32(88))))
