"""Where samples come from: live capture, or recordings read as fast as they are consumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from agent.streams import Stream
from drivers.driver import BadData, Clock, Driver, Modality, Sample
from drivers.registry import driver_class
from drivers.remote import Remote

Item = TypeVar("Item", covariant=True)

CaptureState = Literal["starting", "running", "lost", "ended"]
"""`starting`: nothing came yet. `lost`: no samples; it is being tried again. `ended`: nothing will come any more."""


@dataclass(frozen=True)
class SensorSpec:
    """One sensor, as capture needs to know it."""

    name: str
    type: str
    """A name of `drivers.registry`, or `module:Class`."""
    options: Any
    """The driver's own `Options`, which a capture process is sent as a pickle."""
    stream: Stream


@dataclass(frozen=True)
class CaptureReport:
    """How the capture of one sensor goes."""

    state: CaptureState
    error: str
    """The last error, one line; empty when there was none."""
    restarts: int
    """Capture processes started after the first."""
    drops: dict[str, int]
    """Samples (for `lost by driver`: rows or images) that were dropped, by reason."""


@dataclass(frozen=True, slots=True)
class Jump:
    """In place of samples: those that come next do not continue those before. A recording was sought in."""

    start_ns: int
    """They come from then on."""
    over: bool = False
    """Nothing more was to come before: the last windows of before are as good as they get."""


class Source(Protocol[Item]):
    """Where a pipeline takes its samples from: an item is (sensor, sample)."""

    def start(self) -> None:
        """Begin; live sources return before their devices are open."""
        ...

    def poll(self, timeout_s: float) -> Sequence[Item] | Jump:
        """Return items in order of arrival, waiting for the first up to `timeout_s`; empty when none came."""
        ...

    def reports(self) -> dict[str, CaptureReport]:
        """How capture goes, per sensor."""
        ...

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """The drivers of sensors of type `remote`, to push samples into."""
        ...

    @property
    def ended(self) -> bool:
        """Whether every sensor has ended: nothing will come any more."""
        ...

    def stop(self) -> None:
        """Release everything; may be called again."""
        ...


def find_driver(type_name: str) -> type[Driver]:
    """Return the class behind a registry name or a `module:Class` path; KeyError when there is none."""
    if ":" not in type_name:
        return driver_class(type_name)
    module, _, name = type_name.partition(":")
    found: type[Driver] = getattr(import_module(module), name)
    return found


def make_driver(type_name: str, options: Any, clock: Clock) -> Driver:
    """Make an unconnected driver; every driver's constructor takes its options and the run's clock."""
    constructor: Callable[[Any, Clock], Driver] = find_driver(type_name)
    return constructor(options, clock)


def silence_s(stream: Stream) -> float:
    """How long a stream may be silent before it counts as lost: ten periods, but at least a second."""
    return max(1.0, 10.0 * stream.period_s)


_FORM: dict[Modality, tuple[type[np.generic], int]] = {
    "vision": (np.uint8, 3),
    "audio": (np.float32, 2),
    "depth": (np.float32, 2),
    "thermal": (np.float32, 2),
    "imu": (np.float32, 2),
}


def check_form(sample: Sample, modality: Modality) -> None:
    """Raise BadData unless the sample has the type and shape that `Sample` promises for its modality."""
    dtype, dimensions = _FORM[modality]
    data, rows = sample.data, modality in ("audio", "imu")
    if data.dtype != dtype or data.ndim != dimensions or data.size == 0:
        raise BadData(f"a {modality} sample of {data.dtype} {list(data.shape)} came")
    if (modality == "vision" and data.shape[2] != 3) or (modality == "imu" and data.shape[1] != 6):
        raise BadData(f"a {modality} sample of shape {list(data.shape)} came")
    if rows != (sample.rate_hz > 0.0) or not (sample.rate_hz == 0.0 or 1e-3 <= sample.rate_hz < 1e7):
        raise BadData(f"a {modality} sample of rate {sample.rate_hz:g} Hz came")
