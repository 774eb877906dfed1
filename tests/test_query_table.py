"""One table of queries: whatever is added and removed, every column has its own row of every query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, QueryError, StandingQuery


def standing(query_id: str) -> StandingQuery:
    return StandingQuery(Query(query_id, f"what {query_id} asks for"), (f"warning of {query_id}",))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=120))
def test_rows_of_all_columns_stay_together(steps: list[tuple[bool, int]]) -> None:
    table = QueryTable()
    number, vector = table.column(np.int64), table.column(np.float32, (3,))
    told: dict[str, int] = {}  # oldest first
    for i, (adds, which) in enumerate(steps):
        query_id = f"q{which}"
        if adds and query_id not in told:
            row = table.add(standing(query_id))
            assert not number.rows[row].any()
            assert not vector.rows[row].any()
            number.rows[row], vector.rows[row] = i, (i, 2 * i, 3 * i)
            told[query_id] = i
        elif not adds and query_id in told:
            del told[query_id]
            assert table.remove(query_id) == standing(query_id)
        assert set(table.ids) == set(told)
        assert len(table) == len(table.ids) == len(number.rows) == len(vector.rows)
        assert [one.query.id for one in table.standing()] == list(told)
        for row, query_id in enumerate(table.ids):
            assert table.row_of(query_id) == row
            assert table.query_at(row).id == query_id
            assert number.rows[row] == told[query_id]
            assert vector.rows[row].tolist() == [told[query_id] * factor for factor in (1, 2, 3)]


def test_ids_are_one_object_until_the_table_changes() -> None:
    table = QueryTable()
    table.add(standing("a"))
    before = table.ids
    assert table.ids is before
    table.add(standing("b"))
    assert before == ("a",)
    assert table.ids == ("a", "b")


def test_a_table_has_room_for_so_many_queries_and_each_id_once() -> None:
    table = QueryTable(max_queries=2)
    table.add(standing("a"))
    with pytest.raises(QueryError, match="in use"):
        table.add(standing("a"))
    table.add(standing("b"))
    with pytest.raises(QueryError, match="2 queries already"):
        table.add(standing("c"))
    assert table.get("c") is None
    with pytest.raises(KeyError):
        table.remove("c")
    table.remove("a")
    table.add(standing("c"))
    assert table.get("c") == standing("c")
