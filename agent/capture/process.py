"""Main loop of a capture process: one driver, read into the ring for as long as it lives.

The process is one of `agent.child` and imports only its driver. It takes its `Order` as a pickle; nothing is unpickled
in the other direction: samples cross as numbers in the ring, and failures as lines of JSON in a pipe.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from agent.back_off import BackOff
from agent.capture.ring import Ring, Word
from agent.clock import RunClock
from agent.streams import Stream, silence_s
from drivers.driver import (
    BadData,
    BadOption,
    Disconnected,
    Driver,
    DriverError,
    EndOfStream,
    FormatMismatch,
    MissingLibrary,
    ReadTimeout,
)
from drivers.forms import check_form
from drivers.registry import make_driver

FIRST_SAMPLE_S = 5.0
"""Time from `connect` to the first sample, after which the device is connected again."""

BAD_DATA_S = 2.0
"""Time for which bad data alone may come before the sensor is said to be lost."""

MISMATCH_S = 15.0
"""A device that twice within this time gives other than was asked is set so: only a person can mend that."""

LONGEST_MESSAGE = 800
"""Characters; a pipe takes lines of up to 4096 bytes in one piece."""


@dataclass(frozen=True)
class Order:
    """Order to a capture process."""

    driver: str
    """Type of the driver, as `SensorSpec.type`."""
    options: Any
    stream: Stream
    clock: RunClock
    ring_fds: tuple[int, int]


class Teller:
    """Tells the parent why it goes wrong; never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, kind: str, message: str) -> None:
        """Send one line; it is left out when the parent has not read the pipe for thousands of lines."""
        text = " ".join(message.split())[:LONGEST_MESSAGE]
        line = json.dumps({"kind": kind, "message": text}, ensure_ascii=False) + "\n"
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._fd, line.encode(errors="replace"))

    def tell_crash(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """As `sys.excepthook`: a fault of the driver's code, told with the line where it happened."""
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
        self.tell("Crash", f"{kind.__name__}: {error}{where}")


def main() -> None:
    """Entry point: argv is sys.path (JSON), the parent's process id, and the pipe's file descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    teller = Teller(int(sys.argv[3]))
    sys.excepthook = teller.tell_crash
    order: Order = pickle.load(sys.stdin.buffer)
    stream = order.stream
    ring = Ring(*order.ring_fds, stream.queue_depth, stream.sample_bytes, stream.modality, stream.views)
    with suppress(SystemExit):
        capture(order, ring, teller)
    os._exit(0)  # a library's threads must not hold up, or crash, the end


def capture(order: Order, ring: Ring, teller: Teller) -> None:
    """Connect and read, again and again; returns when only a new process, or nothing, can help."""
    back_off = BackOff()
    mismatch_ns: int | None = None
    while True:
        _beat(ring, order.clock, reading=False)
        try:
            with make_driver(order.driver, order.options, order.clock) as driver:
                _read_on(driver, order, ring, teller, back_off)
        except (BadOption, MissingLibrary, EndOfStream) as last:
            teller.tell(type(last).__name__, str(last))
            return
        except FormatMismatch as error:
            teller.tell(type(error).__name__, str(error))
            before_ns, mismatch_ns = mismatch_ns, order.clock.now_ns()
            if before_ns is not None and mismatch_ns - before_ns < MISMATCH_S * 1e9:
                return
        except DriverError as error:
            teller.tell(type(error).__name__, str(error))
        if order.stream.modality == "audio":
            return  # PortAudio lists the devices once in the life of a process
        _beat(ring, order.clock, reading=False)
        time.sleep(back_off.next_s())


def _read_on(driver: Driver, order: Order, ring: Ring, teller: Teller, back_off: BackOff) -> None:
    """Move samples into the ring until the driver fails; raises its error.

    A device that sends nothing but bad data is told of before it is given up.
    """
    silence_ns = round(silence_s(order.stream) * 1e9)
    read_s = silence_ns / 4e9
    limit_ns = max(silence_ns, round(FIRST_SAMPLE_S * 1e9))
    last_ns = order.clock.now_ns()
    told = False
    while True:
        _beat(ring, order.clock, reading=True)
        try:
            sample = driver.read(read_s)
            check_form(sample, order.stream.modality)
        except (ReadTimeout, BadData) as error:
            ring.add(Word.BAD_DATA, isinstance(error, BadData))
            silent_ns = order.clock.now_ns() - last_ns
            if silent_ns > limit_ns:
                raise Disconnected(f"no sample for {silent_ns / 1e9:.1f} s ({error}); connecting again") from None
            if isinstance(error, BadData) and silent_ns > BAD_DATA_S * 1e9 and not told:
                teller.tell(type(error).__name__, str(error))
                told = True
            continue
        ring.add(Word.LOST_BY_DRIVER, sample.lost)
        if not ring.write(sample):
            raise BadOption(
                f"{order.stream.sensor}: a sample of shape {list(sample.data.shape)} does not fit into the "
                f"{order.stream.sample_bytes} bytes reserved; give the sensor its width and height, or smaller blocks"
            )
        last_ns, limit_ns, told = order.clock.now_ns(), silence_ns, False
        back_off.reset()


def _beat(ring: Ring, clock: RunClock, *, reading: bool) -> None:
    ring.set_word(Word.READING, int(reading))
    ring.set_word(Word.HEARTBEAT_NS, clock.now_ns())


def _stop(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)
