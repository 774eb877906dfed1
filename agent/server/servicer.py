"""The Perception service: what each call does, and how a call's outcome is told. Thin: the work is done elsewhere.

Requests arrive as bytes and are parsed here, so that bytes that are no request are the client's fault and not a
traceback; events leave as the bytes that the bus has serialised once for all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from agent.alerts.book import QueryError
from agent.embedding.worker import ModelHung, WorkerError
from agent.events import messages as events
from agent.events.vectors import vector_message
from agent.log.replaying.playback import ReplayOver
from agent.server.free_memory import FreeMemory
from agent.server.ingest import Intake
from agent.server.interface import Agent, EmbedError
from agent.server.refusal import Refusal, bad_request, too_many
from agent.server.requests import embed_inputs, query_of, replay_command
from agent.server.subscribers import Subscribers, stopping
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Perception"]
_LARGE_SAMPLE = 16 * 2**10
"""Bytes; larger samples may be pictures that take milliseconds to decode, for which the other calls do not wait."""
LOADING_PATIENCE_S = 5.0
"""A call waits this long for the model to be loaded: less than clients wait for an answer."""
MAX_EMBED_CALLS = 8
"""At a time; each holds its decoded pictures."""

Request = TypeVar("Request", bound=Message)
Context: TypeAlias = grpc.aio.ServicerContext


class Servicer:
    """The calls, by their names in the .proto file."""

    def __init__(self, agent: Agent, subscribers: Subscribers, *, max_queries: int) -> None:
        self._agent = agent
        self._subscribers = subscribers
        self._max_queries = max_queries
        # Held from looking at the queries to having changed them.
        self._queries_lock = asyncio.Lock()
        self._embed_calls = asyncio.Semaphore(MAX_EMBED_CALLS)
        self._free_memory = FreeMemory()

    def rpc_handlers(self) -> grpc.GenericRpcHandler:
        """What a gRPC server takes."""
        unary, unary_stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        calls = {
            "Subscribe": unary_stream(self._subscribe),
            "AddQuery": unary(self._unary(pb.AddQueryRequest, self._add_query)),
            "RemoveQuery": unary(self._unary(pb.RemoveQueryRequest, self._remove_query)),
            "ListQueries": unary(self._unary(pb.ListQueriesRequest, self._list_queries)),
            "Embed": unary(self._unary(pb.EmbedRequest, self._embed)),
            "GetStatus": unary(self._unary(pb.GetStatusRequest, self._get_status)),
            "ControlReplay": unary(self._unary(pb.ControlReplayRequest, self._control_replay)),
            "Ingest": grpc.stream_unary_rpc_method_handler(self._ingest),
        }
        return grpc.method_handlers_generic_handler(SERVICE.full_name, calls)

    def _unary(
        self, request_type: type[Request], method: Callable[[Request], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(raw: bytes) -> bytes:
            return (await method(_parse(request_type, raw))).SerializeToString()

        async def handler(raw: bytes, context: Context) -> bytes:
            try:
                return await _outcome(call(raw), context)
            finally:
                self._free_memory.note(len(raw))

        return handler

    async def _subscribe(self, raw: bytes, context: Context) -> None:
        async def call() -> None:
            await self._subscribers.serve(_parse(pb.SubscribeRequest, raw), context)

        await _outcome(call(), context)

    @asynccontextmanager
    async def _model(self) -> AsyncIterator[None]:
        """For what needs the model: waits until it is loaded, and tells why it takes no more."""
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
                f"query {query.id!r} exists; remove it first, or leave the id out and one is made",
                "QUERY_EXISTS",
                metadata={"id": query.id},
            )
        if len(taken) >= self._max_queries:
            raise too_many("queries", self._max_queries, "remove one first")
        try:
            standing = await self._agent.add_query(query)
        except QueryError as error:
            raise bad_request((error.field, str(error).removeprefix(f"{error.field}: "))) from None
        return events.query(standing.query, standing.warnings)

    async def _remove_query(self, request: pb.RemoveQueryRequest) -> pb.RemoveQueryResponse:
        try:
            async with self._model(), self._queries_lock:
                await self._agent.remove_query(request.id)
        except KeyError:
            message = f"there is no query {request.id[:80]!r}; `sensebind query list` names those there are"
            raise Refusal(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_QUERY") from None
        return pb.RemoveQueryResponse()

    async def _list_queries(self, _: pb.ListQueriesRequest) -> pb.ListQueriesResponse:
        queries = [events.query(standing.query, standing.warnings) for standing in self._agent.list_queries()]
        return pb.ListQueriesResponse(queries=queries)

    async def _embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        if self._embed_calls.locked():
            raise too_many("Embed calls", MAX_EMBED_CALLS, "send the next one when one is answered")
        async with self._embed_calls, self._model():
            inputs = await asyncio.to_thread(embed_inputs, request)
            try:
                found = await self._agent.embed(*inputs)
            except EmbedError as error:
                raise bad_request((error.field, str(error))) from None
        response = pb.EmbedResponse(model=found.model)
        for field, vectors in (("texts", found.texts), ("images", found.images), ("audio", found.audio)):
            getattr(response, field).extend(vector_message(vector, "float32") for vector in vectors)
        if field := events.non_finite(response):
            raise Refusal(grpc.StatusCode.INTERNAL, f"the model's answer is not finite in {field}", "NOT_FINITE")
        return response

    async def _get_status(self, _: pb.GetStatusRequest) -> pb.Status:
        status = self._agent.status()
        status.subscribers = len(self._subscribers)
        status.queries = len(self._agent.list_queries())
        status.events_refused = self._agent.bus.refused.total()
        return status

    async def _control_replay(self, request: pb.ControlReplayRequest) -> pb.ReplayState:
        playback = self._agent.playback
        if playback is None:
            message = "this agent captures live; only one that was started by `sensebind replay --serve` is controlled"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, "NOT_A_REPLAY")
        command = replay_command(request, playback.state())
        try:
            return (await asyncio.wrap_future(playback.control(command))).message()
        except ReplayOver:
            raise stopping() from None

    async def _ingest(self, raws: AsyncIterator[bytes], context: Context) -> bytes:
        async def call() -> bytes:
            intake = Intake(self._agent.remotes, self._agent.now_ns)
            async for raw in raws:
                if len(raw) > _LARGE_SAMPLE:
                    await asyncio.to_thread(intake.take, raw)
                else:
                    intake.take(raw)
            return intake.response.SerializeToString()

        return await _outcome(call(), context)


def _parse(request_type: type[Request], raw: bytes) -> Request:
    try:
        return request_type.FromString(raw)
    except DecodeError:
        name = request_type.DESCRIPTOR.name
        raise bad_request(
            ("request", f"{len(raw)} bytes are not a {name}; is the client built from other protos?")
        ) from None


async def _outcome(call: Awaitable[bytes | None], context: Context) -> bytes:
    """Await a call, and end it as its Refusal says. Anything else that it raises is a fault of ours, and logged."""
    try:
        return await call or b""
    except Refusal as refusal:
        await _abort(context, refusal)
    except Exception as error:
        log.exception("a call failed")
        message = f"internal error: {type(error).__name__}; the agent's log says more"
        await _abort(context, Refusal(grpc.StatusCode.INTERNAL, message, "INTERNAL"))
    return b""


async def _abort(context: Context, refusal: Refusal) -> None:
    """End a call; its handler then returns, whatever it returns."""
    try:
        await context.abort_with_status(refusal.status())
    except grpc.aio.AbortError as error:
        # The context keeps it, and gRPC raises it again. What it has passed leads back to the context: a ring, which
        # would hold the request until the next full collection.
        error.__traceback__ = error.__context__ = None
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # the client has gone: nobody is there to be told
