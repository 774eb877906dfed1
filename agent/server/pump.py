"""Pump of one subscription: events into one gRPC stream, as fast as the client takes them."""

from __future__ import annotations

import asyncio

import grpc

from agent.events.bus import Subscription
from agent.server.incoming import parse
from agent.server.refusal import Refusal, bad_request
from agent.server.unread import Unread
from protos import perception_pb2 as pb

GONE = "the client has gone"


class Pump:
    """`some` is set when something may be there to take. With `unread` no more than it allows is on its way.

    A client that takes nothing for `write_timeout_s` while something waits for it is ended.
    """

    def __init__(
        self,
        subscription: Subscription,
        some: asyncio.Event,
        context: grpc.aio.ServicerContext,
        write_timeout_s: float,
        unread: Unread | None = None,
    ) -> None:
        self._subscription, self._some, self._context = subscription, some, context
        self._write_timeout_s = write_timeout_s
        self._unread = unread
        self._fault: Refusal | None = None

    async def run(self) -> None:
        """Write until the subscription ends. Raises Refusal for what the client should not have said."""
        subscription = self._subscription
        while True:
            self._some.clear()
            if not await self._room():
                subscription.end(f"nothing was read for {self._write_timeout_s:g} s")
                return
            event = subscription.take()
            if event is not None:
                if self._unread is not None:
                    self._unread.sent(subscription.taken_seq, is_gap=subscription.took_gap)
                if not await self._write(event):
                    return
            elif subscription.ended:
                return
            else:
                await self._some.wait()

    async def acknowledge(self) -> None:
        """Take in what the client says it has read, until it says no more."""
        assert self._unread is not None
        try:
            while (raw := await self._context.read()) is not grpc.aio.EOF:
                request = parse(pb.WatchRequest, raw)
                if request.WhichOneof("request") != "read_seq":
                    raise bad_request(("read_seq", "is missing; after the first message only read_seqs come"))
                if self._unread.read(request.read_seq):
                    self._some.set()
        except ValueError as error:
            self._fault = bad_request(("read_seq", str(error)))
        except Refusal as refusal:
            self._fault = refusal.with_traceback(None)
        self._some.set()

    async def _room(self) -> bool:
        """Wait until another event may be on its way; False when the client read nothing for too long."""
        deadline = None
        while self._fault is None and self._unread is not None and self._unread.full:
            self._some.clear()
            if self._subscription.waits:
                deadline = deadline or asyncio.get_running_loop().time() + self._write_timeout_s
            elif self._subscription.ended:
                return True
            try:
                async with asyncio.timeout_at(deadline):
                    await self._some.wait()
            except TimeoutError:
                return False
        if self._fault is not None:
            raise self._fault
        return True

    async def _write(self, event: bytes) -> bool:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._context.write(event)
        except TimeoutError:
            self._subscription.end(f"nothing was read for {self._write_timeout_s:g} s")
            return False
        except grpc.aio.InternalError:  # gRPC has not said so yet
            self._subscription.end(GONE)
            return False
        return True
