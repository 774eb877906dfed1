"""What the server needs of the agent. Everything here is called on the asyncio thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.alerts.book import Query
from agent.events.bus import Bus
from agent.log.replaying.playback import Playback
from agent.streams import Streams
from drivers.driver import Modality, Sample
from protos import perception_pb2 as pb

Clip = tuple[NDArray[np.float32], float]
"""Audio rows [n, channels] with full scale -1..1, and their rate in Hz."""


class EmbedError(ValueError):
    """What was sent cannot be embedded. `field` names it as in EmbedRequest; the message is one line."""

    def __init__(self, message: str, field: str = "request") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A query that is being watched for, and what its user should know of it."""

    query: Query
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Unit vectors, float32 [n, D] each, in the order of what was asked."""

    texts: NDArray[np.float32]
    images: NDArray[np.float32]
    audio: NDArray[np.float32]
    model: str


class RemoteInput(Protocol):
    """Where the samples of a sensor of type `remote` go."""

    @property
    def modality(self) -> Modality:
        """What it takes."""
        ...

    def push(self, sample: Sample) -> None:
        """Take a sample without waiting. Raises BadData for one that does not fit, Disconnected when not running."""
        ...


class Agent(Protocol):
    """The running agent, as the server sees it."""

    @property
    def bus(self) -> Bus:
        """Where its events are."""
        ...

    @property
    def streams(self) -> Streams:
        """Its sensors."""
        ...

    @property
    def remotes(self) -> Mapping[str, RemoteInput]:
        """Its sensors of type `remote`, by name."""
        ...

    def now_ns(self) -> int:
        """The run's clock."""
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
        self, texts: Sequence[str], images: Sequence[NDArray[np.uint8]], audio: Sequence[Clip]
    ) -> Embeddings:
        """Embed texts, RGB images [H, W, 3] and audio, after live ticks.

        Raises EmbedError; WorkerError when it cannot be queued.
        """
        ...

    def status(self) -> pb.Status:
        """How it is, without `subscribers`, `queries` and `events_refused`, which the server knows."""
        ...

    @property
    def playback(self) -> Playback | None:
        """How the log is played that it replays; None when it captures."""
        ...
