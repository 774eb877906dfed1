"""A folder that shows what a backtest found: a page with the best hits, their pictures and sounds, and the charts.

The page asks for nothing but what lies beside it, and every text in it is escaped: a query stays text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from agent.backtest.chart import HEIGHT, WIDTH, chart
from agent.backtest.moments import moment
from agent.backtest.rates import shown
from agent.backtest.report import Found, QueryReport, Report, senses, utc
from agent.backtest.verdict import lacking, unscored, verdict
from common import private_files

PAGE, DOCUMENT = "index.html", "backtest.json"

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="script-src 'none'; connect-src 'none'; object-src 'none'">
<title>sensebind backtest</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { font-variant-numeric: tabular-nums }
img { max-width: 100% }
td img { height: 8em }
audio { width: 16em }
h2 { margin-top: 2em }
p.note { color: #666 }
</style>
"""


def write_page(folder: Path, report: Report, top: int) -> None:
    """Fill a new folder: the page, a picture and a sound for the `top` hits of each query, and the report as JSON."""
    parts = [_HEAD, "<h1>What would have fired</h1>\n", _summary(report)]
    for number, query in enumerate(report.queries, start=1):
        # Numbers, since an id may hold what a file name or a link cannot.
        image = f"query{number}.png"
        private_files.write(folder / image, chart(query, report.hours))
        parts.append(_query(query, report, image))
        rows = []
        for rank, found in enumerate(query.best[:top], start=1):
            rows.append(_row(rank, found, _write_moment(folder, f"query{number}-{rank:02d}", found)))
        parts.append(_table(rows, len(query.found)))
    private_files.write(folder / PAGE, "".join(parts).encode(errors="replace"))
    private_files.write(folder / DOCUMENT, (json.dumps(report.document(), indent=1) + "\n").encode())


def _summary(report: Report) -> str:
    logs = ", ".join(escape(str(recording.timeline)) for recording in report.recordings)
    how = "; the log's own vectors were scored, pictures as a whole" if report.reused else ""
    return (
        f"<p>{report.hours * 60:.1f} minutes in all, recordings: {len(report.recordings)}, "
        f"model {escape(report.model)}{how}.<br>{logs}</p>\n"
        + "".join(f'<p class="note">{escape(line)}</p>\n' for line in lacking(report))
    )


def _query(query: QueryReport, report: Report, image: str) -> str:
    fired = len(query.found)
    lines = [
        f"<h2>{escape(query.query.text)}</h2>\n",
        f"<p>At threshold {query.query.threshold_on:g}: alarms {fired}, {shown(fired, report.hours)}.</p>\n",
    ]
    notes = (verdict(query, report), unscored(query, report), *query.warnings)
    lines += [f'<p class="note">{escape(line)}</p>\n' for line in notes if line]
    lines.append(f'<p><img src="{image}" width="{WIDTH}" height="{HEIGHT}" alt="histogram of scores"></p>\n')
    return "".join(lines)


def _write_moment(folder: Path, name: str, found: Found) -> str:
    """Write a hit's picture and sound; the cells that show them."""
    recording = found.recording
    at = moment(recording.timeline, recording.config, found.peak_ns)
    picture = sound = "&ndash;"
    if at.picture is not None:
        private_files.write(folder / f"{name}.jpg", at.picture)
        picture = f'<a href="{name}.jpg"><img src="{name}.jpg" alt="what the camera saw"></a>'
    if at.sound is not None:
        private_files.write(folder / f"{name}.wav", at.sound)
        sound = f'<audio controls preload="none" src="{name}.wav"></audio>'
    return f"<td>{picture}</td><td>{sound}</td>"


def _row(rank: int, found: Found, media: str) -> str:
    hit = found.hit
    cells = [
        str(rank),
        utc(hit.begin_ns),
        f"{found.since_start_s(hit.begin_ns):.1f}",
        f"{hit.duration_s:.1f}" + ("+" if hit.cut else ""),
        f"{hit.peak[0]:.3f}",
        senses(hit),
        "true" if found.marked else "",
        str(found.recording.timeline),
    ]
    return "<tr>" + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells) + media + "</tr>\n"


def _table(rows: Sequence[str], hits: int) -> str:
    if not rows:
        return "<p>Nothing fired.</p>\n"
    names = ("", "begin (UTC)", "s from start", "duration s", "peak", "by", "marked", "log", "picture", "sound")
    head = "".join(f"<th>{name}</th>" for name in names)
    shown = f"<p>The {len(rows)} best of {hits}.</p>\n" if len(rows) < hits else ""
    return f"{shown}<table>\n<tr>{head}</tr>\n{''.join(rows)}</table>\n"
