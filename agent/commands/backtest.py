"""Says what would have fired, as `backtest` on the command line does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.backtest.rates import shown
from agent.backtest.recordings import recordings_in
from agent.backtest.report import QueryReport, Report, senses, utc
from agent.backtest.run import backtest as run
from agent.backtest.scoring import BacktestError, config_for
from agent.backtest.thresholds import Mark
from agent.backtest.verdict import lacking, unscored, verdict
from agent.commands.progress import show_progress
from agent.commands.replay import time_of
from agent.config.parse import Config
from agent.exchange.new_folder import new_folder
from agent.log.timeline import Timeline
from agent.query import OFF_RATIO, Query
from common.printable import printable
from drivers.driver import Modality


def backtest(
    logs: Sequence[Path],
    texts: Sequence[str] = (),
    *,
    modalities: Sequence[Modality] = (),
    threshold: float | None = None,
    force: bool = False,
    config: Config | None = None,
    reuse_embeddings: bool = False,
    false_alarms_per_hour: float | None = None,
    true: Sequence[str] = (),
    out: Path | None = None,
    top: int = 10,
    as_json: bool = False,
) -> Report:
    """Run queries over logs and print what would have fired; with `out`, write a folder with a page as well.

    `texts` are queries with usual settings; without any, the configured queries are run. `true` are times as
    `12.5-14` or `14:05:10-14:05:20`, from the start of the first recording, of all queries, or of one: `a dog=3-8`.
    `force` asks texts of unknown words as well. Raises LogError, QueryError, ConfigError.
    """
    if top < 1:
        raise BacktestError(f"--top {top}: too few hits; give 1 or more")
    recordings = recordings_in(logs)
    queries = _queries(recordings[0], texts, modalities, threshold, force, config)
    marks = [_mark(text, recordings[0].start_ns, queries) for text in true]
    with ExitStack() as stack:
        # The folder comes first: whether it can be written is known before minutes are spent.
        folder = None if out is None else stack.enter_context(new_folder(out))
        progress = stack.enter_context(show_progress())
        report = run(
            recordings,
            queries,
            config,
            reuse_embeddings=reuse_embeddings,
            wanted_per_hour=false_alarms_per_hour,
            marks=marks,
            progress=progress,
        )
        if folder is not None:
            from agent.backtest.page import write_page

            progress("pictures and sounds of the report", 0, None)
            write_page(folder, report, top)
    if as_json:
        print(json.dumps(report.document()))
    else:
        _print(Console(), report, top, out)
    return report


def _queries(
    recording: Timeline,
    texts: Sequence[str],
    modalities: Sequence[Modality],
    threshold: float | None,
    force: bool,
    config: Config | None,
) -> list[Query]:
    queries = [Query(f"q{number}", text) for number, text in enumerate(texts, start=1)]
    queries = queries or list(config_for(recording, config).queries)
    if not queries:
        raise BacktestError(f"{recording}: no query is given, and its configuration has none; add --query 'a dog'")
    # A backtest saves no clips: it writes only to `out`.
    queries = [replace(query, clip=False, force=force or query.force) for query in queries]
    if modalities:
        queries = [replace(query, modalities=tuple(modalities)) for query in queries]
    if threshold is not None:
        queries = [replace(query, threshold_on=threshold, threshold_off=OFF_RATIO * threshold) for query in queries]
    return queries


def _mark(text: str, start_ns: int, queries: Sequence[Query]) -> Mark:
    name, named, span = text.rpartition("=")
    query_id = _named(name, text, queries) if named else None
    first, dash, last = span.partition("-")
    if not dash:
        raise BacktestError(
            f"--true {text!r}: not a time range; give FROM-TO, such as 12.5-14, or UTC, such as 14:05:10-14:05:20"
        )
    mark = Mark(time_of(first, start_ns, "--true"), time_of(last, start_ns, "--true"), query_id)
    if mark.to_ns < mark.from_ns:
        raise BacktestError(f"--true {text!r}: ends before it begins; give FROM-TO, such as 12.5-14")
    return mark


def _named(name: str, text: str, queries: Sequence[Query]) -> str:
    """The id of the query that a mark names by its id or text."""
    for query in queries:
        if name.strip().casefold() in (query.id.casefold(), query.text.casefold()):
            return query.id
    known = ", ".join(repr(query.text) for query in queries)
    raise BacktestError(f"--true {text!r}: {name!r} is not a query; before '=' goes the text or id of one: {known}")


def _print(console: Console, report: Report, top: int, out: Path | None) -> None:
    def line(text: str) -> None:
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    ticks = sum(len(recording.times_ns) for recording in report.recordings)
    line(f"{report.hours * 60:.1f} minutes, {ticks} ticks, recordings: {len(report.recordings)}, model {report.model}")
    for said in lacking(report):
        line(said)
    for query in report.queries:
        fired = len(query.found)
        at = f"{query.query.text!r} at threshold {query.query.threshold_on:g}"
        console.print()
        line(f"{at}: alarms {fired}, {shown(fired, report.hours)}")
        for warning in query.warnings:
            line(f"warning: {warning}")
        if fired:
            console.print(_table(query, report, top))
        if fired > top:
            line(f"the {top} best of {fired} are shown; --json lists all")
        for said in (unscored(query, report), verdict(query, report)):
            if said:
                line(said)
    if out is not None:
        from agent.backtest.page import PAGE

        console.print()
        line(f"{out / PAGE}: written")


def _table(query: QueryReport, report: Report, top: int) -> Table:
    table = Table("begin (UTC)", "from start", "duration", "peak", "by", box=None)
    if query.marks:
        table.add_column("marked")
    if len(report.recordings) > 1:
        table.add_column("log")
    for found in query.best[:top]:
        hit = found.hit
        cells = [
            utc(hit.begin_ns),
            f"{found.since_start_s(hit.begin_ns):.1f} s",
            f"{hit.duration_s:.1f}{'+' if hit.cut else ''} s",
            f"{hit.peak[0]:.3f}",
            senses(hit),
        ]
        if query.marks:
            cells.append("true" if found.marked else "")
        if len(report.recordings) > 1:
            cells.append(printable(found.recording.timeline.files[0].path.name))
        # Text, because rich would take brackets in a file's name for markup.
        table.add_row(*(Text(cell, no_wrap=True) for cell in cells))
    return table
