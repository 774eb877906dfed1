"""Scores of windows: how much they look, sound or feel like each query.

The score of query q in modality m is its share of a softmax over q and the background prompts that it is held against:

    score = exp(s_m cos(q, v)) / (exp(s_m cos(q, v)) + sum over rivals b of exp(s_m cos(b, v)))

with s_m the modality's logit scale and v the window's vector. Its logit is the margin of q. Weights that have a
calibration (`models.files.calibration`) say what a margin is worth: the score is then the probability that what was
asked for is there, for that modality to perceive. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.curves import DENSE, PLACES
from agent.perceiving.alerts.table import Column, QueryTable
from agent.scores import Scores
from agent.vectors import Vectors
from drivers.driver import MODALITIES, Modality

Array = NDArray[np.float64]
Rows = slice | NDArray[np.intp]

# Queries scored against one block of patches at a time: bounds the memory of `dense` to a few MB.
_DENSE_BLOCK = 1024
_BLOCK = 16
"""Queries that are multiplied at a time with a few windows."""
_FEW_WINDOWS = 16
_FEW_QUERIES = 64
_AGREEING_PATCHES = 2
"""As many must see a thing: one of 256 alone is chance, and a thing worth an alert covers four."""


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """Logits of queries in the softmax against their background prompts."""

    modalities: tuple[Modality, ...]
    windows: Vectors
    """float32 [modalities, queries]; of several sensors, the best."""
    patches: Vectors | None
    """float32 [queries]: what enough patches of a picture agree on; None where they are not scored."""


class Scorer:
    """The queries' vectors, in columns of their table, so that a tick costs one matrix product.

    A text has a vector for each modality. Modalities with equal ones share a space, and a space costs one product: all
    of ImageBind's do. `background` are the unit vectors float32 [B, D] of the background prompts for each modality;
    those that are one object share a space. `logit_scales` are one factor a modality. `dense` lets vision score by the
    best of its whole-image vector and its patches, so that a small thing beside a large one still counts. `calibrated`
    says that every query comes with its curves.

    Not thread-safe: use it on the table's thread.
    """

    def __init__(
        self,
        table: QueryTable,
        background: Mapping[Modality, Vectors],
        logit_scales: Mapping[Modality, float],
        *,
        dense: bool = False,
        calibrated: bool = False,
    ) -> None:
        if lacking := [m for m in MODALITIES if not logit_scales.get(m, 0) > 0]:
            raise ValueError(f"{lacking[0]}: a logit scale over 0 is needed")
        self._table = table
        self._scales = {m: np.float32(logit_scales[m]) for m in MODALITIES}
        self._dense = dense
        spaces = {id(vectors): _Space(table, vectors) for vectors in background.values()}
        self._space = {m: spaces[id(background[m])] for m in MODALITIES}
        self._curves: Column[np.float32] | None = table.column(np.float32, (len(PLACES), 3)) if calibrated else None

    def set(
        self,
        row: int,
        vectors: Mapping[Modality, Vectors],
        rivals: Mapping[Modality, NDArray[np.bool_]],
        curves: NDArray[np.float32] | None = None,
    ) -> None:
        """Fill a new row of the table: a query's unit vectors [D], and its background prompts, bool [B].

        `curves` [PLACES, 3] are those of `agent.perceiving.alerts.curves`, which a calibrated Scorer needs.
        """
        if self._curves is not None:
            if curves is None:
                raise ValueError("a calibrated score needs the curves of the query")
            self._curves.rows[row] = curves
        for space, modality in {space: modality for modality, space in self._space.items()}.items():
            space.set(row, vectors[modality], rivals[modality])

    def score(
        self,
        vectors: Mapping[Modality, Vectors],
        patches: Vectors | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> Scores:
        """Score every query, or those of some rows, in every modality given.

        `vectors` float32 [sensors, D] unit vectors of each modality that is present (several sensors: the best
        counts); `patches` float32 [..., D] of vision, used when `dense`.
        """
        ids = self._table.ids if rows is None else tuple(self._table.ids[row] for row in rows)
        margins = self.margins(vectors, patches, rows)
        chosen: Rows = slice(0, len(ids)) if rows is None else rows
        logits = _uncalibrated(margins) if self._curves is None else _calibrated(margins, self._curves.rows[chosen])
        return Scores(ids, margins.modalities, _sigmoid(logits).T, rows, calibrated=self._curves is not None)

    def margins(
        self,
        vectors: Mapping[Modality, Vectors],
        patches: Vectors | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> Margins:
        """Return what scores follow from; arguments as of `score`."""
        count = len(self._table) if rows is None else len(rows)
        chosen: Rows = slice(0, count) if rows is None else rows
        modalities = tuple(m for m in MODALITIES if m in vectors and len(vectors[m]))
        best = np.zeros((len(modalities), count), np.float32)
        if not best.size:
            return Margins(modalities, best, None)
        for space in dict.fromkeys(self._space[m] for m in modalities):
            of_space = [m for m in modalities if self._space[m] is space]
            counts = [len(vectors[m]) for m in of_space]
            windows = np.vstack([vectors[m] for m in of_space])  # [windows, D]
            scales = np.repeat([self._scales[m] for m in of_space], counts)
            margin = space.margin(windows, scales, chosen)  # [windows, queries]
            for m, part in zip(of_space, np.split(margin, np.cumsum(counts)[:-1]), strict=True):
                best[modalities.index(m)] = part.max(axis=0) if len(part) > 1 else part[0]
        if not self._dense or patches is None or "vision" not in modalities:
            return Margins(modalities, best, None)
        return Margins(modalities, best, self._look_closer(patches, chosen))

    def _look_closer(self, patches: Vectors, chosen: Rows) -> Vectors:
        """Return the margins [queries] that enough patches agree on."""
        space, grid = self._space["vision"], patches.reshape(-1, patches.shape[-1])  # [patches, D]
        scale = np.full(len(grid), self._scales["vision"])
        rows = np.arange(len(self._table))[chosen]
        agreed = np.zeros(len(rows), np.float32)
        for start in range(0, len(rows), _DENSE_BLOCK):
            block = slice(start, start + _DENSE_BLOCK)
            margins = space.margin(grid, scale, rows[block] if isinstance(chosen, np.ndarray) else block)
            agreed[block] = np.partition(margins, -_AGREEING_PATCHES, axis=0)[-_AGREEING_PATCHES]
        return agreed


def _uncalibrated(margins: Margins) -> Vectors:
    """Logits [modalities, queries]: a picture's are the better of those of the whole and of its patches."""
    logits = margins.windows
    if margins.patches is not None:
        vision = margins.modalities.index("vision")
        logits[vision] = np.maximum(logits[vision], margins.patches)
    return logits


