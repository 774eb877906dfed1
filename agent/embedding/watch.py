"""Looks after the model from a thread of its own: it is known to hang while it hangs, and while no tick comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.embedding.condition import LOADING, Condition, Judge, Load, Progress

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Time between two checks."""


class Watch:
    """Looks from `start` to `stop`. `look` gives the facts, None while the model is being loaded."""

    def __init__(
        self, look: Callable[[], tuple[Progress, Load] | None], on_change: Callable[[Condition], None]
    ) -> None:
        """`on_change` is called on the thread."""
        self._look, self._on_change = look, on_change
        self._judge = Judge()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model watch", daemon=True)
        self.condition = LOADING
        """As of the last look."""

    def start(self) -> None:
        """Start the checks."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; may be called again, and without `start`."""
        self._stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(LOOK_S * 40)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self._see()
            except Exception:
                log.exception("a look at the model failed")

    def _see(self) -> None:
        facts = self._look()
        if facts is None:
            return
        before, self.condition = self.condition, self._judge.judge(*facts)
        if (before.state, before.reduced) != (self.condition.state, self.condition.reduced):
            self._on_change(self.condition)
