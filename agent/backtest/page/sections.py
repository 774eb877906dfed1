"""The parts of the page: what was looked at, and each query with its charts and moments. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.backtest.outcomes import Outcome
from agent.backtest.page.axes import clock
from agent.backtest.page.markup import Markup, data, element, foreign, joined
from agent.backtest.page.media import PICTURES_BYTES, SOUNDS_BYTES, Shown
from agent.backtest.page.moments import SOUND_AFTER_NS, SOUND_BEFORE_NS
from agent.backtest.page.score_chart import COLUMNS, ScoreChart
from agent.backtest.page.threshold_chart import threshold_chart
from agent.backtest.rates import plain, shown
from agent.backtest.report import Found, QueryReport, Report, utc
from agent.backtest.thresholds import Point
from agent.backtest.verdict import lacking, unscored, verdict
from drivers.driver import MODALITIES, Modality
from drivers.forms import FORMS

MOST_CHARTS = 12
"""Recordings of which a query's scores are drawn."""


def summary(report: Report) -> Markup:
    """Return what was looked at, and the way to each query."""
    how = "; the log's own embeddings were scored, pictures as a whole" if report.reused else ""
    recordings = [
        element(
            "li",
            foreign(str(recording.timeline)),
            ": from ",
            _utc(recording.timeline.start_ns),
            f", {recording.hours * 60:.1f} minutes",
        )
        for recording in report.recordings
    ]
    queries = [
        element("li", element("a", foreign(query.query.text), href=f"#q{n}"), f": alarms {len(query.found)}")
        for n, query in enumerate(report.queries, start=1)
    ]
    return joined(
        element("h1", "What would have fired"),
        element(
            "p",
            f"{report.hours * 60:.1f} minutes in all, recordings: {len(report.recordings)}, model ",
            foreign(report.model),
            f"{how}.",
        ),
        element("ul", *recordings),
        *_notes(lacking(report)),
        element("nav", element("ul", *queries), aria_label="Queries") if len(queries) > 1 else None,
    )


def section(number: int, query: QueryReport, report: Report, top: int, media: Mapping[Found, Shown]) -> Markup:
    """Return a query: its counts, charts, marked times, and the `top` moments."""
    id_ = f"q{number}"
    best = query.best[:top]
    links = {found: f"{id_}-m{rank}" for rank, found in enumerate(best, start=1)}
    notes = (verdict(query, report), unscored(query, report), *query.warnings)
    own = query.query.threshold_on
    return element(
        "section",
        element("h2", foreign(query.query.text)),
        element("p", f"At threshold {own:g}: {_counts(query, report.hours)}."),
        *_notes([note for note in notes if note]),
        *_charts(id_, query, report, links),
        element("h3", "Other thresholds"),
        _tool(id_, query, report.hours),
        _figure(threshold_chart(query, report.hours, f"{id_}-thresholds"), _histogram_caption(query)),
        *_marked(query, report),
        element("h3", "Alarms"),
        *_moments(query, report, links, media),
        id=id_,
        class_="query",
    )


def _notes(lines: Sequence[str]) -> list[Markup]:
    return [element("p", line, class_="note") for line in lines]


def _counts(query: QueryReport, hours: float) -> str:
    fired = len(query.found)
    counts = f"alarms {fired}, {shown(fired, hours)}"
    if not query.marks:
        return counts
    found = sum(outcome.found for outcome in query.outcomes)
    false = sum(not one.marked for one in query.found)
    return f"{counts}; false {false}; marked times found {found} of {query.marks}"


def _figure(chart: Markup, *caption: str) -> Markup:
    return element("figure", element("div", chart, class_="plots"), element("figcaption", *caption))