def _calibrated(margins: Margins, curves: Vectors) -> Vectors:
    """Logits of probabilities [modalities, queries], by the curves [queries, PLACES, 3]."""
    logits = margins.windows
    for i, modality in enumerate(margins.modalities):
        dense = modality == "vision" and margins.patches is not None
        slope, patch_slope, offset = curves[:, PLACES.index(DENSE if dense else modality)].T
        logits[i] = slope * logits[i] + offset
        if dense:
            logits[i] += patch_slope * margins.patches
    return logits


class _Space:
    """Vectors of texts that go for some modalities: the background prompts', and the queries'."""

    def __init__(self, table: QueryTable, background: Vectors) -> None:
        if background.ndim != 2 or not len(background):
            raise ValueError(f"background vectors have shape {background.shape}; at least one row [B, D] is needed")
        self._background = background.astype(np.float32)
        self._queries: Column[np.float32] = table.column(np.float32, (background.shape[1],))
        # Most queries are held against the whole bank: each distinct set of rivals is stored and summed once.
        self._rival_sets: dict[bytes, int] = {}
        self._rivals = np.zeros((0, len(background)), dtype=np.bool_)  # [sets, B]
        self._set_of: Column[np.intp] = table.column(np.intp)

    def set(self, row: int, vector: Vectors, rivals: NDArray[np.bool_]) -> None:
        if rivals.shape != (len(self._background),) or not rivals.any():
            raise ValueError(f"a query needs at least one of {len(self._background)} background prompts")
        self._queries.rows[row] = vector
        key = rivals.tobytes()
        if key not in self._rival_sets:
            self._rival_sets[key] = len(self._rivals)
            self._rivals = np.vstack([self._rivals, rivals])
        self._set_of.rows[row] = self._rival_sets[key]

    def margin(self, windows: Vectors, scales: Vectors, chosen: Rows) -> Vectors:
        """Logit of each query minus the log of the summed exponents of its rivals: float32 [windows, queries]."""
        logits = _products(self._queries.rows[chosen], windows)
        logits *= scales[:, None]
        background = (windows @ self._background.T * scales[:, None]).astype(np.float64)  # [windows, B]
        summed: Vectors = log_sum_exp(background, self._rivals).astype(np.float32)  # [windows, sets]
        logits -= np.take(summed, self._set_of.rows[chosen], axis=1)
        return logits


def _products(queries: Vectors, windows: Vectors) -> Vectors:
    """Cosines [windows, queries].

    A product with few windows does little with each number that it reads: more threads only wait for memory, and for
    each other. In small blocks BLAS starts none, which took a third of the CPU time for 10,000 queries on two cores.
    """
    if len(queries) <= _FEW_QUERIES:
        # In this order sums are rounded as they were in logs that hold scores: their replay gives the same bits.
        return windows @ np.ascontiguousarray(queries.T)
    if len(windows) > _FEW_WINDOWS:
        return windows @ queries.T
    whole = len(queries) // _BLOCK * _BLOCK
    products = np.empty((len(queries), len(windows)), np.float32)
    blocks = queries[:whole].reshape(-1, _BLOCK, queries.shape[1])
    np.matmul(blocks, windows.T, out=products[:whole].reshape(-1, _BLOCK, len(windows)))
    np.matmul(queries[whole:], windows.T, out=products[whole:])
    return np.ascontiguousarray(products.T)


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
