"""Shows a running agent in the terminal, from its own event stream: what `watch` and `demo` have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import grpc
from rich.console import Console
from rich.live import Live

from agent.client import Client, ClientError
from agent.commands.view import LiveView, clock_time, line_of, model_trouble, reason_line, source_line
from common.printable import printable
from protos import perception_pb2 as pb

STATUS_PERIOD_S = 1.0
PLAIN_STATUS_PERIOD_S = 5.0


async def watch(
    client: Client, console: Console, view: LiveView, on_event: Callable[[pb.Event], None] | None = None
) -> None:
    """Show events until cancelled: a live screen in a terminal, plain lines elsewhere.

    Raises ClientError when the agent cannot be reached at first; once it was, watching goes on when it is back.
    """
    printer = Printer(console)

    def show(event: pb.Event) -> None:
        view.on_event(event)
        if not console.is_terminal:
            printer.on_event(event)
        if on_event:
            on_event(event)

    follow = _follow(client, show)
    if not console.is_terminal:
        await asyncio.gather(follow, _refresh(client, view), _report(client, printer))
        return
    with Live(view.render(), console=console, refresh_per_second=8, get_renderable=view.render):
        await asyncio.gather(follow, _refresh(client, view))


async def _follow(client: Client, show: Callable[[pb.Event], None]) -> None:
    async for event in client.subscribe(reconnect=True):
        show(event)


async def _refresh(client: Client, view: LiveView) -> None:
    while True:
        with _while_away():
            queries = {query.id: query.text for query in await client.list_queries()}
            view.on_status(await client.status(), queries)
        await asyncio.sleep(STATUS_PERIOD_S)


@contextlib.contextmanager
def _while_away() -> Iterator[None]:
    """Pass over an agent that is not there: the subscription reconnects, or says that there is none."""
    try:
        yield
    except ClientError as error:
        # An agent that stops cancels the calls that are on their way.
        if error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise


class Printer:
    """Plain lines for what changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._source = ""
        self._began = False

    def on_status(self, status: pb.Status) -> None:
        """Print rates and ticks, and at first the reasons of streams that were not well before: no event tells them."""
        if not self._began:
            for reason in filter(None, map(reason_line, status.streams)):
                self.print(f"stream {reason}")
        self._began = True
        self.print(_status_line(status))

    def on_event(self, event: pb.Event) -> None:
        """Print a line unless the event says nothing new."""
        line = line_of(event)
        if event.HasField("audio_source") and event.audio_source.state != pb.SOURCE_STATE_NOTHING_HEARD:
            source = source_line(event.audio_source)
            line = None if source == self._source else f"{clock_time(event.capture_ns)}  source {source}"
            self._source = source
        if line:
            self.print(line)

    def print(self, line: str) -> None:
        """Print a line as it is, without markup."""
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


async def _report(client: Client, printer: Printer) -> None:
    while True:
        with _while_away():
            printer.on_status(await client.status())
        await asyncio.sleep(PLAIN_STATUS_PERIOD_S)


def _status_line(status: pb.Status) -> str:
    rates = ", ".join(f"{s.sensor} {s.rate_hz:.0f} Hz" for s in status.streams)
    shed = sum(status.ticks_shed.values())
    trouble = f"; {text}" if (text := model_trouble(status.model_state)) else ""
    return (
        f"{rates}; ticks {status.ticks_delivered} delivered, {shed} shed; {status.inference_ms:.0f} ms a tick{trouble}"
    )
