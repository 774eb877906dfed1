"""The thread that takes what a source gives and hands on the ticks that follow from it.

It goes stretch by stretch: what lies between two jumps of the source. A live run, or a log that is replayed from start
to end, is one stretch. Each is begun anew, so that nothing of what was before a jump is left in it.

What fails for one sample, one tick or one report costs that one and is counted. Only the source itself ends the run: by
an error, or because it is over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from agent.capture.source import CaptureReport, Jump, Source
from agent.faults import Faults
from agent.health.health import Health, StreamState
from agent.health.motion_lag import MotionLag
from agent.log.format import LogError
from agent.policy import Policy
from agent.windows.windower import Tick, Windower
from drivers.driver import Clock, DriverError, Sample

log = logging.getLogger(__name__)

POLL_S = 0.02
"""Longest wait for samples; it is shorter where a tick will be settled by time before."""
HEALTH_PERIOD_NS = 500_000_000
PLACE = "sampler"
"""Place of faults without a known sensor."""

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)


class Stretch(Protocol[Item]):
    """Items in, ticks out, for as long as the source does not jump."""

    def push(self, item: Item) -> None:
        """Push a sample into its window."""
        ...

    def advance(self) -> Sequence[Tick]:
        """Return ticks that are settled by now, in order; there may be more."""
        ...

    def due_ns(self) -> int | None:
        """When a tick is settled although no more items come; None when items alone can do that."""
        ...

    def finish(self) -> Sequence[Tick]:
        """Return the ticks that are left at the end."""
        ...

    def changes(self, *, at_end: bool = False) -> Sequence[StreamState]:
        """Return the streams whose health has changed, when it is time to look, or the end."""
        ...

    def states(self) -> Mapping[str, StreamState]:
        """The health of every stream; may be called from any thread."""
        ...

    @property
    def now_ns(self) -> int:
        """The time that it has come to."""
        ...


class SampleStretch:
    """A Stretch of (sensor, sample): windows and health. Without a `clock` the samples themselves are the clock."""

    def __init__(
        self,
        windower: Windower,
        health: Health,
        reports: Callable[[], dict[str, CaptureReport]],
        clock: Clock | None,
        faults: Faults | None = None,
        lags: Sequence[MotionLag] = (),
    ) -> None:
        """`lags` watch for sensors whose stamps are off against each other."""
        self._faults = faults or Faults()
        self._windower, self._health, self._reports, self._clock = windower, health, reports, clock
        self._lags = lags
        self._ticks: list[Tick] = []
        """Ticks that `lags` have not seen yet: they are on their way before anything is computed of them."""
        self._next_health_ns = 0
        self._reporting = threading.Lock()
        """Held while health is looked at, so that what has changed is what was just found."""
        if clock is None:
            self.states()  # the age of what never comes counts from here

    def push(self, item: tuple[str, Sample]) -> None:
        """Put a sample where its windows are cut."""
        sensor, sample = item
        with self._faults.guard(sensor):
            self._windower.push(sensor, sample, None if self._clock is None else self._clock.now_ns())
        with self._faults.guard(sensor):
            self._health.observe(sensor, sample.seen(), self.now_ns)

    def advance(self) -> Sequence[Tick]:
        """Return the ticks that are settled."""
        ticks = self._windower.advance(self.now_ns)
        if self._lags:
            self._ticks += ticks
        return ticks

    def due_ns(self) -> int | None:
        """When the next tick waits for no stream any more."""
        return None if self._clock is None else self._windower.due_ns()

    def finish(self) -> Sequence[Tick]:
        """Cut the last windows."""
        return self._windower.finish()

    def changes(self, *, at_end: bool = False) -> Sequence[StreamState]:
        """Every half second: what has changed since; windows wait no longer for streams that are lost."""
        self._note_lags()
        now_ns = self.now_ns
        if now_ns < self._next_health_ns and not at_end:
            return []
        self._next_health_ns = now_ns + HEALTH_PERIOD_NS
        reports = self._reports()
        for sensor, report in reports.items():
            if report.state in ("lost", "ended"):
                self._windower.exclude(sensor, report.state)
            else:
                self._windower.include(sensor)
        self._health.note_faults(now_ns)
        with self._reporting:
            self._health.report(now_ns, reports, self._windower.drops())
            return self._health.changes()

    def _note_lags(self) -> None:
        ticks, self._ticks = self._ticks, []
        for lag in self._lags if ticks else ():
            with self._faults.guard(lag.camera):
                for tick in ticks:
                    lag.observe(tick)
                self._health.note_lag(lag.camera, lag.problem())

    def states(self) -> Mapping[str, StreamState]:
        """Health as of now."""
        with self._reporting:
            return self._health.report(self.now_ns, self._reports(), self._windower.drops())

    @property
    def now_ns(self) -> int:
        """The clock's time, or that of the samples, so that what follows does not depend on how fast they come."""
        return self._windower.newest_ns if self._clock is None else self._clock.now_ns()


