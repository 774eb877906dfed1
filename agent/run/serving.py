"""A run behind the server: what clients ask of it, on the asyncio thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.clock import RunClock
from agent.embedding.requests import EmbedAnswer, EmbedError, Pictures, Read, Request, Sound, Sounds, Texts
from agent.embedding.watch import LOOK_S
from agent.events.bus import Bus
from agent.log.replay.control import ReplayControl
from agent.query import Query, StandingQuery
from agent.run.model import LoadedModel
from agent.run.run import Run
from agent.run.texts import FetchedTexts
from agent.server.server import Server
from agent.streams import Streams
from agent.vectors import Vectors
from drivers.remote import Remote
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)

T = TypeVar("T")

HALT_S = 2.4
"""At the end, longest wait for the sensors' processes and for the tick that is being embedded."""
DISK_S = 3.4
"""From the begin of the end, longest wait for the log's disk."""
SPARE_S = 0.3
"""For counting what the disk did not take."""
TELL_S = 0.7
"""Longest that subscribers wait to be told that the log is closed."""
GRACE_S = 1.0
"""In which subscribers must take what waits for them. All together remains within `agent.commands.signals.END_S`."""


class ServedRun:
    """Implements `agent.server.interface.Agent`: requests go to the run's worker, changes of queries to its stage."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def bus(self) -> Bus:
        """Bus that carries its events."""
        return self._run.bus

    @property
    def streams(self) -> Streams:
        """Its streams, by sensor."""
        return self._run.streams

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """Its sensors of type `remote`, by name."""
        return self._run.remotes

    def now_ns(self) -> int:
        """Return the time on the run's clock."""
        return self._run.clock.now_ns()

    async def ready(self) -> None:
        """Wait until the model is loaded."""
        await self._model()

    async def add_query(self, query: Query) -> StandingQuery:
        """Watch for a query from the next tick on. Raises QueryError."""
        model = await self._model()
        # Fetched here: the stage, where ticks wait, does not wait for the model.
        reading = await asyncio.wrap_future(model.worker.ask(Read(query.text)))
        texts = model.perceiving.perception.texts_of(reading)
        vectors = {m: await asyncio.wrap_future(model.worker.ask(Texts(t, m))) for m, t in texts.items()}
        add = functools.partial(model.perceiving.add, query, FetchedTexts(vectors, reading))
        return await asyncio.wrap_future(model.stage.call(add))

    async def remove_query(self, query_id: str) -> None:
        """Watch for it no more. Raises KeyError."""
        model = await self._model()
        # Published there, so that all are told even if the client has gone meanwhile.
        await asyncio.wrap_future(model.stage.call(functools.partial(model.perceiving.remove, query_id)))

    def list_queries(self) -> Sequence[StandingQuery]:
        """All queries, oldest first."""
        loaded = self._run.loaded
        if loaded.done() and not loaded.exception():
            return loaded.result().perceiving.queries()
        return [StandingQuery(query) for query in self._run.config.queries]

    async def embed(
        self, texts: Sequence[str], images: Sequence[NDArray[np.uint8]], audio: Sequence[Sound]
    ) -> EmbedAnswer:
        """Embed what is sent, after live ticks. Raises EmbedError."""
        model = await self._model()
        return EmbedAnswer(
            await _one_by_one(model, "texts", [Texts([text]) for text in texts]),
            await _one_by_one(model, "images", [Pictures([image]) for image in images]),
            await _one_by_one(model, "audio", [Sounds([sound]) for sound in audio]),
            model.name,
        )

    def status(self) -> pb.Status:
        """Return the status of the run."""
        return self._run.status()

    @property
    def replay(self) -> ReplayControl | None:
        """Control of the replay; None for a live agent."""
        return self._run.replay

    async def _model(self) -> LoadedModel:
        return await _settled(self._run.loaded)


