"""The commands of `sensebind golden`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

golden_app = typer.Typer(
    help="Regression test: replay a stored log and compare its events with the stored ones.", no_args_is_help=True
)


@golden_app.command("record")
def golden_record(
    log: Annotated[Path, typer.Argument(help="Short log of one file, such as drive.mcap.")],
    out: Annotated[Path, typer.Option(help="Folder for the log and its events.")] = Path("tests/data/golden"),
) -> None:
    """Store a short log and the events of its replay, as the reference of `golden check`."""
    from agent.lab.golden import record as keep

    print(f"{out}: {keep(log, out)} events kept")


@golden_app.command("check")
def golden_check(
    folder: Annotated[Path, typer.Argument(help="Folder that `golden record` wrote.")] = Path("tests/data/golden"),
    accept: Annotated[
        bool, typer.Option(help="Store the new events as the reference: the change is intended.")
    ] = False,
    exact: Annotated[
        bool, typer.Option(help="Compare bit for bit, on the machine that recorded it. Default: within tolerances.")
    ] = False,
) -> None:
    """Replay a stored log and compare its events with the stored ones, field by field."""
    from agent.lab.golden import check

    check(folder, exact=exact, accept=accept)
