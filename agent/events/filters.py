"""Filters of subscribers: wanted events, and the wanted parts of each. Pure: requests and events in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass

from agent.scores import keep_modalities
from protos import perception_pb2 as pb

KINDS: dict[str, pb.EventKind.ValueType] = {
    "embedding": pb.EVENT_KIND_EMBEDDING,
    "audio_source": pb.EVENT_KIND_AUDIO_SOURCE,
    "alert": pb.EVENT_KIND_ALERT,
    "health": pb.EVENT_KIND_HEALTH,
    "gap": pb.EVENT_KIND_GAP,
    "recording": pb.EVENT_KIND_RECORDING,
    "model": pb.EVENT_KIND_MODEL,
    "query": pb.EVENT_KIND_QUERY,
}
_MAX_PERIOD_NS = 3.6e12
"""An hour: the slowest rate that is kept, however near to 0 the one that is asked for."""


@dataclass(frozen=True, slots=True)
class View:
    """Parts of an event that a subscriber sees. Subscribers with equal views share the serialised bytes."""

    vectors: bool = False
    heat_maps: bool = False
    sensors: frozenset[str] = frozenset()
    modalities: frozenset[int] = frozenset()

    def key(self, kind: str) -> object:
        """Return the part of the view that matters to events of a kind: with equal keys they look the same."""
        match kind:
            case "embedding":
                return (self.vectors, self.sensors, self.modalities)
            case "audio_source":
                return self.heat_maps
            case _:
                return None

    def wants_window(self, window: pb.WindowEmbedding) -> bool:
        """Return whether one sensor's part of an embedding is wanted."""
        return (not self.sensors or window.sensor in self.sensors) and (
            not self.modalities or window.modality in self.modalities
        )

    def apply(self, event: pb.Event) -> pb.Event:
        """Return the event as this view shows it: itself when nothing is hidden, else a smaller copy."""
        match event.WhichOneof("event"):
            case "embedding" if not self.vectors or self.sensors or self.modalities:
                shown = pb.Event()
                shown.CopyFrom(event)
                self._trim(shown.embedding)
                return shown
            case "audio_source" if not self.heat_maps and event.audio_source.HasField("heat_map"):
                shown = pb.Event()
                shown.CopyFrom(event)
                shown.audio_source.ClearField("heat_map")
                return shown
            case _:
                return event

    def _trim(self, embedding: pb.Embedding) -> None:
        windows = [window for window in embedding.windows if self.wants_window(window)]
        if not self.vectors:
            embedding.ClearField("fused")
            for window in windows:
                window.ClearField("vector")
        if len(windows) < len(embedding.windows):
            del embedding.windows[:]
            embedding.windows.extend(windows)
        if self.modalities:
            scores = [score for score in embedding.scores if score.modality in self.modalities]
            del embedding.scores[:]
            embedding.scores.extend(scores)
            if embedding.HasField("score_table"):
                keep_modalities(embedding.score_table, self.modalities)


class EventFilter:
    """Decides event by event, in order of seq.

    It remembers when it last let one through, for `max_rate_hz`, and which alerts it let through and have not ended.
    """

    def __init__(self, request: pb.SubscribeRequest) -> None:
        self._kinds = frozenset(request.kinds)
        self._query_ids = frozenset(request.query_ids)
        self._period_ns = round(min(1e9 / request.max_rate_hz, _MAX_PERIOD_NS)) if request.max_rate_hz > 0 else 0
        self._last_ns: dict[object, int] = {}
        self._alert_ids: set[int] = set()
        self.view = View(
            request.vectors,
            request.heat_maps,
            frozenset(request.sensors),
            frozenset(int(m) for m in request.modalities),
        )

    def admits(self, event: pb.Event) -> bool:
        """Return whether the subscriber gets this event."""
        kind = event.WhichOneof("event")
        if kind is None or (self._kinds and KINDS[kind] not in self._kinds):
            return False
        match kind:
            case "embedding":
                narrow = self.view.sensors or self.view.modalities
                if narrow and not any(map(self.view.wants_window, event.embedding.windows)):
                    return False
                return self._in_rate("embedding", event.capture_ns)
            case "audio_source":
                source = event.audio_source
                if self.view.sensors and self.view.sensors.isdisjoint((source.microphone, source.camera)):
                    return False
                return self._in_rate((source.microphone, source.camera), event.capture_ns)
            case "alert":
                return self._follows(event.alert)
            case "health":
                health = event.health
                return (not self.view.sensors or health.sensor in self.view.sensors) and (
                    not self.view.modalities or health.modality in self.view.modalities
                )
            case _:
                return True

    def _follows(self, alert: pb.AlertTransition) -> bool:
        """Return whether an alert is wanted: once one of its transitions was, all that follow are, to its end."""
        if self._query_ids and alert.query_id not in self._query_ids:
            return False
        known = alert.alert_id in self._alert_ids
        wanted = known or not self.view.modalities or not self.view.modalities.isdisjoint(alert.modalities)
        if alert.phase == pb.ALERT_PHASE_END:
            self._alert_ids.discard(alert.alert_id)
        elif wanted:
            self._alert_ids.add(alert.alert_id)
        return wanted

    def _in_rate(self, stream: object, capture_ns: int) -> bool:
        """Never closer than the period. All sensors of an embedding share its time, so it is one stream."""
        if not self._period_ns:
            return True
        last_ns = self._last_ns.get(stream)
        if last_ns is not None and 0 <= capture_ns - last_ns < self._period_ns:
            return False
        self._last_ns[stream] = capture_ns
        return True
