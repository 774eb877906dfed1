"""All commands of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import typer


def commands_of(group: typer.core.TyperGroup, *words: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, typer.core.TyperGroup):
            yield from commands_of(command, *words, name)
        else:
            assert isinstance(command, typer.core.TyperCommand)
            yield " ".join((*words, name)), command
