"""Parts of a run that need the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.clock import RunClock
from agent.embedding.condition import Progress
from agent.embedding.model import Model
from agent.embedding.worker import Worker
from agent.run.perceiving import Perceiving
from agent.run.stage import Stage
from agent.windows.windower import Tick
from drivers.driver import Clock

LEAST_STOP_S = 0.2
"""For the stage to see through its last tick, however long the model took."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The model, the worker that runs it, and the stage on which perception follows."""

    name: str
    model: Model
    device: str
    dimensions: int
    """D, the length of every vector."""
    worker: Worker
    stage: Stage
    perceiving: Perceiving

    def progress(self) -> Progress:
        """Return the worker's progress, with the reason if the model takes no requests."""
        return replace(self.worker.progress(), gone=self.model.gone)

    def submit(self, ticks: Sequence[Tick]) -> None:
        """Have ticks embedded, in order."""
        for tick in ticks:
            self.worker.submit(tick)

    def stop(self, timeout_s: float) -> None:
        """See through what runs and shed what waits; may be called again."""
        clock: Clock = RunClock.start()
        self.worker.stop(timeout_s)
        self.stage.stop(max(LEAST_STOP_S, timeout_s - (clock.now_ns() - clock.start_ns) / 1e9))
        self.model.close()
