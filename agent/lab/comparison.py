"""Two runs over the same samples, compared event by event and field by field. Pure: events in, differences out.

What belongs to a run rather than to what it saw is in IGNORED, and nowhere else: every other field of every event
counts. On one CPU build a replay gives the same events bit for bit (EXACT); other machines round otherwise
(ACROSS_MACHINES).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import Message

from agent.scores import table_values
from agent.vectors import heat_map_of, vector_of
from protos import perception_pb2 as pb

IGNORED = frozenset({"run_id", "publish_ns", "embedding.inference_ms"})
"""Fields that differ between equal runs: the run's name, times of publication, time on the model."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Allowed differences of fields, by their path in Event; fields that are not named must be equal."""

    ignored: frozenset[str] = IGNORED
    absolute: Mapping[str, float] = field(default_factory=dict)
    """Allowed difference of numbers, and of every value of a heat map."""
    cosine: float | None = None
    """The least between vectors; None: they must be equal."""


EXACT = Tolerances()
ACROSS_MACHINES = Tolerances(
    # An alert that comes or goes is a difference of its own, and moves the number of every event after it.
    ignored=IGNORED | {"seq"},
    absolute={
        "embedding.scores.score": 0.01,
        "alert.scores.score": 0.01,
        "audio_source.similarity": 0.01,
        "audio_source.heat_map": 0.01,
        "audio_source.peak_x": 0.5,
        "audio_source.peak_y": 0.5,
        "audio_source.box.x0": 0.5,
        "audio_source.box.y0": 0.5,
        "audio_source.box.x1": 0.5,
        "audio_source.box.y1": 0.5,
        "audio_source.direction.azimuth_deg": 1.0,
        "audio_source.direction.elevation_deg": 1.0,
        "audio_source.direction.confidence": 0.01,
        "audio_source.direction.spread_deg": 1.0,
        "audio_source.direction.capture_ns": 1e6,
        "health.rate_hz": 1e-6,
        "health.skew_ppm": 1e-3,
    },
    cosine=0.9995,
)
"""Pictures may be decoded, and sums rounded, in another way; vectors travel in float16."""

Key = tuple[Any, ...]
_SCORE_TABLE = "embedding.score_table"
"""Compared with `scores`, which say the same: older agents have them alone, and they end where there are many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of an event that differs."""

    event: str
    """The event: its kind, and its tick, query or sensor."""
    capture_ns: int
    field: str
    """Path of the field, with the sensor of a window and the query of a score; empty when the whole event is missing
    or new.
    """
    what: str

    def __str__(self) -> str:
        where = f"{self.event}, {self.field}" if self.field else self.event
        return f"{where}: {self.what}"


def differences(was: Iterable[pb.Event], now: Iterable[pb.Event], tolerances: Tolerances = EXACT) -> list[Difference]:
    """Return the differences in order of time. Embeddings and audio sources are matched by tick, alerts by query and
    phase in their order, health by sensor in its order.
    """
    before, after = _by_key(was), _by_key(now)
    found: list[Difference] = []
    for key, event in before.items():
        if key not in after:
            found.append(_whole(event, "is missing"))
        else:
            found += _between(event, after[key], tolerances)
    found += [_whole(event, "is new") for key, event in after.items() if key not in before]
    return sorted(found, key=lambda difference: difference.capture_ns)


def _by_key(events: Iterable[pb.Event]) -> dict[Key, pb.Event]:
    counts: Counter[Key] = Counter()
    found: dict[Key, pb.Event] = {}
    for event in events:
        key = _key(event)
        found[*key, counts[key]] = event
        counts[key] += 1
    return found


def _key(event: pb.Event) -> Key:
    kind = event.WhichOneof("event") or ""
    match kind:
        case "embedding":
            return kind, event.embedding.tick
        case "audio_source":
            return kind, event.audio_source.tick
        case "alert":
            return kind, event.alert.query_id, event.alert.phase
        case "health":
            return kind, event.health.sensor
        case _:
            return (kind,)


def _name(event: pb.Event) -> str:
    match event.WhichOneof("event"):
        case "embedding":
            return f"embedding of tick {event.embedding.tick}"
        case "audio_source":
            return f"audio source of tick {event.audio_source.tick}"
        case "alert":
            phase = pb.AlertPhase.Name(event.alert.phase).removeprefix("ALERT_PHASE_").lower()
            return f"{phase} of alert {event.alert.query_id!r}"
        case "health":
            state = pb.StreamHealth.State.Name(event.health.state).removeprefix("STATE_").lower()
            return f"health {state!r} of {event.health.sensor}"
        case kind:
            return str(kind)


def _whole(event: pb.Event, what: str) -> Difference:
    return Difference(_name(event), event.capture_ns, "", what)


def _between(was: pb.Event, now: pb.Event, tolerances: Tolerances) -> list[Difference]:
    return [
        Difference(_name(was), was.capture_ns, shown, what)
        for shown, what in _message_differences(was, now, "", "", tolerances)
    ]


