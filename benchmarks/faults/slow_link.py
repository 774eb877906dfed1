"""A TCP connection over a slow link: bytes take their time, and only so many pass in a second. The asyncio loop's."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

PIECE_BYTES = 1024
HELD_BYTES = 16 * 1024
"""What the link holds by itself, as a router does; more waits in the sender's own buffers."""


class SlowLink:
    """Listens on loopback and passes on, both ways, what is sent to `address`."""

    def __init__(self, address: str, bytes_per_s: float, delay_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._to = host, int(port)
        self._bytes_per_s, self._delay_s = bytes_per_s, delay_s
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=PIECE_BYTES)
        self.address = "127.0.0.1:" + str(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, on = await asyncio.open_connection(*self._to, limit=PIECE_BYTES)
        for reader, writer in ((near, on), (far, back)):
            queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_BYTES // PIECE_BYTES)
            for work in (self._take(reader, queue), self._give(queue, writer)):
                task = asyncio.create_task(work)
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _take(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(PIECE_BYTES):
            await queue.put((loop.time() + self._delay_s, data))
            await asyncio.sleep(len(data) / self._bytes_per_s)
        await queue.put((0.0, b""))

    async def _give(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await queue.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()
