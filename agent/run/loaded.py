"""What exists once the weights are loaded, and how it begins anew when the source of samples jumps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.embedding.worker import Worker, WorkerError
from agent.events import messages as events
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.perceiving.perception import Perception


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model by name, the worker that runs it, and what it perceives."""

    name: str
    device: str
    worker: Worker
    perception: Perception

    def start_anew(self, publish: Callable[[pb.Event], None]) -> None:
        """End the alerts that are on, and perceive what follows as if nothing had been. Waits for the worker."""

        def start_anew() -> None:
            for transition in self.perception.start_anew():
                publish(events.alert(transition))

        with suppress(WorkerError, CancelledError):  # the run is stopped
            self.worker.call(start_anew).result()
