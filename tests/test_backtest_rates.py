"""Intervals of rates, against the chi-squared distribution by which Garwood's are defined."""

from __future__ import annotations

import pytest
from scipy.stats import chi2

from agent.backtest.rates import hours_to_tell, interval, shown


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 700])
def test_the_interval_is_that_of_a_poisson_process(count: int) -> None:
    low, high = interval(count, 2.5)
    assert high * 2.5 == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2, rel=1e-6)
    assert low * 2.5 == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, rel=1e-6)


def test_a_rate_is_shown_with_its_interval() -> None:
    assert shown(3, 0.5) == "6 an hour (95 %: 1.2 to 18)"
    assert shown(0, 2.0) == "0 an hour (95 %: 0 to 1.8)"
    assert shown(20, 0.01) == "2000 an hour (95 %: 1200 to 3100)"


def test_it_takes_a_while_to_tell_a_small_rate_from_none() -> None:
    assert hours_to_tell(0.5) == pytest.approx(7.378, abs=1e-3)
    assert interval(0, hours_to_tell(0.5))[1] == pytest.approx(0.5)
