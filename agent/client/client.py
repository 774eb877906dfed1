"""A typed client of the agent, for programs, the command line and tests. Needs neither torch nor a device.

async with Client("127.0.0.1:50051") as client:
    async for event in client.subscribe(kinds=["alert"]):
        print(event.alert.text)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import numpy as np
from numpy.typing import NDArray

from agent.address import DEFAULT_ADDRESS, ListenError, split_address
from agent.client.error import ClientError, error_of
from agent.client.event_stream import subscribed, watched
from agent.events.filters import KINDS
from agent.keepalive import ping_options
from agent.query import QueryOptions
from agent.scores import Scores, scores_of
from agent.vectors import heat_map_of, vector_of
from drivers.codec import MODALITY_VALUES, encode_audio, encode_colour, encode_sample
from drivers.driver import Modality, Sample
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import SensorSample

__all__ = ["Client", "ClientError", "IngestReport", "Scores", "Vectors", "heat_map_of", "scores_of", "vector_of"]

TIMEOUT_S = 10.0
PING_AFTER_S = 10.0
PING_TIMEOUT_S = 4.0
"""An agent that was silent for the former is pinged, and given up when it does not answer within the latter."""
MAX_UNREAD = 16
"""Events of a subscription that may be on their way at a time: what a reader that stalled gets first, however old."""
_RETRY_FIRST_S, _RETRY_LAST_S = 0.1, 0.4
_CONNECT_MS = 1500
Answer = TypeVar("Answer")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Answer of `embed`: unit vectors, float32 [n, D] each, in the order of the inputs."""

    texts: NDArray[np.float32]
    images: NDArray[np.float32]
    audio: NDArray[np.float32]
    model: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of the samples of an `ingest`, by reason, and the first fault of each reason."""

    accepted: int
    rejected: dict[str, int]
    first_faults: dict[str, str]


class Client:
    """One connection to one agent, for one asyncio loop. Raises ClientError, and nothing else of gRPC's.

    `timeout_s` is how long an answer may take. An agent from which nothing has come for `ping_after_s` is pinged, and
    counts as gone when it leaves that unanswered for `ping_timeout_s`. It sends away who pings more often than every
    5 s.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = TIMEOUT_S,
        ping_after_s: float = PING_AFTER_S,
        ping_timeout_s: float = PING_TIMEOUT_S,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._pings = ping_options(ping_after_s, ping_timeout_s)
        self._has_watch = True
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        try:
            split_address(self.address)
        except ListenError as error:
            raise ClientError(str(error)) from None
        self._channel = grpc.aio.insecure_channel(
            self.address,
            options=[
                ("grpc.max_receive_message_length", 16 * 2**20),
                *self._pings,
                # Its measuring of the bandwidth lets 4 MiB of events wait for a reader that stalls; without, 64 KiB.
                ("grpc.http2.bdp_probe", 0),
                # gRPC's own back-off grows to minutes, and it waits 20 s for a connection to be made.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
                ("grpc.max_reconnect_backoff_ms", 1_000),
            ],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and all that runs on it; any number of times."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def subscribe(
        self,
        *,
        kinds: Iterable[str] = (),
        modalities: Iterable[Modality] = (),
        sensors: Iterable[str] = (),
        query_ids: Iterable[str] = (),
        max_rate_hz: float = 0.0,
        heat_maps: bool = False,
        vectors: bool = False,
        max_age_s: float = 0.0,
        max_unread: int = MAX_UNREAD,
        resume: tuple[str, int] | None = None,
        reconnect: bool = False,
    ) -> AsyncIterator[pb.Event]:
        """Yield events as they are published; empty filters let everything through.

        `kinds` of "embedding", "audio_source", "alert", "health", "recording", "model", "query"; Gap events come in any
        case. `resume` is the run_id and seq of the last event read. With `reconnect` a lost connection is made again,
        and resumed, for as long as it takes, once the agent has been reached; what is missed for good is reported by a
        Gap.

        An event counts as read when the next one is asked for. While `max_unread` are on their way the agent sends no
        more, and drops what its queue does not hold; nor does it send what has waited for more than `max_age_s` (0: no
        limit), but alerts it always does. Both are reported by a Gap. A reader that stalls for 10 s is ended.
        """
        request = pb.SubscribeRequest(
            kinds=_named(KINDS, kinds, "kind of event"),
            modalities=_named(MODALITY_VALUES, modalities, "modality of a sensor"),
            sensors=sensors,
            query_ids=query_ids,
            max_rate_hz=max_rate_hz,
            heat_maps=heat_maps,
            vectors=vectors,
            max_age_s=max_age_s,
        )
        if resume is not None:
            request.resume_run_id, request.resume_after_seq = resume
        reached = False
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                async with aclosing(self._stream(request, max_unread)) as events:
                    async for event in events:
                        if event is None:
                            reached, wait_s = True, _RETRY_FIRST_S
                            continue
                        request.resume_run_id, request.resume_after_seq = event.run_id, event.seq
                        yield event
                return
            except ClientError as error:
                if not (reconnect and reached and error.code == grpc.StatusCode.UNAVAILABLE):
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_LAST_S)

    async def add_query(self, text: str, *, query_id: str = "", **options: Unpack[QueryOptions]) -> pb.Query:
        """Watch for what a text says; what is None or left out has the agent's default.

        Without a `query_id` the agent makes one. `options` are the other fields of `agent.query.Query`, for example
        `modalities=["audio"], threshold_on=0.8`.
        """
        modalities = _named(MODALITY_VALUES, options.get("modalities") or (), "modality of a sensor")
        fields: dict[str, Any] = {**options, "modalities": modalities}
        request = pb.AddQueryRequest(text=text, id=query_id, **fields)
        return await self._answer(self._stub().AddQuery(request, timeout=self._timeout_s))

    async def remove_query(self, query_id: str) -> None:
        """Watch for it no more."""
        await self._answer(self._stub().RemoveQuery(pb.RemoveQueryRequest(id=query_id), timeout=self._timeout_s))

    async def list_queries(self) -> list[pb.Query]:
        """All queries, oldest first."""
        response = await self._answer(self._stub().ListQueries(pb.ListQueriesRequest(), timeout=self._timeout_s))
        return list(response.queries)

    async def embed(
        self,
        *,
        texts: Iterable[str] = (),
        images: Iterable[NDArray[np.uint8]] = (),
        audio: Iterable[tuple[NDArray[np.float32], float]] = (),
    ) -> Vectors:
        """Embed texts, RGB images [H, W, 3], and audio ([n, channels], rate in Hz) with the agent's model."""
        request = pb.EmbedRequest(
            texts=texts,
            images=[encode_colour(image) for image in images],
            audio=[encode_audio(rows, rate_hz) for rows, rate_hz in audio],
        )
        response = await self._answer(self._stub().Embed(request, timeout=self._timeout_s))
        return Vectors(_stacked(response.texts), _stacked(response.images), _stacked(response.audio), response.model)

    async def status(self) -> pb.Status:
        """Return the agent's status: streams, rates, drops, model, device, versions."""
        return await self._answer(self._stub().GetStatus(pb.GetStatusRequest(), timeout=self._timeout_s))

    async def control_replay(
        self,
        *,
        paused: bool | None = None,
        speed: float | None = None,
        seek_s: float | None = None,
        step_ticks: int = 0,
    ) -> pb.ReplayState:
        """Pause a replay or let it go on, change its speed, seek in it or step; with nothing given, only how it stands.

        `speed` is times the log's own, 0 as fast as the model goes; `seek_s` are seconds from the start of the log;
        `step_ticks` goes on for so many ticks, then pauses. Returns once a seek is done.
        """
        if step_ticks < 0:
            raise ClientError(f"step_ticks is {step_ticks}; a replay steps forward only, seek to go back")
        request = pb.ControlReplayRequest(paused=paused, speed=speed, step_ticks=step_ticks)
        if seek_s is not None:
            request.seek_s = seek_s
        return await self._answer(self._stub().ControlReplay(request, timeout=self._timeout_s))

    async def ingest(
        self,
        samples: AsyncIterable[tuple[str, Modality, Sample]],
        encode: Callable[[str, Modality, Sample], SensorSample] = encode_sample,
    ) -> IngestReport:
        """Push samples (sensor, modality, sample) to sensors of type `remote` until they end.

        A `t_ns` of 0 is stamped on arrival. Samples go without loss; for JPEG pictures give
        `functools.partial(encode_sample, encoding="jpeg")`.
        """
        call = self._stub().Ingest()
        try:
            # A write fails, in several ways, once the agent has ended the call: the call's own status says why.
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                async for sensor, modality, sample in samples:
                    await call.write(encode(sensor, modality, sample))
                await call.done_writing()
            response = await self._answer(call)
        finally:
            call.cancel()
        return IngestReport(response.accepted, dict(response.rejected), dict(response.first_faults))

    async def _stream(self, request: pb.SubscribeRequest, max_unread: int) -> AsyncGenerator[pb.Event | None, None]:
        """Yield None once subscribed, then events, until the client is closed."""
        stub = self._stub()
        if self._has_watch:
            try:
                async with aclosing(watched(stub, request, max_unread, lambda: self._channel is None)) as events:
                    async for event in events:
                        yield event
                return
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                    raise self._error(error) from None
            self._has_watch = False  # an older agent
        try:
            async with aclosing(subscribed(stub, request, lambda: self._channel is None)) as events:
                async for event in events:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    async def _answer(self, call: Awaitable[Answer]) -> Answer:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    def _stub(self) -> PerceptionStub:
        if self._channel is None:
            raise ClientError("the client is not open; use it as `async with Client(...) as client`")
        return PerceptionStub(self._channel)

    def _error(self, error: grpc.aio.AioRpcError) -> ClientError:
        return error_of(error, self.address, self._timeout_s)


def _named(known: Mapping[Any, Value], names: Iterable[str], what: str) -> list[Value]:
    names = list(names)
    if unknown := [name for name in names if name not in known]:
        raise ClientError(f"{unknown[0]!r} is not a {what}; they are {', '.join(known)}")
    return [known[name] for name in names]


def _stacked(vectors: Sequence[pb.Vector]) -> NDArray[np.float32]:
    return np.stack([vector_of(vector) for vector in vectors]) if vectors else np.zeros((0, 0), np.float32)
