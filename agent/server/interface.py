"""The agent as the server sees it. Everything here is called on the asyncio thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.embedding.requests import EmbedAnswer, Sound
from agent.events.bus import Bus
from agent.log.replay.control import ReplayControl
from agent.query import Query, StandingQuery
from agent.streams import Streams
from drivers.driver import Modality, Sample
from protos import perception_pb2 as pb


class RemoteInput(Protocol):
    """Input of a sensor of type `remote`."""

    @property
    def modality(self) -> Modality:
        """Modality of the samples that it takes."""
        ...

    def push(self, sample: Sample) -> None:
        """Take a sample without waiting. Raises BadData for one that does not fit, Disconnected when not running."""
        ...


class Agent(Protocol):
    """The running agent, as the server sees it."""

    @property
    def bus(self) -> Bus:
        """Bus that carries its events."""
        ...

    @property
    def streams(self) -> Streams:
        """Its streams, by sensor."""
        ...

    @property
    def remotes(self) -> Mapping[str, RemoteInput]:
        """Its sensors of type `remote`, by name."""
        ...

    def now_ns(self) -> int:
        """Return the time on the run's clock."""
        ...

    async def ready(self) -> None:
        """Wait until the model is loaded."""
        ...

    async def add_query(self, query: Query) -> StandingQuery:
        """Embed a query's text and watch for it. Raises QueryError; WorkerError when it cannot be queued."""
        ...

    async def remove_query(self, query_id: str) -> None:
        """Watch for it no more. Raises KeyError when it is unknown; WorkerError when it cannot be queued."""
        ...

    def list_queries(self) -> Sequence[StandingQuery]:
        """All queries, oldest first."""
        ...

    async def embed(
        self, texts: Sequence[str], images: Sequence[NDArray[np.uint8]], audio: Sequence[Sound]
    ) -> EmbedAnswer:
        """Embed texts, RGB images [H, W, 3] and audio, after live ticks.

        Raises EmbedError; WorkerError when it cannot be queued.
        """
        ...

    def status(self) -> pb.Status:
        """Return the status without `subscribers`, `queries` and `events_refused`, which the server knows."""
        ...

    @property
    def replay(self) -> ReplayControl | None:
        """Control of the replay; None for a live agent."""
        ...
