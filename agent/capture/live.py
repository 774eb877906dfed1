"""Live capture: every driver in a process of its own, all waited for in one place.

A driver may block for ever, crash, or leak; its process is then killed and replaced while the others go on. Sensors
of type `remote` are filled by this process's own server and are read here. A fault of the agent's own in looking after
one sensor costs that one: it is counted, and looked after again at the next turn.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from agent.capture.remote import RemoteSensor
from agent.capture.sensor import STOP_S, CapturedSensor
from agent.capture.source import CaptureReport
from agent.clock import RunClock
from agent.faults import Faults
from agent.streams import SensorSpec
from common.descriptors import RESERVE
from drivers.driver import Sample
from drivers.remote import Remote

WATCH_S = 0.05
"""Time between two checks of the processes."""


class Capture:
    """A Source of live samples.

    The kernel kills capture processes when the thread that started them ends, so call `start` and `poll` in threads
    that live as long as the capture.
    """

    def __init__(self, specs: Sequence[SensorSpec], clock: RunClock, faults: Faults | None = None) -> None:
        """Nothing is opened before `start`. `faults` counts by sensor. Raises BadOption for options of a remote one."""
        self._clock = clock
        self._faults = faults or Faults()
        self._sensors: dict[str, CapturedSensor | RemoteSensor] = {
            spec.name: RemoteSensor(spec, clock, self._faults) if spec.type == "remote" else CapturedSensor(spec, clock)
            for spec in specs
        }
        self._reports = {spec.name: CaptureReport("starting", "", 0, {}) for spec in specs}
        for name in self._sensors:
            self._note_report(name)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, tuple[int, ...]] = {}
        self._next_watch_ns = 0
        self._lock = Lock()
        self._stopping = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)

    def start(self) -> None:
        """Start every process; returns before any device is open."""
        with self._lock:
            if not self._stopping:
                self._watch()

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]]:
        """Return (sensor, sample) in order of arrival, waiting for the first up to `timeout_s`; [] when none came."""
        deadline_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        with self._lock:
            while not self._stopping:
                now_ns = self._clock.now_ns()
                samples = self._watch() if now_ns >= self._next_watch_ns else []
                # Once more after the deadline: a poll with no time to wait takes what is there.
                wait_ns = 0 if samples else min(deadline_ns, self._next_watch_ns) - now_ns
                for key, _ in self._selector.select(max(0, wait_ns) / 1e9):
                    samples += self._drain(key.data)
                if samples or now_ns >= deadline_ns:
                    return samples
        return []

    def reports(self) -> dict[str, CaptureReport]:
        """Return the counts of capture, per sensor, as of the last look at each; may be called from any thread."""
        return self._reports

    @property
    def in_order(self) -> bool:
        """True: every driver is read one sample after the other."""
        return True

    @property
    def ended(self) -> bool:
        """True if every sensor has ended."""
        return all(report.state == "ended" for report in self._reports.values())

    @property
    def remotes(self) -> dict[str, Remote]:
        """The drivers of remote sensors, to push samples into."""
        return {name: sensor.driver for name, sensor in self._sensors.items() if isinstance(sensor, RemoteSensor)}

    def stop(self) -> None:
        """End all processes, those that do not close their device in time by a kill; may be called again."""
        if self._stopping:
            return
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        with self._lock:
            for name, sensor in self._sensors.items():
                with self._faults.guard(name):
                    sensor.begin_stop()
            deadline_ns = self._clock.now_ns() + round(STOP_S * 1e9)
            for name, sensor in self._sensors.items():
                with self._faults.guard(name):
                    sensor.stop(deadline_ns)
                self._note_report(name)
            self._selector.close()
            os.close(self._wake_fd)

    def _note_report(self, name: str) -> None:
        with self._faults.guard(name):
            report = self._sensors[name].report()
            if report is not self._reports[name]:
                self._reports = {**self._reports, name: report}

    def _watch(self) -> list[tuple[str, Sample]]:
        """Look after every sensor and register what it waits on now."""
        self._next_watch_ns = self._clock.now_ns() + round(WATCH_S * 1e9)
        RESERVE.fill()
        samples = []
        for name, sensor in self._sensors.items():
            before = sensor.fds
            with self._faults.guard(name):
                samples += [(name, sample) for sample in sensor.watch()]
                if sensor.fds != before or name not in self._watched:
                    self._register(sensor)
                self._note_report(name)
                continue
            self._let_be(name)
            self._note_report(name)
        return samples

    def _drain(self, sensor: CapturedSensor | RemoteSensor | None) -> list[tuple[str, Sample]]:
        """Take what a sensor has; `None` stands for the wake-up of `stop`."""
        if sensor is None:
            return []
        with self._faults.guard(sensor.name):
            samples = [(sensor.name, sample) for sample in sensor.drain()]
            self._note_report(sensor.name)
            if not samples:  # its process told of a failure, or is dead
                self._next_watch_ns = 0
            return samples
        self._let_be(sensor.name)
        return []

    def _register(self, sensor: CapturedSensor | RemoteSensor) -> None:
        self._let_be(sensor.name)
        for fd in sensor.fds:
            self._selector.register(fd, selectors.EVENT_READ, sensor)
        self._watched[sensor.name] = sensor.fds

    def _let_be(self, name: str) -> None:
        """Wait on nothing of a sensor until the next turn: after a fault it could be ready again and again."""
        for fd in self._watched.pop(name, ()):
            with suppress(KeyError):
                self._selector.unregister(fd)
