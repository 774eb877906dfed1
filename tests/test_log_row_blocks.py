"""Rows of a stream, counted by their times: what is missing, and what only came late."""

from __future__ import annotations

import numpy as np
import pytest

from agent.exchange.row_blocks import RowBlocks, rate_of


def test_rows_that_come_in_batches_or_drift_are_not_missing() -> None:
    rng = np.random.default_rng(3)
    period_ns = 2_500_000
    steady = [round(i * period_ns * 1.0002 + rng.normal(0, 3e5)) for i in range(8000)]
    batches = [i // 10 * 10 * period_ns + i % 10 * 50_000 for i in range(8000)]
    for stamps in (steady, batches):
        blocks = RowBlocks(400.0)
        found = [sample for t_ns in stamps for sample in blocks.add(t_ns, [0.0] * 6)] + blocks.flush()
        assert sum(len(sample.data) for sample in found) == 8000
        assert sum(sample.lost for sample in found[1:]) <= 10
        assert sum(sample.lost for sample in found[20:]) == 0
        assert rate_of(stamps[:200]) == pytest.approx(400.0, rel=0.06)


def test_rows_that_never_came_are_told() -> None:
    blocks = RowBlocks(400.0)
    stamps = [i * 2_500_000 for i in range(2000) if not 800 <= i < 812]
    found = [sample for t_ns in stamps for sample in blocks.add(t_ns, [0.0] * 6)] + blocks.flush()
    assert [(sample.t_ns, sample.lost) for sample in found if sample.lost] == [(812 * 2_500_000, 12)]
    assert rate_of(stamps) == pytest.approx(400.0)
    assert rate_of([5, 5, 4]) is None


def test_a_clock_that_steps_is_counted_anew() -> None:
    blocks = RowBlocks(100.0)
    stamps = [i * 10_000_000 for i in range(100)]
    stepped = [t_ns + 10**17 for t_ns in stamps] + [t_ns + 10**9 for t_ns in stamps]
    found = [sample for t_ns in stamps + stepped for sample in blocks.add(t_ns, [0.0] * 6)] + blocks.flush()
    assert sum(len(sample.data) for sample in found) == 300
    assert not any(sample.lost for sample in found)
