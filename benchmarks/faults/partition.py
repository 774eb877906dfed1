"""A TCP proxy that can stop passing anything on without closing a connection, as a network does that is cut."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Partition:
    """Passes bytes on between clients and `address`, until it is cut.

    What was connected, or connects, while it is cut stays silent for ever; what connects after it has healed is passed
    on again.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._cut = False
        self._links: set[Link] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "127.0.0.1:" + str(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for link in list(self._links):
            link.close()
        await asyncio.gather(*(link.ended for link in self._links), return_exceptions=True)

    def cut(self) -> None:
        """Pass nothing on from here on."""
        self._cut = True
        for link in self._links:
            link.silent = True

    def heal(self) -> None:
        """Pass new connections on."""
        self._cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = Link(task, self._cut)
        self._links.add(link)
        try:
            await link.run(reader, writer, self._target)
        finally:
            self._links.discard(link)


class Link:
    """One connection through a Partition."""

    def __init__(self, ended: asyncio.Task[None], silent: bool) -> None:
        self.ended, self.silent = ended, silent

    def close(self) -> None:
        """End it on both sides."""
        self.ended.cancel()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        """Pass on until one side closes."""
        writers = [writer]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self.silent:
                await self._pass(reader, None)
                return
            there, back = await asyncio.open_connection(*target)
            writers.append(back)
            pumps = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        for end in writers:
            end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        while data := await reader.read(65536):
            if writer is not None and not self.silent:
                writer.write(data)
                await writer.drain()
        if self.silent:
            await asyncio.Event().wait()  # a cut network does not tell that one side has closed
