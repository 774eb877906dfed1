"""`sensebind query`: the text queries of a running agent. Imports stand inside the commands: grpc takes its time."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agent.address import DEFAULT_ADDRESS
from agent.commands.signals import ending
from common.printable import printable


class _Queries(TyperGroup):
    """The commands, of which `add` has the fields of a query as its options, and is made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["add", *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name != "add":
            return super().get_command(ctx, cmd_name)
        from agent.commands.query_add import add_command

        return add_command()


query_app = typer.Typer(cls=_Queries, help="Text queries that raise alerts.", no_args_is_help=True)

Address = Annotated[str, typer.Option(help="Where the agent listens, such as robot.local:50051.")]


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
def remove_query(
    query_id: Annotated[str, typer.Argument(help="Id of the query, such as dog; `query list` shows it.")],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Remove a query by its id."""
    from agent.client import Client

    async def remove() -> None:
        async with Client(address) as client:
            await client.remove_query(query_id)

    ending.run(remove)
