"""What each threshold would do: how often each score was reached, and the alarms an hour. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from agent.backtest.page.axes import score_ticks
from agent.backtest.page.lanes import Lanes, Points
from agent.backtest.page.markup import Markup
from agent.backtest.rates import plain
from agent.backtest.report import BINS, QueryReport
from agent.backtest.thresholds import Point
from drivers.forms import FORMS


def threshold_chart(query: QueryReport, hours: float, id_: str) -> Markup:
    """Draw ticks with each score, on a logarithmic scale, and the counts at each threshold that was tried."""
    lanes = Lanes()
    own = query.query.threshold_on
    lanes.row(f"threshold {own:g}", own, "threshold at name")
    if query.suggestion:
        suggested = query.suggestion.threshold
        lanes.row(f"suggested {suggested:g}", suggested, "suggested name")
    for modality in query.modalities:
        counts = query.histogram[modality].tolist()
        decades = len(str(max(counts)))
        lanes.lane(FORMS[modality].sense, [_steps(counts, decades)], top=_short(10**decades), filled=True)
    _rates(lanes, query, "alarms/h", hours, lambda point: point.fired)
    if query.marks:
        _rates(lanes, query, "false/h", hours, lambda point: point.false)
        found = [(point.threshold, point.found / query.marks) for point in query.points]
        lanes.lane("found", [found], top=str(query.marks))
    lanes.upright(own, "threshold at")
    if query.suggestion:
        lanes.upright(query.suggestion.threshold, "suggested")
    lanes.axis(score_ticks(), "score, or threshold")
    return lanes.svg(id_, "Scores and thresholds", _says(query, hours))


def _steps(counts: list[int], decades: int) -> Points:
    """One tick must show: the first step of the scale is from none to one."""
    heights = [(math.log10(count) + 1) / (decades + 1) if count else 0.0 for count in counts]
    return [
        (edge / BINS, height) for i, height in enumerate(heights) for edge, height in ((i, height), (i + 1, height))
    ]


def _rates(lanes: Lanes, query: QueryReport, label: str, hours: float, count: Callable[[Point], int]) -> None:
    rates = [(point.threshold, count(point) / hours) for point in query.points]
    highest = max(rate for _, rate in rates)
    lanes.lane(label, [[(x, rate / (highest or 1.0)) for x, rate in rates]], top=_short(highest))


def _short(value: float) -> str:
    """A number of at most five characters: `12k` for 12,000."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _says(query: QueryReport, hours: float) -> str:
    """The chart in words: the highest rate, and the highest threshold at which anything fires."""
    fires = [point for point in query.points if point.fired]
    if not fires:
        return "nothing fires at any threshold that was tried"
    most = max(fires, key=lambda point: point.fired)
    return (
        f"most alarms: {plain(most.fired / hours)} an hour at threshold {most.threshold:g}; "
        f"the highest threshold at which anything fires: {fires[-1].threshold:g}"
    )
