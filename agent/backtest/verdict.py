"""Sentences on what a backtest found, and on what it could not look at."""

from __future__ import annotations

from agent.backtest.rates import hours_to_tell, shown
from agent.backtest.report import QueryReport, Report
from agent.run.status import NO_VECTORS


def verdict(query: QueryReport, report: Report) -> str:
    """Return a sentence on the suggested threshold; empty if no rate is wanted."""
    if report.wanted_per_hour is None:
        return ""
    counted = (
        "alarms outside of the marked times count as false"
        if query.marks
        else "everything that fired counts as false, since no true times are marked"
    )
    wanted = f"at most {report.wanted_per_hour:g} false alarms an hour"
    point = query.suggestion
    if query.keeps is None:
        return f"no threshold keeps to {wanted} ({counted})"
    if point is None:
        found = f"none that keeps to {wanted} finds any of {query.marks} marked times"
        return f"no threshold is of use: {found}; {_least(query, report)}"
    found = f", {point.found} of {query.marks} marked times found" if query.marks else ""
    fires = "" if query.marks or point.fired else "; nothing fires at it"
    return (
        f"suggested threshold {point.threshold:g}: {shown(point.false, report.hours)} false alarms{found}{fires}; "
        f"from there up, every threshold that was tried keeps to {wanted} ({counted}){_too_short(report)}"
    )


def lacking(report: Report) -> list[str]:
    """Return a line for each reason why ticks of a recording were not scored."""
    lines = []
    for recording in report.recordings:
        total = len(recording.times_ns) + sum(recording.lacking.values())
        for reason, count in recording.lacking.items():
            remedy = "; run without --reuse-embeddings to score them" if reason == NO_VECTORS else ""
            lines.append(f"{recording.timeline}: {count} of {total} ticks were not scored: {reason}{remedy}")
    return lines


def unscored(query: QueryReport, report: Report) -> str:
    """Return a sentence on ticks without a window that the query could be scored by; empty if there is none."""
    if not query.unscored:
        return ""
    ticks = sum(len(recording.times_ns) for recording in report.recordings)
    modalities = " or ".join(query.query.modalities) or "any modality"
    return f"at {query.unscored} of {ticks} ticks there was no window of {modalities}: nothing could fire"


def _least(query: QueryReport, report: Report) -> str:
    """What the first marked time costs."""
    point = query.first_found
    if point is None:
        return "no threshold finds any"
    return f"the highest that finds one is {point.threshold:g}, with {shown(point.false, report.hours)} false alarms"


def _too_short(report: Report) -> str:
    """A clause for recordings that are too short to tell the wanted rate from none; empty if they are long enough."""
    assert report.wanted_per_hour is not None
    if not report.wanted_per_hour or report.hours >= (needed := hours_to_tell(report.wanted_per_hour)):
        return ""
    return f"; {report.hours:.2g} hours are too short to tell: it takes {needed:.2g} hours without a false alarm"
