"""`sensebind query add`, whose options are the fields of `agent.query.Query`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from agent.address import DEFAULT_ADDRESS
from agent.commands.queries import Address
from agent.commands.signals import ending
from agent.query import FIELDS
from common.printable import printable, say


def add_command() -> TyperCommand:
    """Make the command."""

    def add(text: str, address: str, **options: Any) -> None:
        from agent.client import Client

        async def ask() -> None:
            async with Client(address) as client:
                query = await client.add_query(text, query_id=options.pop("id") or "", **options)
                read_as = f"read as {query.read_as!r}  " if query.read_as else ""
                thresholds = f"on at {query.threshold_on:.2f}, off below {query.threshold_off:.2f}"
                say(f"{query.id}  {query.text!r}  {read_as}{thresholds}")
                for warning in query.warnings:
                    print(f"sensebind: warning: {printable(warning)}", file=sys.stderr)

        ending.run(ask)

    add.__signature__ = Signature(list(_parameters()))  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command("add", help='Raise an alert when a text is seen, heard or felt: sensebind query add "a dog barking".')(
        add
    )
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def _parameters() -> Iterator[Parameter]:
    """The text, and an option for each other field; what is not given is left to the agent."""
    kind = Parameter.KEYWORD_ONLY
    for field in FIELDS.values():
        if field.name == "text":
            yield Parameter("text", kind, annotation=Annotated[str, typer.Argument(help=field.help)])
            continue
        option = typer.Option(field.option, help=field.help)
        if field.type is bool:
            yield Parameter(field.name, kind, annotation=Annotated[bool, option], default=False)
        else:
            given = list[str] if field.name == "modalities" else field.type  # the client checks the names
            yield Parameter(field.name, kind, annotation=Annotated[given | None, option], default=None)
    yield Parameter("address", kind, annotation=Address, default=DEFAULT_ADDRESS)
