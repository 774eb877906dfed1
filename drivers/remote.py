"""A sensor whose samples another process pushes, through the `Ingest` call."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from threading import Condition
from typing import Any, ClassVar

from drivers.driver import BadData, Clock, Disconnected, Driver, Modality, ReadTimeout, Sample, StreamFacts
from drivers.forms import FORMS, fits, image_like
from drivers.option_checks import latency_ns, require, require_positive


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """A sensor of another process. What is given here is required of every sample; the rest is taken as it comes."""

    modality: Modality
    rate_hz: float
    """Images a second, or rows a second of audio and IMU."""
    width: int | None = None
    """Size of images in pixels."""
    height: int | None = None
    """Size of images in pixels."""
    channels: int = 1
    """Channels of audio."""
    queue_depth: int = 64
    """Samples held for the reader; when full the oldest is dropped and counted."""
    latency_ms: float = 0.0
    """Milliseconds from the capture to the time stamp that the other process gives; subtracted from it."""


class Remote(Driver):
    """Yields the samples that were pushed, in their order. `push` and `read` may be called from different threads."""

    Options: ClassVar[type[Any]] = RemoteOptions

    @classmethod
    def stream(cls, options: RemoteOptions) -> StreamFacts:
        """Facts about the samples that the other process pushes."""
        return StreamFacts(
            options.modality,
            rate_hz=options.rate_hz,
            width=options.width,
            height=options.height,
            channels=options.channels,
            latency_s=options.latency_ms / 1e3,
            in_order=False,  # calls have no order among each other, and a sender may send again what was lost
        )

    def __init__(self, options: RemoteOptions, clock: Clock) -> None:  # noqa: ARG002 - samples come with their time
        for name in ("rate_hz", "width", "height", "channels"):
            require_positive(name, getattr(options, name))
        require(options.queue_depth >= 1, "queue_depth", options.queue_depth, "1 or more")
        self.modality: Modality = options.modality  # type: ignore[misc]  # the one driver that is of any modality
        self._options = options
        self._latency_ns = latency_ns(options.latency_ms)
        self._changed = Condition()
        self._samples: deque[Sample] = deque()
        self._lost = 0
        self._open = False

    def connect(self) -> None:
        """Begin to take samples."""
        with self._changed:
            self._open = True

    def push(self, sample: Sample) -> None:
        """Queue a sample; never waits. Raises BadData for one that does not fit, Disconnected when not connected."""
        self._check(sample)
        with self._changed:
            if not self._open:
                raise Disconnected(f"remote {self.modality}: the sensor is not running")
            if len(self._samples) == self._options.queue_depth:
                dropped = self._samples.popleft()
                self._lost += dropped.lost + (1 if image_like(self.modality) else len(dropped.data))
            self._samples.append(sample)
            self._changed.notify()

    def read(self, timeout_s: float) -> Sample:
        """Return the oldest sample that is queued, waiting for one up to `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._samples or not self._open, timeout_s):
                raise ReadTimeout(f"remote {self.modality}: nothing was pushed within {timeout_s:g} s")
            if not self._open:
                raise Disconnected(f"remote {self.modality}: not connected")
            sample, lost = self._samples.popleft(), self._lost
            self._lost = 0
        return replace(sample, t_ns=sample.t_ns - self._latency_ns, lost=sample.lost + lost)

    def close(self) -> None:
        """Take no more samples and drop those that are queued."""
        with self._changed:
            self._open = False
            self._samples.clear()
            self._lost = 0
            self._changed.notify_all()

    def _check(self, sample: Sample) -> None:
        """Raise BadData unless the sample is as the table of forms and the options say."""
        options, form, data = self._options, FORMS[self.modality], sample.data
        wanted = form.shape(options.height, options.width, options.channels)
        if not fits(data.shape, wanted) or data.dtype != form.dtype or data.size == 0:
            shape = ", ".join("any" if want is None else str(want) for want in wanted)
            came = f"{data.dtype} {list(data.shape)}"
            raise BadData(f"remote {self.modality}: a sample of {came} came, wanted {form.dtype} [{shape}]")
        if not form.image_like and sample.rate_hz != options.rate_hz:
            raise BadData(
                f"remote {self.modality}: a block of {sample.rate_hz:g} rows a second came, wanted {options.rate_hz:g}"
            )
