"""Drivers with one fault each, for the tests of capture; capture processes import them by path."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from drivers.driver import (
    BadOption,
    Clock,
    DeviceNotFound,
    Disconnected,
    Driver,
    EndOfStream,
    FormatMismatch,
    MissingLibrary,
    Modality,
    ReadTimeout,
    Sample,
)


@dataclass(frozen=True)
class FaultyOptions:
    """`mark` is a file: one-time faults happen while it does not exist, and make it."""

    fault: str = ""
    after: int = 10
    mark: Path = Path("/nonexistent")
    period_s: float = 0.02
    height: int = 8


class FaultyCamera(Driver):
    """Frames whose every pixel is the low byte of their number, with a fault after `after` of them."""

    Options: ClassVar[type[Any]] = FaultyOptions
    modality: ClassVar[Modality] = "vision"

    def __init__(self, options: FaultyOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._count = 0

    def connect(self) -> None:
        fault, mark = self._options.fault, self._options.mark
        if fault == "bad option":
            raise BadOption("camera: height is -1; give a positive one")
        if fault == "missing library":
            raise MissingLibrary("camera: libcamera is not installed; install it")
        if fault == "absent" and not mark.exists():
            raise DeviceNotFound("camera: there is no device; plug it in")
        if fault == "hangs in connect" and self._once():
            time.sleep(3600)

    def read(self, timeout_s: float) -> Sample:
        self._clock.sleep_until(self._clock.now_ns() + round(self._options.period_s * 1e9))
        self._count += 1
        if self._count > self._options.after:
            self._fail(timeout_s)
        size = self._options.height
        garbage = self._options.fault == "garbage" and self._count % 2 == 0
        data = np.full((size, size, 3), self._count % 256, np.float64 if garbage else np.uint8)
        return Sample(self._clock.now_ns(), data)

    def close(self) -> None:
        if self._options.fault == "says when closed":
            self._options.mark.write_text("closed")

    def _fail(self, timeout_s: float) -> None:
        fault = self._options.fault
        if fault == "ends":
            raise EndOfStream("camera: the recording is over")
        if fault == "silent":
            time.sleep(timeout_s)
            raise ReadTimeout("camera: no frame")
        if fault == "hangs" and self._once():
            time.sleep(3600)
        if fault == "computes" and self._once():
            until_s = time.process_time() + 2.0
            while time.process_time() < until_s:
                pass
        if fault == "crashes" and self._once():
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "raises" and self._once():
            raise ZeroDivisionError("a bug in the driver")
        if fault == "another rate":
            raise FormatMismatch("camera", "rate_hz", 50, f"{time.monotonic() % 10:.6f}")
        if fault == "unplugged" and self._once():
            raise Disconnected("camera: it went away")

    def _once(self) -> bool:
        if self._options.mark.exists():
            return False
        self._options.mark.touch()
        return True
