"""The embeddings of a log in place of a model: what the agent said about every tick, for alerts that are new.

A log holds vectors in float16, and no patches: cosines are right to 1e-3, vision is scored by the whole picture, and
audio sources are not sought.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from agent.capture.source import CaptureReport
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded, fuse
from agent.health.health import StreamState
from agent.log.format import EVENTS_TOPIC, ReplayError, sensor_of
from agent.log.replay.control import ReplayOptions
from agent.log.replay.source import Due, ReplaySource
from agent.log.timeline import Entry, Timeline
from agent.vectors import Vectors, vector_of
from agent.windows.window import Tick, Window
from drivers.codec import MODALITY_NAMES
from drivers.driver import Clock
from protos import perception_pb2 as pb

LAST_TICKS = 3
"""The last ticks of a log have no vectors where the recording ended before they were embedded."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTick(Tick):
    """A tick of a log, with its vectors; its windows hold no data."""

    vectors: Mapping[str, Vectors]
    """Sensor -> unit vector, float32 [D]."""
    meaningless: Mapping[str, str]
    """Sensor -> reason for which its sound means nothing."""


class TickReplay(ReplaySource[RecordedTick]):
    """A source of the ticks that an agent has embedded, without a look at the samples."""

    def __init__(
        self, timeline: Timeline, sensors: Iterable[str], hop_ns: int, options: ReplayOptions, pace: Clock | None = None
    ) -> None:
        """Open the ticks of some sensors. Raises ReplayError when the log holds no vectors, or its ticks have another
        hop.
        """
        super().__init__(timeline, options, pace)
        self._sensors = frozenset(sensors)
        self._hop_ns = hop_ns
        self._bare: set[int] = set()
        """Ticks that samples were captured for, and whose vectors have not come."""
        self._newest = 0
        check_ticks(timeline, hop_ns)

    @property
    def bare(self) -> int:
        """Number of ticks read so far for which the log has samples and no vectors: the agent that recorded it was
        behind, or its model not there yet.
        """
        return sum(tick <= self._newest - LAST_TICKS for tick in self._bare)

    def reports(self) -> dict[str, CaptureReport]:
        """Return nothing: samples are not read."""
        return {}

    def _read(self, from_ns: int | None) -> Iterator[Due[RecordedTick]]:
        latest = -1
        self._bare, self._newest = set(), 0
        for entry in self.timeline.read(from_ns):
            if sensor_of(entry.topic) in self._sensors:
                self._sampled(entry.message.log_time, from_ns, latest)
            event = embedding_event(entry)
            # Pieces of a recording that overlap tell of a tick twice.
            if event and event.embedding.tick > latest and (from_ns is None or event.capture_ns >= from_ns):
                latest = event.embedding.tick
                tick = recorded_tick(event, self._sensors)
                if tick.vectors or not any(window.present for window in event.embedding.windows):
                    self._bare.discard(latest)
                yield Due(tick, tick.t_ns, tick.t_ns, tick.t_ns)

    def _sampled(self, t_ns: int, from_ns: int | None, latest: int) -> None:
        """Note that a sample was captured, for the first tick at or after it."""
        tick = -(-t_ns // self._hop_ns)
        at_ns = tick * self._hop_ns
        begun = at_ns > self.timeline.start_ns and (from_ns is None or at_ns >= from_ns)  # no tick is at a start
        ended = self._limit_ns is not None and at_ns >= self._limit_ns
        if latest < tick and begun and not ended:
            self._bare.add(tick)
            self._newest = max(self._newest, tick)


class TickStretch:
    """A Stretch of ticks that come as they are."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns
        """Time of the newest tick."""
        self._ticks: list[RecordedTick] = []

    def push(self, item: RecordedTick) -> None:
        """Append a stored tick."""
        self._ticks.append(item)
        self.now_ns = item.t_ns

    def advance(self) -> Sequence[Tick]:
        """Return the next ticks."""
        ticks, self._ticks = self._ticks, []
        return ticks

    def due_ns(self) -> None:
        """Return nothing: no tick waits."""

    def finish(self) -> Sequence[Tick]:
        """Return nothing: no tick is held back."""
        return []

    def changes(self, *, at_end: bool = False) -> Sequence[StreamState]:  # noqa: ARG002  as Stretch has it
        """Return nothing: streams are not read."""
        return []

    def states(self) -> Mapping[str, StreamState]:
        """Return nothing: stored ticks have no streams."""
        return {}


class RecordedEmbedder(Embedder):
    """Gives the vectors that ticks bring with them. Its model needs the text encoder only."""

    def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:  # noqa: ARG002  as Model has it
        """Return the stored vectors of ticks. Raises TypeError for a tick that is not from a log."""
        return [_embedded(tick) for tick in ticks]


def embedding_events(timeline: Timeline, from_ns: int | None = None) -> Iterator[pb.Event]:
    """The embeddings of a log, one a tick, in order; from the first chunk on that holds anything at or after a time."""
    return (event for entry in timeline.read(from_ns) if (event := embedding_event(entry)) is not None)


def embedding_event(entry: Entry) -> pb.Event | None:
    """The event of a message that holds an embedding; None for any other message."""
    if entry.topic != EVENTS_TOPIC:
        return None
    try:
        event = pb.Event.FromString(entry.message.data)
    except DecodeError:
        return None
    return event if event.HasField("embedding") else None


def recorded_tick(event: pb.Event, sensors: frozenset[str]) -> RecordedTick:
    """The tick of an embedding event; a vector that cannot be used is missing."""
    windows: dict[str, Window] = {}
    vectors: dict[str, Vectors] = {}
    for recorded in event.embedding.windows:
        sensor, modality = recorded.sensor, MODALITY_NAMES.get(recorded.modality)
        if sensor not in sensors or modality is None:
            continue
        vector = _unit_vector(recorded.vector) if recorded.present else None
        if vector is not None:
            vectors[sensor] = vector
        missing = recorded.missing_reason if not recorded.present else "" if vector is not None else "not recorded"
        windows[sensor] = Window(sensor, modality, None, 0.0, recorded.newest_ns, missing, recorded.filled)
    meaningless = {w.sensor: w.meaningless for w in event.embedding.windows if w.sensor in vectors and w.meaningless}
    return RecordedTick(
        event.embedding.tick, event.capture_ns, windows, event.embedding.settled_ns, vectors, meaningless
    )


def check_ticks(timeline: Timeline, hop_ns: int) -> None:
    """Raise ReplayError unless the first tick with a window has its vector, and lies where a hop has it."""
    for event in embedding_events(timeline):
        if event.capture_ns != event.embedding.tick * hop_ns:
            own_s = event.capture_ns / max(1, event.embedding.tick) / 1e9
            raise ReplayError(
                f"{timeline}: its ticks are {own_s:.3f} s apart, the config's windows.hop_s is {hop_ns / 1e9:.3f}; "
                "make them equal, or replay without --reuse-embeddings"
            )
        present = [window for window in event.embedding.windows if window.present]
        if present and all(window.vector.data for window in present):
            return
        if present:
            break
    raise ReplayError(f"{timeline}: holds no embeddings with vectors; replay it without --reuse-embeddings")


def check_model(timeline: Timeline, model: str) -> None:
    """Raise ReplayError unless a log's vectors are of this model, by the hash at the end of its name."""
    recorded = timeline.model()
    if recorded.split()[-1:] != model.split()[-1:]:
        of = f"of the model {recorded}" if recorded else "of a model that it does not name"
        raise ReplayError(
            f"{timeline}: its embeddings are {of}, the configured one is {model}; "
            "configure the weights that made them, or replay without --reuse-embeddings"
        )


def _embedded(tick: Tick) -> Embedded:
    if not isinstance(tick, RecordedTick):
        raise TypeError(f"tick {tick.index} holds no vectors")
    missing = {sensor: window.missing for sensor, window in tick.windows.items() if sensor not in tick.vectors}
    fused = fuse(list(tick.vectors.values()))
    return Embedded(tick, dict(tick.vectors), {}, fused, 0.0, missing, meaningless=tick.meaningless)


def _unit_vector(message: pb.Vector) -> Vectors | None:
    try:
        vector = vector_of(message)
    except ValueError:
        return None
    norm = float(np.linalg.norm(vector))
    return (vector / np.float32(norm)).astype(np.float32) if np.isfinite(norm) and norm > 0 else None
