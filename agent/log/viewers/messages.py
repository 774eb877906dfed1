"""Messages for viewers that go beside the samples and events of a log: what is made of which, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from agent.log.encoded import channel_of
from agent.log.format import MAX_TIME_NS, SEQUENCE_MASK, RunFacts
from agent.log.viewers import mounting, shown_events, topics
from agent.log.viewers.imu_rows import plotted_rows
from agent.log.writing import Beside
from agent.scores import Scores, scores_of
from agent.streams import MAX_SENSORS
from drivers.driver import Sample
from drivers.forms import image_like
from protos import perception_pb2 as pb

REPEAT_NS = 1_000_000_000
"""Calibrations and transforms come again after this time, so that every part and piece of a log has them."""
MOST_QUERIES = 1024
"""Queries of one run that are plotted and named: each is a topic, of which a file has some thousands at most."""


class ViewerMessages:
    """Makes the messages for viewers of one run, in the order of its log. Holds the last scores and pictures' sizes.

    `imu_plot_hz` is the most rows of an IMU in a second, None all.
    """

    def __init__(self, facts: RunFacts, imu_plot_hz: float | None) -> None:
        self._facts = facts
        self._imu_plot_hz = imu_plot_hz
        self._hfov_deg = {name: place.hfov_deg for name, place in mounting.mountings(facts).items() if place.hfov_deg}
        self._sizes: dict[str, tuple[int, int]] = {}
        """Height and width of the last picture that was looked at, by sensor."""
        self._told_ns: dict[str, int] = {}
        """Time of the last message of a topic that repeats."""
        self.texts = _stored_texts(facts)
        """Texts of queries by id, as far as they are known by now."""
        self._plotted: set[str] = set()
        """Queries that have a topic."""
        self._scores: tuple[int, Scores] | None = None
        """Tick and scores of the last embedding."""
        self._health: dict[str, tuple[int, str]] = {}

    def of_sample(self, name: str, t_ns: int, read: Callable[[], Sample]) -> tuple[Beside, ...]:
        """Return the messages beside a sample of a sensor; `read` gives it, and is only called when it is needed."""
        sensor = self._facts.sensors[name]
        found = []
        if self._due(topics.TRANSFORMS, t_ns):
            tree = mounting.transforms(self._facts, t_ns)
            if tree.transforms:
                found.append(_beside(topics.TRANSFORMS, t_ns, tree))
        if sensor.modality == "imu" and self._imu_plot_hz != 0:
            topic = topics.rows(name)
            found += [_beside(topic, row_ns, row) for row_ns, row in plotted_rows(read(), self._imu_plot_hz)]
        elif image_like(sensor.modality) and self._due(topics.calibration(name), t_ns):
            height, width = self._sizes[name] = read().data.shape[:2]
            if name in self._hfov_deg:
                told = mounting.calibration(name, self._hfov_deg[name], width, height, t_ns)
                found.append(_beside(topics.calibration(name), t_ns, told))
        return tuple(found)

    def of_event(self, event: pb.Event) -> tuple[Beside, ...]:
        """Return the messages beside an event of the run. Raises ValueError for one that is damaged."""
        if not 0 <= event.capture_ns < MAX_TIME_NS:
            return ()
        found: list[tuple[str, Message]] = []
        match event.WhichOneof("event"):
            case "embedding":
                scores = scores_of(event.embedding)
                self._scores = event.embedding.tick, scores
                found += [
                    (topics.scores(query_id), row)
                    for query_id, row in shown_events.score_rows(scores)
                    if self._is_plotted(query_id)
                ]
            case "audio_source" if event.audio_source.camera in self._facts.sensors:
                found += [(topics.sources(event.audio_source.camera), self._annotations(event))]
            case "health" if not self._is_news(event.health):
                return ()
            case "query":
                self._note_text(event.query.query.id, event.query.query.text)
            case "alert":
                self._note_text(event.alert.query_id, event.alert.text)
        if line := shown_events.log_line(event):
            found.append((topics.LOG, line))
        return tuple(_beside(topic, event.capture_ns, message, event.seq) for topic, message in found)

    def _due(self, topic: str, t_ns: int) -> bool:
        told_ns = self._told_ns.get(topic)
        if told_ns is not None and abs(t_ns - told_ns) < REPEAT_NS:
            return False
        self._told_ns[topic] = t_ns
        return True

    def _annotations(self, event: pb.Event) -> Message:
        source = event.audio_source
        scores = self._scores[1] if self._scores and self._scores[0] == source.tick else None
        height, _ = self._sizes.get(source.camera, (0, 0))
        label = shown_events.label_of(source, scores, self.texts)
        box: Message = shown_events.source_box(source, label, height, event.capture_ns)
        return box

    def _is_news(self, health: pb.StreamHealth) -> bool:
        state = int(health.state), health.reason
        before = self._health.get(health.sensor)
        if before is not None or len(self._health) < MAX_SENSORS:
            self._health[health.sensor] = state
        return state != before

    def _note_text(self, query_id: str, text: str) -> None:
        if len(self.texts) < MOST_QUERIES:
            self.texts[query_id] = text

    def _is_plotted(self, query_id: str) -> bool:
        if query_id not in self._plotted and len(self._plotted) < MOST_QUERIES and topics.is_part(query_id):
            self._plotted.add(query_id)
        return query_id in self._plotted


def _beside(topic: str, t_ns: int, message: Message, seq: int = 0) -> Beside:
    message_class: Any = type(message)
    return Beside(channel_of(topic, message_class), seq & SEQUENCE_MASK, t_ns, message.SerializeToString())


def _stored_texts(facts: RunFacts) -> dict[str, str]:
    """The texts of the configured queries by id; one that cannot be used is passed over."""
    queries = facts.config.get("queries", [])
    found = {}
    for number, query in enumerate(queries if isinstance(queries, list) else ()):
        if isinstance(query, dict) and isinstance(query.get("text"), str):
            found[str(query.get("id", f"q{number + 1}"))] = query["text"]
    return found
