"""The parent's side of one capture process: it starts it, watches it, and replaces it when it dies or hangs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from agent import child
from agent.back_off import BackOff
from agent.capture.news import News
from agent.capture.process import FIRST_SAMPLE_S, Order
from agent.capture.ring import Ring, Word
from agent.capture.source import BAD_DATA, LOST_BY_DRIVER, CaptureReport, CaptureState
from agent.clock import RunClock
from agent.streams import SensorSpec, silence_s
from common.descriptors import FOR_A_START, RESERVE
from drivers.driver import Sample

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 10.0
"""Time to start, or to open the device, after which a process counts as hung."""

HOPELESS_RETRY_S = 30.0
"""After an error that only a person can mend; a library may have been installed meanwhile."""

STEADY_S = 5.0
"""A process that lived this long with samples was sound: its successor starts without delay, and failures are news."""

STOP_S = 1.0
"""Time to close the device, after which a process is killed."""

SUSPICION_S = 0.5
"""Time that a process without a heartbeat is watched before it is killed: on a busy machine it is slow, not hung."""

BUSY_LIMIT_S = 30.0
"""A process that computes for this long without a heartbeat is killed all the same."""

DROPS = ("ring full", "superseded", "too large", BAD_DATA, LOST_BY_DRIVER)
"""Reasons for which samples are dropped before they are read."""

_HOPELESS = ("BadOption", "FormatMismatch", "MissingLibrary")


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """State of a process when its heartbeat was first missed."""

    beat_ns: int
    since_ns: int
    busy_ns: int


@dataclass
class _Running:
    """One process and what it shares with this one."""

    process: subprocess.Popen[bytes]
    ring: Ring
    pipe_fd: int
    started_ns: int
    first_sample_ns: int = 0
    unread: bytes = b""
    failure: tuple[str, str] = ("", "")
    """Kind and message of the last line it told."""
    suspicion: _Suspicion | None = None


class CapturedSensor:
    """One sensor that is read by a process of its own. Not thread-safe."""

    def __init__(self, spec: SensorSpec, clock: RunClock) -> None:
        """Nothing is started until `watch` is called."""
        self.name = spec.name
        self._spec = spec
        self._clock = clock
        self._silence_ns = round(silence_s(spec.stream) * 1e9)
        self._running: _Running | None = None
        self._next_start_ns = clock.now_ns()
        self._back_off = BackOff()
        self._state: CaptureState = "starting"
        self._error = ""
        self._news = News()
        self._sound_since_ns = 0
        """Time since which samples come without a failure, while they do."""
        self._starts = 0
        self._drops: Counter[str] = Counter()
        self._unreaped: list[subprocess.Popen[bytes]] = []
        self._report = CaptureReport("starting", "", 0, {})
        self._reported_on: tuple[CaptureState, str, int, tuple[int, ...] | None] | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to `drain`; they change with the process."""
        return (self._running.ring.event_fd, self._running.pipe_fd) if self._running else ()

    def report(self) -> CaptureReport:
        """Return the counts of capture."""
        counts = None if self._running is None else _counts_of(self._running.ring)
        basis = (self._state, self._error, self._starts, counts)
        if basis != self._reported_on:  # it is asked for with every sample, and seldom another
            drops = self._drops if counts is None else self._drops + _drops_of(counts)
            self._report = CaptureReport(self._state, self._error, max(0, self._starts - 1), dict(drops))
            self._reported_on = basis
        return self._report

    def drain(self) -> list[Sample]:
        """Take what arrived; of a keep-latest stream the newest sample only."""
        running = self._running
        if running is None:
            return []
        self._hear(running)
        read = running.ring.read_newest if self._spec.stream.keep == "latest" else running.ring.read
        samples = []
        while (sample := read()) is not None:
            samples.append(sample)
        if samples:
            self._arrived(running)
        return samples

    def watch(self) -> list[Sample]:
        """Start, kill or replace the process as needed; returns what a dead one left in its ring."""
        now_ns = self._clock.now_ns()
        self._unreaped = [process for process in self._unreaped if process.poll() is None]
        running = self._running
        if running is None:
            if self._state != "ended" and now_ns >= self._next_start_ns:
                self._try_to_start(now_ns)
            return []
        status = running.process.poll()
        if status is None:
            beat_ns = max(running.started_ns, running.ring.word(Word.HEARTBEAT_NS))
            if now_ns - beat_ns <= self._limit_ns(running) or _at_work(running, beat_ns, now_ns):
                return []
            doing = "reading" if running.ring.word(Word.READING) else "opening"
            return self._replace(
                running, f"hung for {(now_ns - beat_ns) / 1e9:.1f} s while {doing}; it is started again"
            )
        left = self.drain()
        kind, message = running.failure
        if kind == "EndOfStream":
            self._close(running)
            self._state = "ended"
            return left
        if status < 0 or not message:
            message = f"its process {child.ended_by(status)}; it is started again"
        return left + self._replace(running, message)

    def begin_stop(self) -> None:
        """Ask the process to close its device and end."""
        if self._running is not None and self._running.process.poll() is None:
            self._running.process.terminate()

    def stop(self, deadline_ns: int) -> None:
        """Wait for the process until `deadline_ns`, then kill it; release everything."""
        if self._running is not None:
            with suppress(subprocess.TimeoutExpired):
                self._running.process.wait(max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9))
            self._close(self._running)
        for process in self._unreaped:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        self._state = "ended"

    def _limit_ns(self, running: _Running) -> int:
        """Return the longest time without a heartbeat."""
        if not running.ring.word(Word.READING):
            return round(CONNECT_LIMIT_S * 1e9)
        return self._silence_ns if running.first_sample_ns else max(self._silence_ns, round(FIRST_SAMPLE_S * 1e9))

    def _try_to_start(self, now_ns: int) -> None:
        """Start the process; when that cannot be done, it is tried again later."""
        why = "its process could not be started; the agent's log says more"
        try:
            self._running = RESERVE.open(lambda: self._start(now_ns), FOR_A_START)
            self._starts += 1
            return
        except OSError as error:
            why = child.refused(error, "start its driver", "give its pictures a smaller size")
        finally:
            if self._running is None:
                self._next_start_ns = now_ns + round(self._back_off.next_s() * 1e9)
                self._failed(why)

    def _start(self, now_ns: int) -> _Running:
        """Start the process; leaves nothing behind when it cannot. Raises OSError."""
        stream = self._spec.stream
        with ExitStack() as undo, ExitStack() as handed_over:
            ring = Ring.create(stream.queue_depth, stream.sample_bytes, stream.modality, stream.views)
            undo.callback(ring.close)
            pipe_fd, tell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            undo.callback(os.close, pipe_fd)
            handed_over.callback(os.close, tell_fd)
            order = Order(self._spec.type, self._spec.options, stream, self._clock, ring.fds)
            process = child.launch("agent.capture.process", order, [str(tell_fd)], (*ring.fds, tell_fd))
            undo.pop_all()
        return _Running(process, ring, pipe_fd, now_ns)

    def _hear(self, running: _Running) -> None:
        """Read what the process told of its failures."""
        with suppress(BlockingIOError):
            running.unread += os.read(running.pipe_fd, 65536)
        *lines, running.unread = running.unread.split(b"\n")
        for line in lines:
            told = json.loads(line)
            running.failure = (told["kind"], told["message"])
            if told["kind"] != "EndOfStream":
                self._failed(told["message"])

    def _arrived(self, running: _Running) -> None:
        now_ns = self._clock.now_ns()
        running.first_sample_ns = running.first_sample_ns or now_ns
        if self._state != "running":
            if self._state == "lost":
                log.info("%s: samples come again", self.name)
            self._state, self._sound_since_ns = "running", now_ns
        elif now_ns - self._sound_since_ns > STEADY_S * 1e9:
            self._news.forget()

    def _failed(self, message: str) -> None:
        """Note a failure, and log it unless it repeats one since the sensor was last sound."""
        self._state, self._error = "lost", message
        if self._news.take(message):
            log.warning("%s: %s", self.name, message)

    def _replace(self, running: _Running, message: str) -> list[Sample]:
        """Bury the process, which failed for the reason given, and say when the next one starts."""
        left = self.drain()
        self._close(running)
        now_ns = self._clock.now_ns()
        if running.first_sample_ns and now_ns - running.first_sample_ns > STEADY_S * 1e9:
            self._back_off.reset()
        wait_s = HOPELESS_RETRY_S if running.failure[0] in _HOPELESS else self._back_off.next_s()
        self._next_start_ns = now_ns + round(wait_s * 1e9)
        self._failed(message)
        return left

    def _close(self, running: _Running) -> None:
        """End the process and what it started; keep its counts."""
        child.kill(running.process)
        try:
            running.process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._unreaped.append(running.process)  # blocked in the kernel; it dies when its device lets go of it
        self._drops += _drops_of(_counts_of(running.ring))
        running.ring.close()
        RESERVE.close(running.pipe_fd)
        self._running = None


