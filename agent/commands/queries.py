"""`sensebind query`: the text queries of a running agent. Imports stand inside the commands: grpc takes its time."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.commands.signals import ending
from common.printable import printable, say

query_app = typer.Typer(
    help="Add, list or remove the text queries of a running agent. Each raises alerts.", no_args_is_help=True
)

DEFAULT_ADDRESS = "127.0.0.1:50051"
Address = Annotated[str, typer.Option(help="HOST:PORT of the agent.")]


@query_app.command("add")
def add_query(
    text: Annotated[str, typer.Argument(help='Text to watch for, such as "a dog barking".')],
    modality: Annotated[
        list[str] | None,
        typer.Option(help="Modality to score: vision, audio, depth, thermal or imu; repeatable. Default: all."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score at which an alert begins, above 0 and up to 1. Default: 0.6.")
    ] = None,
    threshold_off: Annotated[
        float | None, typer.Option(help="Score below which the alert ends. Default: 0.6 times --threshold.")
    ] = None,
    min_duration_s: Annotated[
        float | None, typer.Option(help="Seconds above the threshold before an alert begins. Default: 0.5.")
    ] = None,
    cooldown_s: Annotated[
        float | None, typer.Option(help="Seconds from the end of an alert to the next begin. Default: 2.")
    ] = None,
    query_id: Annotated[str, typer.Option("--id", help="Id of the query, such as dog. Default: a new one.")] = "",
    clip: Annotated[
        bool,
        typer.Option("--clip", help="Save the samples around each alert as a small log in the config's clips.folder."),
    ] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Raise an alert when a text is seen, heard or felt: sensebind query add "a dog barking"."""
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
    """List the queries of a running agent: id, text, and the thresholds on and off."""
    from agent.client import Client

    async def show() -> None:
        async with Client(address) as client:
            for query in await client.list_queries():
                print(
                    f"{printable(query.id)}\t{printable(query.text)}\t{query.threshold_on:.2f}\t{query.threshold_off:.2f}"
                )

    ending.run(show)


@query_app.command("remove")
def remove_query(
    query_id: Annotated[str, typer.Argument(help="Id of the query, as `query list` shows it.")],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Remove a query; its alerts end."""
    from agent.client import Client

    async def remove() -> None:
        async with Client(address) as client:
            await client.remove_query(query_id)

    ending.run(remove)