async def _settled(future: concurrent.futures.Future[T]) -> T:
    """Await what a thread will set; being cancelled meanwhile leaves it as it is."""
    wrapped = asyncio.wrap_future(future)
    # When nobody waits any more, what it ends with is told elsewhere.
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(wrapped)


async def _one_by_one(model: LoadedModel, field: str, requests: Sequence[Request]) -> Vectors:
    """Ask for the items of a request's field one by one, so that a live tick waits for one picture at most.

    float32 [n, D]. Raises EmbedError.
    """
    vectors = [np.zeros((0, model.dimensions), np.float32)]
    for i, request in enumerate(requests):
        try:
            vectors.append(await asyncio.wrap_future(model.worker.ask(request)))
        except EmbedError as error:
            raise EmbedError(str(error), f"{field}[{i}]") from None
    return np.concatenate(vectors)


@dataclass(frozen=True, slots=True)
class Serving:
    """A run that is being served."""

    address: str
    loaded: asyncio.Future[LoadedModel]
    """Done when the model is; raises what kept it from being loaded."""
    ended: asyncio.Future[None]
    """Done when no samples are taken any more; raises what ended that."""


@asynccontextmanager
async def serving(run: Run, address: str, *, insecure: bool = False) -> AsyncIterator[Serving]:
    """Run a run and serve it; listens at once, while the model is still being loaded.

    What must lose nothing begins once it is. Raises ListenError and RecordError.
    """
    server = Server(ServedRun(run))
    telling: list[asyncio.Task[None]] = []
    # What a log says of the network counts for nothing.
    health_address = "" if run.replay else run.config.server.health_listen
    try:
        listening = await _whole(server.start(address, insecure=insecure, health_address=health_address))
        telling.append(asyncio.create_task(_tell_health(run, server)))
        if not run.policy.in_order:
            run.start()
        # A thread that nothing waits for: an agent that is told to stop does not load a model to the end first.
        threading.Thread(target=_load, args=[run], name="load", daemon=True).start()
        yield Serving(listening, asyncio.wrap_future(run.loaded), asyncio.wrap_future(run.ended))
    finally:
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await _end(run, server)


async def _whole(step: Coroutine[Any, Any, T]) -> T:
    """Await a step to its end, also when that is cancelled: gRPC's start does not bear it half-way."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _end(run: Run, server: Server) -> None:
    """End in an order that tells subscribers what the log holds, and in time whatever hangs.

    Health and refusals of new calls come first; then no samples are taken, and the tick that is being embedded is seen
    through; then the log is closed while subscribers get what waits for them, and at last are told that the agent
    stops. They are told that the log is closed as well, unless its disk is slow.
    """
    clock = RunClock.start()
    await server.begin_stop()
    await _within(HALT_S, run.halt)
    left_s = DISK_S - (clock.now_ns() - clock.start_ns) / 1e9
    closing = asyncio.ensure_future(_within(left_s + SPARE_S, lambda: run.close_log(left_s)))
    await asyncio.wait({closing}, timeout=TELL_S)
    await server.stop(GRACE_S)
    await closing


async def _within(timeout_s: float, function: Callable[[], None]) -> None:
    """Run a function on a thread, which is left behind when it takes longer."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            function()
        except Exception:
            log.exception("a part of the agent did not end in order")
        with suppress(RuntimeError):  # nobody has waited, and the loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="end", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await done.wait()


def _load(run: Run) -> None:
    with suppress(Exception):  # `Run.loaded` holds it
        run.load_model()
        if run.policy.in_order:
            run.start()


async def _tell_health(run: Run, server: Server) -> None:
    """Report SERVING from the load of the model to the end of sampling, except while the model hangs or
    always fails.
    """
    await _settled(run.loaded)
    serves = False
    while not run.ended.done():
        if run.condition.works != serves:
            serves = not serves
            await server.set_serving(serves)
        with suppress(Exception):  # not yet, or `Run.ended` holds it
            async with asyncio.timeout(LOOK_S):
                await _settled(run.ended)
    await server.set_serving(False)