def _at_work(running: _Running, beat_ns: int, now_ns: int) -> bool:
    """Return whether a process without a heartbeat computes, or waits for a core: that is slow, but not hung."""
    busy_ns = _busy_ns(running.process.pid)
    if running.suspicion is None or running.suspicion.beat_ns != beat_ns:
        running.suspicion = _Suspicion(beat_ns, now_ns, busy_ns)
    watched_ns = now_ns - running.suspicion.since_ns
    if watched_ns < SUSPICION_S * 1e9:
        return True
    return busy_ns - running.suspicion.busy_ns > watched_ns / 2 and now_ns - beat_ns < BUSY_LIMIT_S * 1e9


def _busy_ns(pid: int) -> int:
    """Return the time that the main thread of a process has been on a core or waited for one; 0 if the kernel does not
    tell.

    Fields as in the kernel's Documentation/scheduler/sched-stats.rst.
    """
    try:
        ran_ns, waited_ns, _ = RESERVE.open(Path(f"/proc/{pid}/schedstat").read_text).split()
    except (OSError, ValueError):
        return 0
    return int(ran_ns) + int(waited_ns)


def _counts_of(ring: Ring) -> tuple[int, ...]:
    """Return the counts of dropped samples, in the order of DROPS."""
    in_driver = (ring.word(word) for word in (Word.TOO_LARGE, Word.BAD_DATA, Word.LOST_BY_DRIVER))
    return (ring.lapped, ring.superseded, *in_driver)


def _drops_of(counts: tuple[int, ...]) -> Counter[str]:
    """By reason; reasons without a drop are left out."""
    return +Counter(dict(zip(DROPS, counts, strict=True)))
