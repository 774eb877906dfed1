"""A sensor whose samples another program pushes: read in this process, where the server receives them."""

from __future__ import annotations

import os
from collections import Counter, deque
from contextlib import suppress
from threading import Event, Lock, Thread

from agent.capture.source import BAD_DATA, LOST_BY_DRIVER, CaptureReport, CaptureState
from agent.clock import RunClock
from agent.faults import Faults
from agent.streams import SensorSpec
from drivers.driver import BadData, DriverError, EndOfStream, ReadTimeout, Sample
from drivers.forms import check_form
from drivers.remote import Remote

READ_S = 0.2
FAULT_S = 0.05
"""Wait after a fault: the next may come at once."""


class RemoteSensor:
    """Reads a driver in a thread into a queue of the stream's depth; when it is full the oldest is dropped."""

    def __init__(self, spec: SensorSpec, clock: RunClock, faults: Faults | None = None) -> None:
        """Make the driver; nothing is read until `watch` is called. Raises BadOption."""
        self.name = spec.name
        self._faults = faults or Faults()
        self.driver = Remote(spec.options, clock)
        self._stream = spec.stream
        self._queue: deque[Sample] = deque()
        self._lock = Lock()
        self._drops: Counter[str] = Counter()
        self._state: CaptureState = "starting"
        self._error = ""
        self._event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = Event()
        self._thread: Thread | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to `drain`."""
        return (self._event_fd,) if self._event_fd >= 0 else ()

    def report(self) -> CaptureReport:
        """Return the counts of capture."""
        with self._lock:
            return CaptureReport(self._state, self._error, 0, dict(self._drops))

    def drain(self) -> list[Sample]:
        """Take what arrived. All of it: which one is the newest picture, arrival does not tell."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event_fd)
        with self._lock:
            samples = list(self._queue)
            self._queue.clear()
        return samples

    def watch(self) -> list[Sample]:
        """Start the thread once; a thread needs no replacement."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = Thread(target=self._run, name=f"samples of {self.name}", daemon=True)
            self._thread.start()
        return []

    def begin_stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def stop(self, _deadline_ns: int) -> None:
        """Wait for the thread and release the wake-up."""
        if self._thread is not None:
            self._thread.join()
        self.driver.close()
        self._state = "ended"
        if self._event_fd >= 0:
            os.close(self._event_fd)
            self._event_fd = -1

    def _run(self) -> None:
        end: CaptureState = "ended"
        try:
            self.driver.connect()
            while not self._stopping.is_set():
                self._read_or_count()
        except EndOfStream:
            pass
        except DriverError as error:
            self._error, end = str(error), "lost"
        self._state = end

    def _read_or_count(self) -> None:
        """Read once; a sample that is a fault of the agent's own costs itself alone. Raises DriverError."""
        try:
            self._read_one()
        except DriverError:
            raise
        except Exception as error:  # noqa: BLE001  a bug, which is counted
            self._faults.count(self.name, error)
            self._stopping.wait(FAULT_S)

    def _read_one(self) -> None:
        try:
            sample = self.driver.read(READ_S)
            check_form(sample, self._stream.modality)
        except ReadTimeout:
            return
        except BadData as error:
            with self._lock:
                self._error = str(error)
                self._drops[BAD_DATA] += 1
            return
        with self._lock:
            self._state = "running"
            if sample.lost:
                self._drops[LOST_BY_DRIVER] += sample.lost
            if len(self._queue) == self._stream.queue_depth:
                self._queue.popleft()
                self._drops["ring full"] += 1
            self._queue.append(sample)
        os.eventfd_write(self._event_fd, 1)
