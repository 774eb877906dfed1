"""The thread on which perception runs: vectors in, in order, and what changes perception between them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from agent.embedding.worker import Done, WorkerError

if TYPE_CHECKING:
    from agent.embedding.model import Embedded

log = logging.getLogger(__name__)

T = TypeVar("T")


class Stage:
    """Runs from its construction until `stop`. How much waits here is bounded by the worker, which begins no more.

    `perceive` is called for every tick, and so are the functions of `call`, one at a time: what only they touch needs
    no lock.
    """

    def __init__(self, perceive: Callable[[Embedded], None]) -> None:
        self._perceive = perceive
        self._changed = threading.Condition()
        self._embedded: deque[tuple[Embedded, Done]] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="perceiving", daemon=True)
        self._thread.start()

    def take(self, embedded: Embedded, done: Done) -> None:
        """Take what the worker hands over; never waits."""
        with self._changed:
            self._embedded.append((embedded, done))
            self._changed.notify_all()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function between two ticks. Raises WorkerError after `stop`.

        Do not wait for the future on the stage's own thread.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._stopping:
                raise WorkerError("the agent is stopping; ask again when it runs")
            self._calls.append((function, future))
            self._changed.notify_all()
        return future

    def stop(self, timeout_s: float = 10.0) -> None:
        """See through what waits, and end the thread; may be called again."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("what follows from a tick has not come back within %.1f s; leaving it behind", timeout_s)

    def _run(self) -> None:
        while self._wait():
            self._do_calls()
            with self._changed:
                item = self._embedded.popleft() if self._embedded else None
            if item is not None:
                self._see_through(*item)
            del item  # or its windows would be kept until the next comes

    def _wait(self) -> bool:
        """Wait for work; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._embedded or self._calls)
            return bool(self._embedded or self._calls)

    def _do_calls(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    return
                function, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:  # noqa: BLE001  (whoever waits for the future gets it)
                    future.set_exception(error)
            del function, future

    def _see_through(self, embedded: Embedded, done: Done) -> None:
        try:
            self._perceive(embedded)
        except Exception as error:  # noqa: BLE001  (one tick's fault must not end the thread)
            done(error)
        else:
            done(None)
