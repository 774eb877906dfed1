"""The driver: it connects to one device, yields samples, closes.

The errors a driver raises, and nothing else leaves a driver:

    DriverError
    ├── BadOption         an option of the sensor has a value that can never work
    ├── DeviceNotFound    no such device, file or address
    ├── DeviceBusy        another program holds the device
    ├── FormatMismatch    the device does not give what was asked (names wanted and got)
    ├── MissingLibrary    a system library or Python package that the driver needs is not installed
    ├── ReadTimeout       no sample within the time allowed; reading again is fine
    ├── Disconnected      the device went away; connect again
    ├── BadData           the device sent something that is not a sample; reading again is fine
    └── EndOfStream       a file or a finite scene has ended
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self

from numpy.typing import NDArray

from common.errors import UserFault

Modality = Literal["vision", "audio", "depth", "thermal", "imu"]
MODALITIES: tuple[Modality, ...] = ("vision", "audio", "depth", "thermal", "imu")

Pace = Literal["real", "fast"]
"""`real`: samples come at the rate of the clock. `fast`: as quickly as they are read, stamped as if paced."""


class DriverError(UserFault):
    """Root of everything a driver raises; the message is one line: what, where, what to do."""


class BadOption(DriverError):
    """An option of the sensor has a value that can never work."""


class DeviceNotFound(DriverError):
    """No such device, file or address."""


class DeviceBusy(DriverError):
    """Another program holds the device."""


class MissingLibrary(DriverError):
    """A system library or Python package that the driver needs is not installed."""


class ReadTimeout(DriverError):
    """No sample within the time allowed; reading again is fine."""


class Disconnected(DriverError):
    """The device went away; connect again."""


class BadData(DriverError):
    """The device sent something that is not a sample; reading again is fine."""


class EndOfStream(DriverError):
    """A file or a finite scene has ended."""


class FormatMismatch(DriverError):
    """The device does not give what was asked of it."""

    def __init__(self, device: str, what: str, wanted: object, got: object, remedy: str = "leave it out") -> None:
        super().__init__(
            f"{device}: {what} was asked as {wanted} but the device gives {got}; set {what} to {got} or {remedy}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image, or one block of consecutive audio or IMU rows.

    `t_ns` is the capture time of the image, or of the FIRST row of a block, in the run's clock.
    `data` by modality:
      vision   uint8   [H, W, 3]  RGB
      audio    float32 [n, channels], full scale is -1..1
      depth    float32 [H, W]     metres; 0 marks a pixel without a reading
      thermal  float32 [H, W]     degrees Celsius
      imu      float32 [n, 6]     accelerometer x y z in m/s2 (gravity included), gyroscope x y z in rad/s
    Body axes are ROS REP-103: x forward, y left, z up.
    `rate_hz` is the rate of the rows of a block; 0 for images.
    `lost` counts rows (or images) that the driver knows were lost just before this sample.
    """

    t_ns: int
    data: NDArray[Any]
    rate_hz: float = 0.0
    lost: int = 0

    @property
    def end_ns(self) -> int:
        """The time up to which this sample tells about its stream: after the last row of a block, or `t_ns`."""
        if self.rate_hz == 0.0:
            return self.t_ns
        return self.t_ns + round(len(self.data) * 1e9 / self.rate_hz)

    def seen(self) -> Sample:
        """Itself, or a stand-in for data that is not decoded yet: for who only compares samples with each other."""
        return self


class Clock(Protocol):
    """The run's clock, as drivers see it. `agent.clock` holds the real ones."""

    @property
    def start_ns(self) -> int:
        """Start of the run: time zero of file and synthetic drivers."""
        ...

    def now_ns(self) -> int:
        """Nanoseconds on the run's clock; never steps back."""
        ...

    def sleep_until(self, t_ns: int) -> None:
        """Return at `t_ns`, at once when it is past."""
        ...


BLOCK_S = 0.05
"""Of rows in one sample, where a driver has no reason for another length."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Facts about a driver's samples before its device is open; None is left to the device."""

    modality: Modality
    rate_hz: float | None = None
    """Images, or rows, a second."""
    width: int | None = None
    """Pixels, of images."""
    height: int | None = None
    """Pixels, of images."""
    channels: int | None = None
    """Of audio."""
    block_s: float = BLOCK_S
    """Seconds of rows in a sample."""
    pause_s: float = 0.0
    """Longest pause that the device makes regularly, beyond its period: a fault only when it lasts longer."""
    latency_s: float = 0.0
    """What the driver takes off the time stamps of its device."""
    scale: float | None = None
    """Metres, or degrees Celsius, of one count of a device that counts; None: as is the custom."""
    offset: float | None = None
    """Metres, or degrees Celsius, of a count of 0."""
    in_order: bool = True
    """False if samples may come in another order than they were captured; windows then wait for what seems to be
    missing.
    """


class Driver(ABC):
    """One device. Use as a context manager, or call `connect`, `read` ... `close` yourself.

    A driver class names its `Options` (a frozen dataclass that the config validates) and its `modality`, and says by
    `stream` what its options mean for the samples to come.
    A failed `connect` leaves nothing behind; `close` may be called at any time, any number of times.
    """

    Options: ClassVar[type[Any]]
    modality: ClassVar[Modality]

    @classmethod
    def stream(cls, options: Any) -> StreamFacts:  # noqa: ARG003  the base knows of no option
        """Return the facts about samples that follow from these `Options`.

        Opens nothing and checks nothing: values may be impossible.

        The base knows the modality only. A driver whose options tell more, such as a rate, says so: queues, windows
        and health are sized by it.
        """
        return StreamFacts(cls.modality)

    @abstractmethod
    def connect(self) -> None:
        """Open the device and check that it gives what the options ask."""

    @abstractmethod
    def read(self, timeout_s: float) -> Sample:
        """Return the next sample. Raises ReadTimeout after `timeout_s`, Disconnected, BadData or EndOfStream."""

    @abstractmethod
    def close(self) -> None:
        """Release the device; may be called at any time."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