def _message_differences(
    was: Message, now: Message, path: str, shown: str, tolerances: Tolerances
) -> Iterator[tuple[str, str]]:
    """The fields that differ as (path with names, what). `path` has no names: tolerances go by it."""
    if isinstance(was, pb.Vector) and isinstance(now, pb.Vector):
        yield from _vector_differences(was, now, shown, tolerances)
        return
    if isinstance(was, pb.HeatMap) and isinstance(now, pb.HeatMap) and path in tolerances.absolute:
        yield from _heat_map_differences(was, now, shown, tolerances.absolute[path])
        return
    for descriptor in was.DESCRIPTOR.fields:
        name = descriptor.name
        inner, inner_shown = (f"{prefix}.{name}" if prefix else name for prefix in (path, shown))
        if inner in tolerances.ignored or inner == _SCORE_TABLE:
            continue
        if isinstance(was, pb.Embedding) and isinstance(now, pb.Embedding) and name == "scores":
            yield from _score_differences(was, now, inner, inner_shown, tolerances)
            continue
        before, after = getattr(was, name), getattr(now, name)
        if descriptor.is_repeated:
            yield from _repeated_differences(descriptor, before, after, inner, inner_shown, tolerances)
        elif descriptor.message_type is not None:
            if was.HasField(name) != now.HasField(name):
                yield inner_shown, "is gone" if was.HasField(name) else "has come"
            elif was.HasField(name):
                yield from _message_differences(before, after, inner, inner_shown, tolerances)
        elif not _equal(before, after, tolerances.absolute.get(inner, 0.0)):
            yield inner_shown, f"was {_text(descriptor, before)} and is {_text(descriptor, after)}"


def _repeated_differences(
    descriptor: Any, was: Any, now: Any, path: str, shown: str, tolerances: Tolerances
) -> Iterator[tuple[str, str]]:
    if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
        before, after = (dict(x) if isinstance(x, Mapping) else list(x) for x in (was, now))
        if before != after:
            yield shown, f"was {before} and is {after}"
        return
    before, after = _labelled(was), _labelled(now)
    for label, message in before.items():
        if label not in after:
            yield f"{shown}[{label}]", "is gone"
        else:
            yield from _message_differences(message, after[label], path, f"{shown}[{label}]", tolerances)
    for label in after.keys() - before.keys():
        yield f"{shown}[{label}]", "has come"


def _score_differences(
    was: pb.Embedding, now: pb.Embedding, path: str, shown: str, tolerances: Tolerances
) -> Iterator[tuple[str, str]]:
    """By query and modality, in whichever form the scores are."""
    before, after = _scores(was), _scores(now)
    tolerance = tolerances.absolute.get(f"{path}.score", 0.0)
    for label, score in before.items():
        if label not in after:
            yield f"{shown}[{label}]", "is gone"
        elif not _equal(score, after[label], tolerance):
            yield f"{shown}[{label}].score", f"was {score!r} and is {after[label]!r}"
    for label in after.keys() - before.keys():
        yield f"{shown}[{label}]", "has come"


def _scores(embedding: pb.Embedding) -> dict[str, float]:
    """Scores by `query modality`."""
    if not embedding.HasField("score_table"):
        return {f"{score.query_id} {score.modality}": score.score for score in embedding.scores}
    modalities, values = table_values(embedding.score_table)
    return {
        f"{query_id} {modality}": score
        for modality, row in zip(modalities, values.tolist(), strict=True)
        for query_id, score in zip(embedding.score_table.query_ids, row, strict=True)
    }


def _labelled(messages: Sequence[Message]) -> dict[str, Message]:
    """Messages of a list by what they are about."""

    def label(index: int, message: Message) -> str:
        if isinstance(message, pb.WindowEmbedding):
            return message.sensor
        if isinstance(message, pb.QueryScore):  # of an alert
            return f"{message.query_id} {message.modality}"
        return str(index)

    return {label(index, message): message for index, message in enumerate(messages)}


def _vector_differences(
    was: pb.Vector, now: pb.Vector, shown: str, tolerances: Tolerances
) -> Iterator[tuple[str, str]]:
    if was == now:
        return
    before, after = vector_of(was), vector_of(now)
    if before.shape != after.shape:
        yield shown, f"had {before.size} values and has {after.size}"
        return
    cosine = float(before @ after / max(float(np.linalg.norm(before) * np.linalg.norm(after)), 1e-12))
    if tolerances.cosine is None:
        yield shown, f"is not the same: {np.count_nonzero(before != after)} values differ, cosine {cosine:.6f}"
    elif not cosine >= tolerances.cosine:
        yield shown, f"has cosine {cosine:.6f} to what it was; at least {tolerances.cosine:g} is allowed"


def _heat_map_differences(was: pb.HeatMap, now: pb.HeatMap, shown: str, tolerance: float) -> Iterator[tuple[str, str]]:
    before, after = heat_map_of(was), heat_map_of(now)
    if before.shape != after.shape:
        yield shown, f"was {list(before.shape)} and is {list(after.shape)}"
    elif before.size and not (most := float(np.abs(before - after).max())) <= tolerance:
        yield shown, f"differs by up to {most:.4f}; {tolerance:g} is allowed"


def _equal(was: Any, now: Any, tolerance: float) -> bool:
    return bool(was == now or (tolerance and abs(was - now) <= tolerance))


def _text(descriptor: Any, value: Any) -> str:
    if descriptor.enum_type is not None:
        return str(descriptor.enum_type.values_by_number[value].name)
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)
