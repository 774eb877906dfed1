"""The thread that runs the model: ticks first, requests between them, every tick accounted for.

    produced == delivered + sum(shed.values()) + in_flight       at every moment

Ticks and requests come in as values, and vectors go out. At most `max_pending` ticks wait: live, when one more comes,
the OLDEST is shed ("behind"); lossless, `submit` waits instead. What is embedded is handed over to the next stage, on
a thread of its own, and counts as in flight until that stage is done with it; while more than a batch waits there, no
tick is begun. Requests (texts of queries, pictures, sounds) run when no tick waits. While ticks do, a request that has
waited for a second goes before them, as long as requests take no more than a tenth of the time.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent.clock import RunClock
from agent.embedding.condition import Progress
from agent.embedding.job import Job
from agent.embedding.requests import Request
from agent.policy import Policy
from drivers.driver import Clock

if TYPE_CHECKING:
    from agent.embedding.model import Embedded, Model
    from agent.windows.window import Tick

log = logging.getLogger(__name__)

MAX_JOBS = 256
"""Requests that may wait; one more is refused."""
JOB_PATIENCE_NS = 1_000_000_000
"""A request that has waited this long goes before ticks, when none has run for as long."""
JOB_SHARE = 0.1
"""Of the time, at most, that requests take from ticks that wait."""

LONGEST_FAULT = 200
"""Characters of a failure's message that are kept."""
BEHIND = "behind"
MODEL_ERROR = "model error"
MODEL_GONE = "model process ended"
DELIVERY_ERROR = "delivery error"
STOPPED = "stopped"


class WorkerError(RuntimeError):
    """A request was refused; the message says why."""


class ModelHung(WorkerError):
    """A request was refused because what runs does not come back."""


class ModelGone(WorkerError):
    """The model's process has ended, or is not up again yet."""


Done = Callable[[Exception | None], None]
"""Tells the worker that a tick is delivered (None), or what it was lost to."""


