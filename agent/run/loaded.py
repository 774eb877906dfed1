"""What exists once the weights are loaded, and how it begins anew when the source of samples jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.embedding.worker import Worker, WorkerError
from agent.events import messages as events
from agent.query import Query
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.perceiving.perception import Perception


class Loaded:
    """The model by name, the worker that runs it, and what it perceives."""

    def __init__(
        self,
        name: str,
        device: str,
        worker: Worker,
        begin: Callable[[Sequence[Query]], Perception],
        perception: Perception,
    ) -> None:
        """`begin` makes another perception on the worker's thread, with some queries but those that fail now."""
        self.name = name
        self.device = device
        self.worker = worker
        self.perception = perception
        """Another one after every jump."""
        self._begin = begin
        self._alerts_before = self._alerts_told = 0
        """The highest number of an alert when perception began anew last, and up to now."""

    def number(self, event: pb.Event) -> None:
        """Give an alert a number that is its own in the run: perception that begins anew numbers from 1 again."""
        if event.HasField("alert"):
            event.alert.alert_id += self._alerts_before
            self._alerts_told = max(self._alerts_told, event.alert.alert_id)

    def start_anew(self, publish: Callable[[pb.Event], None], now_ns: int) -> None:
        """End the alerts that are on, and perceive what follows as if nothing had been. Waits for the worker."""
        with suppress(WorkerError, CancelledError):  # the run is stopped
            self.worker.call(lambda: self._start_anew(publish, now_ns)).result()

    def _start_anew(self, publish: Callable[[pb.Event], None], now_ns: int) -> None:
        before = self.perception
        standing = before.queries()
        self.perception = self._begin([one.query for one in standing])
        kept = {one.query.id for one in self.perception.queries()}
        for one in standing:
            for transition in before.remove(one.query.id)[1]:
                publish(events.alert(transition))
            if one.query.id not in kept:
                publish(events.query_change("removed", one.query, now_ns, one.warnings))
        self._alerts_before = self._alerts_told
