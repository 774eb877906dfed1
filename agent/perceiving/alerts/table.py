"""The queries that are watched, a row each, and a column for whoever keeps something of each of them.

All holders see the same rows in the same order, so that a tick needs no join. A row that goes is replaced by the last
one, which costs no copy of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from agent.query import Query, QueryError, StandingQuery

MAX_QUERIES = 10_000
_ROOM = 16

T = TypeVar("T", bound=np.generic)


class Column(Generic[T]):
    """Something of every query: `rows` is an array [queries, ...] to read and write, until the table changes."""

    def __init__(self, table: QueryTable, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._table = table
        self._data: NDArray[T] = np.zeros((table._room, *shape), dtype)

    @property
    def rows(self) -> NDArray[T]:
        """In the table's order; a new row holds zeros."""
        return self._data[: len(self._table)]

    def _grow(self, room: int) -> None:
        data = np.zeros((room, *self._data.shape[1:]), self._data.dtype)
        data[: len(self._data)] = self._data
        self._data = data

    def _replace(self, row: int, last: int) -> None:
        self._data[row] = self._data[last]
        self._data[last] = np.zeros((), self._data.dtype)


class QueryTable:
    """The queries, each under its id. Not thread-safe, but for `standing`: use it on one thread."""

    def __init__(self, max_queries: int = MAX_QUERIES) -> None:
        self._max_queries = max_queries
        self._room = _ROOM
        self._standing: dict[str, StandingQuery] = {}  # oldest first
        self._row: dict[str, int] = {}
        self._ids: list[str] = []
        self._shown: tuple[str, ...] | None = ()
        self._columns: list[Column[np.generic]] = []

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each row; the same object until the table changes."""
        if self._shown is None:
            self._shown = tuple(self._ids)
        return self._shown

    def standing(self) -> Sequence[StandingQuery]:
        """All queries, oldest first; safe to call from any thread."""
        return tuple(self._standing.values())

    def row_of(self, query_id: str) -> int:
        """Return the row of a query, valid until the table changes. Raises KeyError when it is unknown."""
        return self._row[query_id]

    def query_at(self, row: int) -> Query:
        """The query of a row."""
        return self._standing[self._ids[row]].query

    def column(self, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> Column[T]:
        """Keep something of every query: `shape` and `dtype` are those of one row."""
        made: Column[T] = Column(self, shape, dtype)
        self._columns.append(made)  # type: ignore[arg-type]  # of any type
        return made

    def add(self, standing: StandingQuery) -> int:
        """Add a query and return its row. Raises QueryError for an id in use, or one query too many."""
        query_id, row = standing.query.id, len(self._ids)
        if query_id in self._row:
            raise QueryError("id", f"{query_id!r} is in use; remove that query first, or take another id")
        if row >= self._max_queries:
            raise QueryError("id", f"there are {self._max_queries} queries already; remove one first")
        if row == self._room:
            self._room *= 2
            for column in self._columns:
                column._grow(self._room)
        self._ids.append(query_id)
        self._row[query_id] = row
        self._standing[query_id] = standing
        self._shown = None
        return row

    def remove(self, query_id: str) -> StandingQuery:
        """Remove a query, and what every column has of it. Raises KeyError when it is unknown."""
        row, last = self._row.pop(query_id), len(self._ids) - 1
        moved = self._ids[last]
        if row != last:
            self._ids[row], self._row[moved] = moved, row
        self._ids.pop()
        for column in self._columns:
            column._replace(row, last)
        self._shown = None
        return self._standing.pop(query_id)
