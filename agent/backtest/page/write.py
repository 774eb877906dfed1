"""A folder that shows what a backtest found: one page, which holds all that it shows, and the same as JSON.

The page asks for nothing from elsewhere, and every text in it is escaped: a query stays text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path

from agent.backtest.page.markup import Markup, element
from agent.backtest.page.media import media
from agent.backtest.page.sections import section, summary
from agent.backtest.report import Report
from common import private_files
from common.printable import shortened

PAGE, DOCUMENT = "index.html", "backtest.json"
_TITLE = 200
"""Characters."""
_HERE = files("agent.backtest.page")


def write_page(folder: Path, report: Report, top: int) -> None:
    """Fill a new folder: the page with the `top` moments of each query, and the report as JSON. Raises ReplayError."""
    private_files.write(folder / PAGE, page(report, top).encode())
    private_files.write(folder / DOCUMENT, (json.dumps(report.document(), indent=1) + "\n").encode())


def page(report: Report, top: int) -> str:
    """Return the page, which reads pictures and sounds from the recordings. Raises ReplayError."""
    shown = media([query.best[:top] for query in report.queries])
    style = Markup((_HERE / "page.css").read_text("utf-8"))
    script = Markup((_HERE / "page.js").read_text("utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("title", shortened("Backtest: " + ", ".join(query.query.text for query in report.queries), _TITLE)),
        element("link", rel="icon", href="data:,"),
        element("style", style),
    )
    sections = [section(n, query, report, top, shown) for n, query in enumerate(report.queries, start=1)]
    body = element("body", element("main", summary(report), *sections), element("script", script))
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _policy(style: str, script: str) -> str:
    """Only this style and this script, and only what is in the page."""
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