class Outlet(Generic[T]):
    """Takes items, ticks and health; by itself it takes no note of any."""

    def keep(self, item: T) -> None:
        """Take note of an item, before anything follows from it."""

    def ticked(self, count: int) -> None:
        """So many ticks follow from the items taken last."""

    def submit(self, ticks: Sequence[Tick]) -> None:
        """Take ticks, in order; may wait, and `settle` waits until all are through."""

    def settle(self) -> None:
        """Wait until every tick so far has been delivered, or the run is stopped."""

    def tell(self, states: Sequence[StreamState], now_ns: int) -> None:
        """Publish the health of streams."""

    def start_anew(self) -> None:
        """Forget what was perceived, since the source jumps."""

    def through(self) -> None:
        """Everything up to the end of the source is through."""


class Sampler(Generic[T]):
    """One thread, from `start` until the source has ended or `stop` is called.

    Where the policy wants it, every item is seen through by itself, ticks and health of it in order, so that what
    follows does not depend on how the source was read. `lasting`: at its end the source may still jump.
    """

    def __init__(
        self,
        source: Source[T],
        begin: Callable[[int], Stretch[T]],
        start_ns: int,
        outlet: Outlet[T],
        policy: Policy,
        *,
        lasting: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self.ended: Future[None] = Future()
        """Done when nothing is taken any more; holds what ended that, when it was a fault."""
        self.stretch: Stretch[T] = begin(start_ns)
        self._source, self._begin, self._outlet = source, begin, outlet
        self._policy, self._lasting = policy, lasting
        self._faults = faults or Faults()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; what it waits for is stopped by others, then `join`."""
        self._stopping.set()
        self._source.stop()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its end; may be called before its start."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        # Capture processes live as long as the thread that starts them.
        failure: Exception | None = None
        try:
            self._source.start()
            self._take_all()
        except Exception as error:
            failure = error
            if not isinstance(error, DriverError | LogError):  # those are the user's, who is told by `ended`
                log.exception("taking samples failed")
        try:
            self._outlet.settle()
            self._source.stop()
        finally:
            if failure is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(failure)

    def _take_all(self) -> None:
        over = False
        while not self._stopping.is_set():
            if not self._source.ended:
                over = False
            elif not over:
                over = True
                self._finish()
            if over and not self._lasting:
                return
            self._take()

    def _take(self) -> None:
        polled = self._source.poll(self._patience_s())
        if isinstance(polled, Jump):
            if polled.over:
                self._submit(self._ticks(self.stretch.finish))
            # What came before is through before anything of after is looked at.
            self._outlet.settle()
            with self._faults.guard(PLACE):
                self._outlet.start_anew()
            self.stretch = self._begin(polled.start_ns)
            return
        for item in polled:
            with self._faults.guard(PLACE):
                self._outlet.keep(item)
            with self._faults.guard(PLACE):
                self.stretch.push(item)
            if self._policy.in_order:
                self._hand_on()
        if not self._policy.in_order:
            self._hand_on()

    def _patience_s(self) -> float:
        """Return the longest wait for items."""
        ahead_s = 0.0
        with self._faults.guard(PLACE):
            due_ns = self.stretch.due_ns()
            ahead_s = 0.0 if due_ns is None else (due_ns - self.stretch.now_ns) / 1e9
        return min(POLL_S, ahead_s) if ahead_s > 0.0 else POLL_S  # what is overdue could not be cut, and may never be

    def _hand_on(self) -> None:
        ticks = self._ticks(self.stretch.advance)
        while ticks:
            self._outlet.ticked(len(ticks))
            self._submit(ticks)
            # Live, the rest of many follows once samples have been taken.
            ticks = self._ticks(self.stretch.advance) if self._policy.in_order else ()
        self._tell()

    def _finish(self) -> None:
        self._submit(self._ticks(self.stretch.finish))
        self._tell(at_end=True)
        self._outlet.settle()
        self._outlet.through()

    def _ticks(self, cut: Callable[[], Sequence[Tick]]) -> Sequence[Tick]:
        with self._faults.guard(PLACE):
            return cut()
        return ()

    def _submit(self, ticks: Sequence[Tick]) -> None:
        with self._faults.guard(PLACE):
            self._outlet.submit(ticks)

    def _tell(self, *, at_end: bool = False) -> None:
        with self._faults.guard(PLACE):
            states = self.stretch.changes(at_end=at_end)
            if states and self._policy.in_order:
                # After the ticks before it and before those that follow, however the threads go.
                self._outlet.settle()
            if states:
                self._outlet.tell(states, self.stretch.now_ns)
