"""The events of one subscription over one connection, as the client reads them.

Each yields None once it is subscribed, then events, until the client is closed; `closed` says whether it is. Both raise
what gRPC raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub


async def subscribed(
    stub: PerceptionStub, request: pb.SubscribeRequest, closed: Callable[[], bool]
) -> AsyncGenerator[pb.Event | None, None]:
    """By Subscribe: what is on its way to a reader that stalls is bounded by gRPC alone."""
    async with aclosing(_events(stub.Subscribe(request), closed)) as events:
        async for event in events:
            yield event


async def watched(
    stub: PerceptionStub, request: pb.SubscribeRequest, max_unread: int, closed: Callable[[], bool]
) -> AsyncGenerator[pb.Event | None, None]:
    """By Watch: an event is told to be read when the next one is asked for, and few are on their way."""
    call = stub.Watch()
    await _tell(call, pb.WatchRequest(subscribe=request, max_unread=max_unread), closed)
    unread = 0
    async with aclosing(_events(call, closed)) as events:
        async for event in events:
            yield event
            unread += event is not None
            # Not each by itself: what is not told yet only makes the window smaller by a quarter.
            if event is not None and unread >= max(1, max_unread // 4):
                unread = 0
                await _tell(call, pb.WatchRequest(read_seq=event.seq), closed)


async def _events(call: Any, closed: Callable[[], bool]) -> AsyncGenerator[pb.Event | None, None]:
    try:
        await call.initial_metadata()
        if not call.done():
            yield None
        async for event in call:
            yield event
    except asyncio.CancelledError:
        if not closed():
            raise
    finally:
        call.cancel()


async def _tell(call: Any, message: pb.WatchRequest, closed: Callable[[], bool]) -> None:
    """Write to a call. That fails, in several ways, once it has ended: the call's own status says why."""
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        pass
    except asyncio.CancelledError:
        if not closed():
            raise
