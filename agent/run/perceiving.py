"""Perception at work: what it finds in a tick is published, and queries come and go. All on the stage's thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from agent.embedding.condition import Load
from agent.events import messages as events
from agent.query import Query, StandingQuery
from agent.run.texts import FetchedTexts
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.embedding.model import Embedded
    from agent.embedding.relieved import Relieved
    from agent.perceiving.perception import Perception

log = logging.getLogger(__name__)

REMEMBERED_TICKS = 100
"""Of whose inference the time is known."""


class Perceiving:
    """Perception, whose findings go to `publish`. But for `queries` and `load`, for the stage's thread."""

    def __init__(
        self,
        perception: Perception,
        publish: Callable[[pb.Event], None],
        now_ns: Callable[[], int],
        relieved: Relieved | None = None,
    ) -> None:
        """`relieved` is told of ticks."""
        self.perception = perception
        self._publish, self._now_ns, self._relieved = publish, now_ns, relieved
        self._inference_ms: deque[float] = deque(maxlen=REMEMBERED_TICKS)
        self._age_s = 0.0

    def perceive(self, embedded: Embedded) -> None:
        """Publish everything that follows from a tick."""
        began_ns = self._now_ns()
        self._inference_ms.append(embedded.inference_ms)
        for event in map(events.found, self.perception.perceive(embedded)):
            self._publish(event)
            if event.HasField("embedding"):
                self._age_s = (event.publish_ns - event.capture_ns) / 1e9
        if self._relieved:
            self._relieved.followed((self._now_ns() - began_ns) / 1e9)

    def add(self, query: Query, texts: FetchedTexts) -> StandingQuery:
        """Watch for a query from the next tick on, and tell so. Raises QueryError."""
        standing = self.perception.add(query, texts)
        self._tell_query("added", standing)
        return standing

    def remove(self, query_id: str) -> None:
        """Watch for it no more, and tell so. Raises KeyError when it is unknown."""
        standing, ended = self.perception.remove(query_id)
        for transition in ended:
            self._publish(events.alert(transition))
        self._tell_query("removed", standing)

    def start_anew(self) -> None:
        """End the alerts that are on, and perceive what follows as if nothing had been."""
        for transition in self.perception.start_anew():
            self._publish(events.alert(transition))

    def queries(self) -> Sequence[StandingQuery]:
        """All queries, oldest first; safe to call from any thread."""
        return self.perception.queries()

    def load(self) -> Load:
        """Return the durations of ticks and the parts that are left out; safe to call from any thread."""
        if self._relieved is None:
            return Load(tuple(self._inference_ms))
        relief = self._relieved.relief
        return Load(tuple(self._inference_ms), self._age_s, relief.overloaded, relief.step.reduced)

    def _tell_query(self, change: Literal["added", "removed"], standing: StandingQuery) -> None:
        log.info("query %s %r is %s", standing.query.id, standing.query.text, change)
        self._publish(events.query_change(change, standing, self._now_ns()))
