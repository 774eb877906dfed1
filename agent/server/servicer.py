"""The Perception service: the calls, and their outcomes as gRPC codes. Thin: the work is done elsewhere.

Requests arrive as bytes and are parsed here, so that bytes that are not a request are the client's fault and not a
traceback; events leave as the bytes that the bus has serialised once for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from agent.embedding.requests import EmbedError
from agent.embedding.worker import ModelGone, ModelHung, WorkerError
from agent.events import messages as events
from agent.events.finite import non_finite
from agent.log.replay.control import ReplayOver
from agent.query import QueryError
from agent.server.admission import Calls
from agent.server.heap import Heap
from agent.server.incoming import MAX_MESSAGE, first_of, parse
from agent.server.ingest import Intake, Pushed
from agent.server.interface import Agent
from agent.server.limits import Limits
from agent.server.refusal import Refusal, bad_request, too_many
from agent.server.requests import embed_inputs, query_of, replay_command
from agent.server.subscribers import Subscribers, stopping
from agent.vectors import vector_message
from protos import perception_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Perception"]
_LARGE_SAMPLE = 16 * 2**10
"""Bytes; larger samples may be pictures that take milliseconds to decode, for which the other calls do not wait."""
LOADING_PATIENCE_S = 5.0
"""A call waits this long for the model to be loaded: less than clients wait for an answer."""

Request = TypeVar("Request", bound=Message)
Context: TypeAlias = grpc.aio.ServicerContext


class Servicer:
    """The calls, by their names in the .proto file."""

    def __init__(self, agent: Agent, subscribers: Subscribers, limits: Limits) -> None:
        self._agent = agent
        self._subscribers = subscribers
        self._limits = limits
        self._heap = Heap()
        self._running: set[asyncio.Timeout] = set()
        self._ends_at: float | None = None
        # Held from looking at the queries to having changed them.
        self._queries_lock = asyncio.Lock()
        self._pushed = Pushed(agent.bus.faults)
        self._subscriber_calls = Calls("subscribers", limits.subscribers)
        self._ingest_calls = Calls("Ingest calls", limits.ingests, "push several sensors in one call, or end one")
        self._embeds = Calls("Embed calls", limits.embeds, "send the next one when one is answered")
        self._changes = Calls("calls that change something", limits.changes, "send the next one when one is answered")
        self._looks = Calls("calls that look", limits.looks, "send the next one when one is answered")

    def stop(self, after_s: float) -> None:
        """End every call that still runs after so long, before gRPC cancels it without a word."""
        self._ends_at = asyncio.get_running_loop().time() + after_s
        for patience in self._running:
            patience.reschedule(self._ends_at)

    def rpc_handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers of all calls."""
        stream = grpc.stream_stream_rpc_method_handler
        largest = self._limits.message_bytes
        calls = {
            "Subscribe": stream(self._subscribe),
            "Watch": stream(self._watch),
            "AddQuery": self._unary(pb.AddQueryRequest, self._add_query, self._changes),
            "RemoveQuery": self._unary(pb.RemoveQueryRequest, self._remove_query, self._changes),
            "ListQueries": self._unary(pb.ListQueriesRequest, self._list_queries, self._looks),
            "Embed": self._unary(pb.EmbedRequest, self._embed, self._embeds, largest),
            "GetStatus": self._unary(pb.GetStatusRequest, self._get_status, self._looks),
            "ControlReplay": self._unary(pb.ControlReplayRequest, self._control_replay, self._changes),
            "Ingest": grpc.stream_unary_rpc_method_handler(self._ingest),
        }
        return grpc.method_handlers_generic_handler(SERVICE.full_name, calls)

    def status_handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers of the calls that only read the agent's state."""
        looks = Calls("calls that look", self._limits.looks, "send the next one when one is answered")
        calls = {"GetStatus": self._unary(pb.GetStatusRequest, self._get_status, looks)}
        return grpc.method_handlers_generic_handler(SERVICE.full_name, calls)

    def _unary(
        self,
        request_type: type[Request],
        method: Callable[[Request], Awaitable[Message]],
        calls: Calls,
        max_bytes: int = MAX_MESSAGE,
    ) -> grpc.RpcMethodHandler:
        async def call(context: Context) -> bytes:
            with calls.one(context.peer()):
                return (await method(await self._first(context, request_type, max_bytes))).SerializeToString()

        async def handler(_: object, context: Context) -> bytes:
            return await self._outcome(call(context), context)

        return grpc.stream_unary_rpc_method_handler(handler)

    async def _first(self, context: Context, request_type: type[Request], max_bytes: int = MAX_MESSAGE) -> Request:
        try:
            raw = await first_of(context, self._limits.request_timeout_s)
        except Refusal:
            self._heap.took(self._limits.message_bytes)  # one that is too large for gRPC comes as none
            raise
        self._heap.took(len(raw))
        return parse(request_type, raw, max_bytes)

    async def _subscribe(self, _: object, context: Context) -> None:
        async def call() -> None:
            with self._subscriber_calls.one(context.peer()):
                await self._subscribers.subscribe(await self._first(context, pb.SubscribeRequest), context)

        await self._outcome(call(), context)

    async def _watch(self, _: object, context: Context) -> None:
        async def call() -> None:
            with self._subscriber_calls.one(context.peer()):
                await self._subscribers.watch(await self._first(context, pb.WatchRequest), context)

        await self._outcome(call(), context)

    @asynccontextmanager
    async def _model(self) -> AsyncIterator[None]:
        """Wait for the model of a call until it is loaded; refuse the call when it takes no more."""
        try:
            async with asyncio.timeout(LOADING_PATIENCE_S):
                await self._agent.ready()
        except TimeoutError:
            message = "the model is loading; try again"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, message, "MODEL_LOADING") from None
        try:
            yield
        except ModelHung as error:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, str(error), "MODEL_HUNG") from None
        except ModelGone as error:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, str(error), "MODEL_GONE") from None
        except WorkerError as error:
            if self._subscribers.stopping:
                raise stopping() from None
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), "MODEL_BUSY") from None

    async def _add_query(self, request: pb.AddQueryRequest) -> pb.Query:
        async with self._model(), self._queries_lock:
            return await self._add(request)

    async def _add(self, request: pb.AddQueryRequest) -> pb.Query:
        taken = {standing.query.id for standing in self._agent.list_queries()}
        query = query_of(request, taken)
        if query.id in taken:
            raise Refusal(
                grpc.StatusCode.ALREADY_EXISTS,
                f"query {query.id!r} exists; remove it first, or leave out the id to get a new one",
                "QUERY_EXISTS",
                metadata={"id": query.id},
            )
        if len(taken) >= self._limits.queries:
            raise too_many("queries", self._limits.queries, "remove one first")
        try:
            standing = await self._agent.add_query(query)
        except QueryError as error:
            raise bad_request((error.field, str(error).removeprefix(f"{error.field}: "))) from None
        return standing.message()

    async def _remove_query(self, request: pb.RemoveQueryRequest) -> pb.RemoveQueryResponse:
        try:
            async with self._model(), self._queries_lock:
                await self._agent.remove_query(request.id)
        except KeyError:
            message = f"no query has the id {request.id[:80]!r}; `sensebind query list` shows the ids"
            raise Refusal(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_QUERY") from None
        return pb.RemoveQueryResponse()

    async def _list_queries(self, _: pb.ListQueriesRequest) -> pb.ListQueriesResponse:
        queries = [standing.message() for standing in self._agent.list_queries()]
        return pb.ListQueriesResponse(queries=queries)

    async def _embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        async with self._model():
            inputs = await asyncio.to_thread(embed_inputs, request)
            try:
                found = await self._agent.embed(*inputs)
            except EmbedError as error:
                raise bad_request((error.field, str(error))) from None
        response = pb.EmbedResponse(model=found.model)
        for field, vectors in (("texts", found.texts), ("images", found.images), ("audio", found.audio)):
            getattr(response, field).extend(vector_message(vector, "float32") for vector in vectors)
        if field := non_finite(response):
            raise Refusal(grpc.StatusCode.INTERNAL, f"the model's answer is not finite in {field}", "NOT_FINITE")
        return response

    async def _get_status(self, _: pb.GetStatusRequest) -> pb.Status:
        status = self._agent.status()
        status.subscribers = len(self._subscribers)
        status.queries = len(self._agent.list_queries())
        status.events_refused = self._agent.bus.refused.total()
        return status

    async def _control_replay(self, request: pb.ControlReplayRequest) -> pb.ReplayState:
        replay = self._agent.replay
        if replay is None:
            message = "this agent captures live; only `sensebind replay --serve` can be controlled"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, "NOT_A_REPLAY")
        command = replay_command(request, replay.state())
        try:
            return events.replay_state(await asyncio.wrap_future(replay.ask(command)))
        except ReplayOver:
            raise stopping() from None

    async def _ingest(self, raws: AsyncIterator[bytes], context: Context) -> bytes:
        async def call() -> bytes:
            with self._ingest_calls.one(context.peer()):
                intake = Intake(self._agent.remotes, self._agent.now_ns, self._pushed)
                async for raw in raws:
                    if len(raw) > _LARGE_SAMPLE:
                        await asyncio.to_thread(intake.take, raw)
                    else:
                        intake.take(raw)
                return intake.finish().SerializeToString()

        return await self._outcome(call(), context)

    async def _outcome(self, call: Awaitable[bytes | None], context: Context) -> bytes:
        """Await a call, and end it as its Refusal says. Anything else that it raises is a fault of ours, and counted.

        What it raised is let go of first: it holds on to the call's frames, and with them to its request.
        """
        patience = asyncio.timeout_at(self._ends_at)
        try:
            async with patience:
                self._running.add(patience)
                return await call or b""
        except Refusal as refusal:
            status = refusal.status()
        except Exception as error:  # noqa: BLE001
            if patience.expired():
                status = stopping().status()
            else:
                self._agent.bus.faults.count("calls", error)
                message = f"internal error: {type(error).__name__}; the agent's log says more"
                status = Refusal(grpc.StatusCode.INTERNAL, message, "INTERNAL").status()
        finally:
            self._running.discard(patience)
        await _abort(context, status)
        return b""


async def _abort(context: Context, status: grpc.Status) -> None:
    """End a call; its handler then returns, whatever it returns."""
    try:
        await context.abort_with_status(status)
    except grpc.aio.AbortError as error:
        # The context keeps it, and gRPC raises it again. Its traceback leads back to the context: a ring, which
        # would hold the request until the next full collection.
        error.__traceback__ = error.__context__ = None
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # the client has gone