def _charts(id_: str, query: QueryReport, report: Report, links: Mapping[Found, str]) -> list[Markup]:
    rows = _drawn(query, report)
    columns = max(COLUMNS // len(rows), COLUMNS // 4)
    parts = [element("h3", "Scores over time")]
    for row in rows:
        recording = report.recordings[row]
        chart = ScoreChart(query, recording, row, columns).svg(f"{id_}-r{row + 1}", links)
        if len(report.recordings) > 1:
            parts.append(element("p", foreign(str(recording.timeline)), class_="quiet"))
        begin = _utc(recording.timeline.start_ns)
        parts.append(_figure(chart, "From ", begin, ". Dashed: the threshold. Shaded: alarms."))
    if len(rows) < len(report.recordings):
        told = f"{len(rows)} of {len(report.recordings)} recordings are drawn, those with the highest scores."
        parts.append(element("p", told, class_="note"))
    return parts


def _drawn(query: QueryReport, report: Report) -> list[int]:
    """The recordings to draw, in their order: those with marked times, then those with the highest scores."""
    columns = [MODALITIES.index(modality) for modality in query.modalities]

    def worth(row: int) -> tuple[bool, float]:
        scores, times_ns = query.scores[row][:, columns], report.recordings[row].times_ns
        marked = any(o.mark.from_ns <= times_ns[-1] and times_ns[0] <= o.mark.to_ns for o in query.outcomes)
        return marked, float(np.nanmax(scores)) if not np.isnan(scores).all() else -1.0

    return sorted(sorted(range(len(report.recordings)), key=worth, reverse=True)[:MOST_CHARTS])


def _tool(id_: str, query: QueryReport, hours: float) -> Markup:
    """The slider, which the script shows, and the counts that it shows."""
    thresholds = [point.threshold for point in query.points]
    slider = element(
        "input",
        type="range",
        id=f"{id_}-slider",
        min="0",
        max=str(len(thresholds) - 1),
        value=str(thresholds.index(query.query.threshold_on)),
    )
    return joined(
        element(
            "div",
            element("label", "Try a threshold", for_=f"{id_}-slider"),
            slider,
            element("output", for_=f"{id_}-slider"),
            class_="tool",
            hidden="hidden",
        ),
        data({"thresholds": thresholds, "says": [says(point, query, hours) for point in query.points]}, "counts"),
    )


def says(point: Point, query: QueryReport, hours: float) -> str:
    """Return the counts at a threshold in words."""
    counts = f"threshold {point.threshold:g}: alarms {point.fired}, {plain(point.fired / hours)} an hour"
    if not query.marks:
        return counts
    return f"{counts}; false {point.false}; marked times found {point.found} of {query.marks}"


def _histogram_caption(query: QueryReport) -> str:
    marked = "; false alarms an hour, and marked times found" if query.marks else ""
    return f"Ticks with each score, on a logarithmic scale; alarms an hour at each threshold{marked}."


def _marked(query: QueryReport, report: Report) -> list[Markup]:
    if not query.outcomes:
        return []
    start_ns = report.recordings[0].timeline.start_ns
    return [element("h3", "Marked times"), element("ul", *(_outcome(o, start_ns) for o in query.outcomes))]


def _outcome(outcome: Outcome, start_ns: int) -> Markup:
    begin, end = ((t_ns - start_ns) / 1e9 for t_ns in (outcome.mark.from_ns, outcome.mark.to_ns))
    word, class_ = ("found", "hit-word") if outcome.found else ("missed", "false-word")
    state = element("strong", word, class_=class_)
    best = "no score" if outcome.best is None else f"best score {_score(*outcome.best)}"
    return element("li", f"{clock(begin, 1)} to {clock(end, 1)}: ", state, f", {best}")


def _moments(
    query: QueryReport, report: Report, links: Mapping[Found, str], media: Mapping[Found, Shown]
) -> list[Markup]:
    if not links:
        return [element("p", "Nothing fired.")]
    parts = []
    if len(links) < len(query.found):
        parts.append(element("p", f"The {len(links)} best of {len(query.found)}."))
    if lacking := sum(found not in media for found in links):
        most = f"{PICTURES_BYTES / 1e6:g} MB of pictures and {SOUNDS_BYTES / 1e6:g} MB of sound"
        parts.append(element("p", f"{lacking} of them without media: the page holds at most {most}.", class_="note"))
    cards = [_moment(found, id_, query, report, media.get(found)) for found, id_ in links.items()]
    return [*parts, element("ol", *cards, class_="moments")]


def _moment(found: Found, id_: str, query: QueryReport, report: Report, shown: Shown | None) -> Markup:
    hit = found.hit
    kind = None
    if query.marks:
        word = ("hit", "hit-word") if found.marked else ("false alarm", "false-word")
        kind = element("p", element("strong", word[0], class_=word[1]))
    begin = found.since_start_s(hit.begin_ns)
    scores = ", ".join(_score(hit.scores[modality], modality) for modality in hit.modalities)
    best_at = clock(found.since_start_s(found.peak_ns), 1)
    lasted = f"{hit.duration_s:.1f} s{', and was still on when the log ended' if hit.cut else ''}"
    return element(
        "li",
        _picture(found, shown),
        element("p", element("strong", clock(begin, 1)), " ", _utc(hit.begin_ns)),
        kind,
        element("p", f"{scores}; best at {best_at}; lasted {lasted}"),
        element("p", foreign(str(found.recording.timeline)), class_="quiet") if len(report.recordings) > 1 else None,
        _sound(shown),
        element("p", "Best score below this threshold.", class_="below"),
        id=id_,
        class_="moment",
        data_peak=repr(hit.peak[0]),
    )


def _picture(found: Found, shown: Shown | None) -> Markup | None:
    if shown is None or shown.picture is None:
        return None
    before_s = (found.peak_ns - shown.picture.t_ns) / 1e9
    return element(
        "img",
        src=shown.picture_uri,
        width=str(shown.picture.width),
        height=str(shown.picture.height),
        alt=f"Camera picture, {before_s:.2f} s before the tick of the best score",
        decoding="async",
    )


def _sound(shown: Shown | None) -> Markup | None:
    if shown is None or shown.sound_uri is None:
        return None
    span = f"{SOUND_BEFORE_NS / 1e9:g} s before to {SOUND_AFTER_NS / 1e9:g} s after"
    return element(
        "audio",
        controls="controls",
        preload="none",
        src=shown.sound_uri,
        aria_label=f"Sound from {span} the best score",
    )


def _score(score: float, modality: Modality) -> str:
    return f"{FORMS[modality].sense} {score:.3f}"


def _utc(t_ns: int) -> Markup:
    at = utc(t_ns)
    return element("time", at.replace("T", " ").replace("Z", " UTC"), datetime=at)