class Embeds(Protocol):
    """Embedder as the worker sees it."""

    def embed(self, ticks: Sequence[Tick]) -> list[Embedded]:
        """One result a tick, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Accounting:
    """Counts of ticks. `produced == delivered + sum(shed.values()) + in_flight`."""

    produced: int
    delivered: int
    shed: dict[str, int]
    """Shed ticks by reason."""
    in_flight: int
    """Waiting, or being embedded or delivered."""


class Worker:
    """Runs from its construction until `stop`.

    `model` answers requests, and embeds ticks unless `embeds` does so in its place. `hand_over` is called on the
    worker's thread, tick by tick in order, and must not wait: whoever takes the vectors calls `Done` later, on any
    thread. Up to `batch` ticks share a forward pass. Where the policy is `in_order`, a pass waits for exactly `batch`
    ticks (fewer only while draining), because rounding depends on the size of a batch and a replay must give the same
    vectors each time.
    """

    def __init__(
        self,
        model: Model,
        hand_over: Callable[[Embedded, Done], None],
        policy: Policy,
        *,
        max_pending: int,
        batch: int = 1,
        embeds: Embeds | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not 1 <= batch <= max_pending:
            raise ValueError(f"batch is {batch}; it lies between 1 and max_pending, {max_pending}")
        self._model = model
        self._embeds = embeds or model
        self._hand_over = hand_over
        self._max_pending = max_pending
        self._policy = policy
        self._batch = batch
        self._clock = clock or RunClock.start()
        self._changed = threading.Condition()
        # All that follows is guarded by _changed.
        self._pending: deque[Tick] = deque()
        self._jobs: deque[Job] = deque()
        self._produced = self._delivered = self._running = 0
        self._handed: deque[tuple[int, int]] = deque()
        """Index, and since when, of ticks that the next stage is not done with, in order."""
        self._shed: Counter[str] = Counter()
        self._draining = 0
        self._stopping = False
        self._last_job_ns = self._clock.now_ns()
        self._last_job_took_ns = 0
        self._progress = Progress(0)
        self._hung = ""
        self._answering: Job | None = None
        self._logged: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def submit(self, tick: Tick) -> None:
        """Hand over a tick; waits for room where the policy says so. After `stop` it is shed."""
        with self._changed:
            self._produced += 1
            # Counted as running while it waits to be queued, so that the sum holds meanwhile.
            self._running += 1
            room = self._max_pending
            self._policy.wait_for_room(self._changed, lambda: self._stopping or len(self._pending) < room)
            self._running -= 1
            if self._stopping:
                self._shed[STOPPED] += 1
                return
            self._pending.append(tick)
            for _ in self._policy.too_many(self._pending, lambda: len(self._pending) > room):
                self._shed[BEHIND] += 1
            self._changed.notify_all()

    def ask(self, request: Request) -> Future[Any]:
        """Have a request answered when no tick waits. Raises WorkerError when it cannot be queued.

        The future holds what `agent.embedding.requests` says of the request, or what it raises.
        """
        with self._changed:
            if self._stopping:
                raise WorkerError("the agent is stopping; ask again when it runs")
            if self._hung:
                raise ModelHung(self._hung)
            if len(self._jobs) >= MAX_JOBS:
                raise WorkerError(f"{MAX_JOBS} requests wait for the model already; ask again later")
            job = Job(request, self._clock.now_ns())
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def refuse_requests(self, reason: str) -> None:
        """Refuse requests with ModelHung for a reason, the one that runs too; with an empty one, take them again."""
        with self._changed:
            self._hung = reason
            if not reason:
                return
            refused = [job for job in self._jobs if job.begin()]
            self._jobs.clear()
            if self._answering is not None:
                refused.append(self._answering)
        for job in refused:
            job.refuse(ModelHung(reason))

    def progress(self) -> Progress:
        """Return the progress; work that the next stage has not finished counts as running."""
        with self._changed:
            progress = replace(self._progress, now_ns=self._clock.now_ns())
            if not progress.running and self._handed:
                index, since_ns = self._handed[0]
                running = f"what follows from tick {index}"
                return replace(progress, running=running, running_since_ns=since_ns, running_ticks=1)
            return progress

    def accounting(self) -> Accounting:
        """The counts, all of one moment."""
        with self._changed:
            in_flight = len(self._pending) + self._running
            return Accounting(self._produced, self._delivered, dict(+self._shed), in_flight)

    def drain(self, timeout_s: float) -> bool:
        """Wait until every tick so far has been delivered or shed; False when that takes longer than `timeout_s`."""
        with self._changed:
            self._draining += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._pending and not self._running, timeout_s)
            finally:
                self._draining -= 1

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shed what waits, cancel requests, finish what runs and end the thread; may be called again.

        What was handed over is the next stage's to finish.
        """
        with self._changed:
            self._stopping = True
            self._shed[STOPPED] += len(self._pending)
            self._pending.clear()
            jobs, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in jobs:
            job.future.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("the model has not come back within %.0f s; leaving it behind", timeout_s)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, Job):
                self._do(work)
            else:
                self._deliver(work)
            self._note_running("")
            del work  # or it would be kept until the next comes

    def _next(self) -> Job | list[Tick] | None:
        """Wait for work: a job, or the ticks of a batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._jobs or self._ticks_ready())
            if self._stopping:
                return None
            if self._jobs and (not self._ticks_ready() or self._job_is_due()):
                self._note_running("a request")
                return self._jobs.popleft()
            ticks = [self._pending.popleft() for _ in range(min(self._batch, len(self._pending)))]
            self._running += len(ticks)
            self._note_running(f"tick {ticks[0].index}", len(ticks))
            self._changed.notify_all()
            return ticks

    def _note_running(self, what: str, ticks: int = 0) -> None:
        with self._changed:
            now_ns = self._clock.now_ns()
            self._progress = replace(self._progress, running=what, running_since_ns=now_ns, running_ticks=ticks)

    def _ticks_ready(self) -> bool:
        enough = self._batch if self._policy.in_order and not self._draining else 1
        return len(self._pending) >= enough and len(self._handed) <= self._batch

    def _job_is_due(self) -> bool:
        now_ns = self._clock.now_ns()
        if now_ns - self._jobs[0].asked_ns < JOB_PATIENCE_NS:
            return False
        return now_ns - self._last_job_ns >= max(JOB_PATIENCE_NS, self._last_job_took_ns * (1 / JOB_SHARE - 1))

    def _do(self, job: Job) -> None:
        """Answer a job; nothing of it may be left in a variable here (see `Job.ask`)."""
        if not job.begin():
            return
        started_ns = self._clock.now_ns()
        self._answering = job
        answer = job.ask(self._model)
        del job
        with self._changed:
            self._answering = None
            self._last_job_ns = self._clock.now_ns()
            self._last_job_took_ns = self._last_job_ns - started_ns
        answer()
        del answer

    def _deliver(self, ticks: Sequence[Tick]) -> None:
        """Embed and deliver; a batch that fails is halved, and a tick that fails alone is shed."""
        results = self._embed(ticks)
        if isinstance(results, str) and len(ticks) > 1:
            # The error is gone by now, and with it the memory that its traceback held.
            middle = len(ticks) // 2
            self._deliver(ticks[:middle])
            self._deliver(ticks[middle:])
        elif isinstance(results, str):
            self._count(ticks[0], results)
        else:
            for embedded in results:
                self._pass_on(embedded)

    def _embed(self, ticks: Sequence[Tick]) -> list[Embedded] | str:
        """The results, or why there are none."""
        try:
            results = self._embeds.embed(ticks)
            if len(results) != len(ticks):
                raise RuntimeError(f"the embedder gave {len(results)} results for {len(ticks)} ticks")
        except ModelGone:
            return MODEL_GONE  # told, and logged, by whoever starts it again
        except Exception as error:  # noqa: BLE001 (whatever the model raises, the next tick may work)
            if len(ticks) == 1:
                self._log_once("the model failed on tick %d, which is shed: %s", ticks[0].index, error)
                self._note_failure(error)
            return MODEL_ERROR
        return results

    def _pass_on(self, embedded: Embedded) -> None:
        tick = embedded.tick
        with self._changed:
            self._handed.append((tick.index, self._clock.now_ns()))
        done = partial(self._done, tick)
        try:
            self._hand_over(embedded, done)
        except Exception as error:  # noqa: BLE001 (one tick's fault must not end the thread)
            done(error)

    def _done(self, tick: Tick, error: Exception | None) -> None:
        """The next stage is through with the tick that was handed over first."""
        if error is not None:
            self._log_once("tick %d could not be delivered and is shed: %s", tick.index, error)
            self._note_failure(error)
        with self._changed:
            self._handed.popleft()
        self._count(tick, None if error is None else DELIVERY_ERROR)

    def _count(self, tick: Tick, shed: str | None) -> None:
        """One running tick is done: delivered, or shed for a reason."""
        with self._changed:
            self._running -= 1
            if shed is None:
                self._delivered += 1
                if self._progress.failures and not all(window.missing for window in tick.windows.values()):
                    self._progress = replace(self._progress, failures=0)
            else:
                self._shed[shed] += 1
            self._changed.notify_all()

    def _note_failure(self, error: Exception) -> None:
        """The tick that runs is lost."""
        with self._changed:
            before, fault = self._progress, str(error) or type(error).__name__
            since_ns = before.failing_since_ns if before.failures else self._clock.now_ns()
            self._progress = replace(
                before,
                failures=before.failures + 1,
                failing_since_ns=since_ns,
                fault=fault.splitlines()[0][:LONGEST_FAULT],
            )

    def _log_once(self, message: str, index: int, error: Exception) -> None:
        """The first error of each kind, with its traceback; later ones are only counted."""
        kind = f"{message}{type(error).__name__}"
        if kind not in self._logged:
            self._logged.add(kind)
            log.error(message, index, error, exc_info=error)
