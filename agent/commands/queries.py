"""`sensebind query`: the text queries of a running agent. Imports stand inside the commands: grpc takes its time."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.commands.signals import ending
from common.printable import printable, say

query_app = typer.Typer(help="Text queries that raise alerts.", no_args_is_help=True)

DEFAULT_ADDRESS = "127.0.0.1:50051"
Address = Annotated[str, typer.Option(help="Where the agent listens.")]


@query_app.command("add")
def add_query(
    text: str,
    modality: Annotated[list[str] | None, typer.Option(help="Which may carry it; repeat for several.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score at which the alert begins, 0..1.")] = None,
    threshold_off: Annotated[float | None, typer.Option(help="Score below which it ends.")] = None,
    min_duration_s: Annotated[float | None, typer.Option(help="Over the threshold for this long first.")] = None,
    cooldown_s: Annotated[float | None, typer.Option(help="From an end to the next begin.")] = None,
    query_id: Annotated[str, typer.Option("--id", help="Its name; one is made if none is given.")] = "",
    clip: Annotated[bool, typer.Option("--clip", help="Save what the sensors gave around its alerts.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Be told when something is seen, heard or felt: sensebind query add "a dog barking"."""
    from agent.client import Client

    async def add() -> None:
        async with Client(address) as client:
            query = await client.add_query(
                text,
                modalities=modality or (),  # type: ignore[arg-type]  # the client checks the names
                threshold_on=threshold,
                threshold_off=threshold_off,
                min_duration_s=min_duration_s,
                cooldown_s=cooldown_s,
                query_id=query_id,
                clip=clip,
            )
            say(f"{query.id}  {query.text!r}  on at {query.threshold_on:.2f}, off below {query.threshold_off:.2f}")
            for warning in query.warnings:
                print(f"sensebind: warning: {printable(warning)}", file=sys.stderr)

    ending.run(add)


@query_app.command("list")
def list_queries(address: Address = DEFAULT_ADDRESS) -> None:
    """List the queries of a running agent."""
    from agent.client import Client

    async def show() -> None:
        async with Client(address) as client:
            for query in await client.list_queries():
                print(
                    f"{printable(query.id)}\t{printable(query.text)}\t{query.threshold_on:.2f}\t{query.threshold_off:.2f}"
                )

    ending.run(show)


@query_app.command("remove")
def remove_query(query_id: str, address: Address = DEFAULT_ADDRESS) -> None:
    """Remove a query by its id."""
    from agent.client import Client

    async def remove() -> None:
        async with Client(address) as client:
            await client.remove_query(query_id)

    ending.run(remove)
