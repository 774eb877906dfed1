"""Scores of a tick, and how they travel: in one packed table, which costs a few copies for any number of queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from drivers.codec import MODALITY_NAMES, MODALITY_VALUES
from drivers.driver import MODALITIES, Modality
from protos import perception_pb2 as pb

MOST_MESSAGES = 64
"""Queries whose scores travel as messages of their own as well, for clients that do not know the table."""
_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one tick: `values` float32 [queries, modalities], 0..1; only what was present has a column."""

    query_ids: tuple[str, ...]
    modalities: tuple[Modality, ...]
    values: NDArray[np.float32]
    rows: NDArray[np.intp] | None = None
    """Which rows of the table of queries these are, when not all."""
    calibrated: bool = False
    """True for probabilities, by the calibration of the weights; else they are shares of a softmax."""

    def of(self, query_id: str) -> dict[Modality, float]:
        """The scores of one query; KeyError when it was not scored. A client's are nan where a query lacks one."""
        row = self.values[self._index[query_id]]
        return dict(zip(self.modalities, row.tolist(), strict=True))

    def without(self, modality: Modality, queries: NDArray[np.bool_]) -> Scores:
        """Return the scores with 0 for some queries in a modality; `queries` [rows of the table]."""
        if modality not in self.modalities:
            return self
        values = self.values.copy()
        values[queries if self.rows is None else queries[self.rows], self.modalities.index(modality)] = 0
        return replace(self, values=values)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {query_id: i for i, query_id in enumerate(self.query_ids)}


def put_scores(scores: Scores, embedding: pb.Embedding) -> None:
    """Write the scores of a tick into its message."""
    modalities = [MODALITY_VALUES[modality] for modality in scores.modalities]
    table = embedding.score_table
    table.query_ids.extend(scores.query_ids)
    table.modalities.extend(modalities)
    table.values = scores.values.T.astype(_FLOAT32, copy=False).tobytes()
    table.calibrated = scores.calibrated
    if len(scores.query_ids) > MOST_MESSAGES:
        return
    for query_id, row in zip(scores.query_ids, scores.values.tolist(), strict=True):
        for modality, score in zip(modalities, row, strict=True):
            embedding.scores.add(query_id=query_id, modality=modality, score=score)


def scores_of(embedding: pb.Embedding) -> Scores:
    """Return the scores of a message in whichever form it has them; nan where a query has none in a modality.

    Raises ValueError for a damaged table. Modalities that this version does not know are left out.
    """
    if embedding.HasField("score_table"):
        numbers, values = table_values(embedding.score_table)
        return _known(
            tuple(embedding.score_table.query_ids), numbers, values.T, calibrated=embedding.score_table.calibrated
        )
    rows: dict[str, int] = {}
    columns: dict[int, int] = {}
    for told in embedding.scores:
        rows.setdefault(told.query_id, len(rows))
        columns.setdefault(told.modality, len(columns))
    values = np.full((len(rows), len(columns)), np.nan, np.float32)
    for told in embedding.scores:
        values[rows[told.query_id], columns[told.modality]] = told.score
    return _known(tuple(rows), tuple(columns), values)


def table_values(table: pb.ScoreTable) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Return a table's modalities, as numbers, and values [modalities, queries]. Raises ValueError for a bad one."""
    modalities, queries = tuple(table.modalities), len(table.query_ids)
    if len(table.values) != _FLOAT32.itemsize * len(modalities) * queries:
        size = f"{len(modalities)} modalities and {queries} queries in {len(table.values)} bytes"
        raise ValueError(f"score table of {size}; each score takes {_FLOAT32.itemsize}")
    return modalities, np.frombuffer(table.values, _FLOAT32).reshape(len(modalities), queries)


def keep_modalities(table: pb.ScoreTable, kept: frozenset[int]) -> None:
    """Drop the scores of all other modalities from a table."""
    modalities, values = table_values(table)
    chosen = [i for i, modality in enumerate(modalities) if modality in kept]
    if len(chosen) < len(modalities):
        table.values = values[chosen].tobytes()
        del table.modalities[:]
        table.modalities.extend(modalities[i] for i in chosen)  # type: ignore[misc]  # numbers of the enum


def _known(
    query_ids: tuple[str, ...], numbers: tuple[int, ...], values: NDArray[np.float32], *, calibrated: bool = False
) -> Scores:
    """The columns of modalities that are known, in the order of MODALITIES."""
    column = {MODALITY_NAMES[number]: i for i, number in enumerate(numbers) if number in MODALITY_NAMES}
    modalities = tuple(modality for modality in MODALITIES if modality in column)
    values = values[:, [column[modality] for modality in modalities]]
    return Scores(query_ids, modalities, values, calibrated=calibrated)
