"""Options that several verbs take."""

from __future__ import annotations

from typing import Annotated

import typer

BeginOption = Annotated[
    str | None,
    typer.Option("--from", help="Start: seconds from the start of the log, such as 12.5, or UTC, such as 14:05:10."),
]
