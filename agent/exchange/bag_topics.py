"""Topics of a bag on their way to sensors' samples: what one message after the other becomes. Knows no bag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from agent.exchange import foxglove_messages, ros_messages
from agent.exchange.bag_files import AUDIO, STAMPED_AUDIO
from agent.exchange.row_blocks import LONGEST_GAP_S, RowBlocks, rate_of
from agent.exchange.stamp_clock import Stamp, StampClock
from agent.exchange.units import check_inertial, check_picture
from agent.log import messages
from agent.log.format import LoggedSensor
from agent.streams import images_missing
from common.printable import shortened
from drivers.driver import BadData, Modality, Sample
from drivers.forms import FORMS
from drivers.row_timeline import RowTimeline

MOST_FAULTS = 20
"""Kinds that are told apart; a bag may give every message a fault of its own."""
OTHER_FAULTS = "messages with other faults"

IMAGE, COMPRESSED, IMU = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Imu"

READ: dict[str, Callable[[Any], Any]] = {
    IMAGE: ros_messages.picture,
    COMPRESSED: ros_messages.compressed_picture,
    messages.RAW_IMAGE_SCHEMA: ros_messages.picture,
    messages.IMAGE_SCHEMA: ros_messages.compressed_picture,
    IMU: ros_messages.inertial,
    AUDIO: lambda message: ros_messages.pcm_bytes(message.data),
    STAMPED_AUDIO: lambda message: ros_messages.pcm_bytes(message.audio.data),
    messages.AUDIO_SCHEMA: messages.decode_audio,
    messages.SAMPLE_SCHEMA: foxglove_messages.sample,
}
"""Contents of messages of the types that become samples."""
PICTURES = (IMAGE, COMPRESSED, messages.RAW_IMAGE_SCHEMA, messages.IMAGE_SCHEMA)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sensor that a topic becomes."""

    name: str
    modality: Modality | None = None
    """Default: the modality of the messages; pictures of 16 bits or of floats are depth unless `thermal` is given."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Format of the bytes of an AudioData: 16-bit little-endian samples."""

    rate_hz: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and when it was recorded."""

    message: Any
    received_ns: int
    topic: str = ""

    @property
    def stamp(self) -> Stamp:
        """Stamp of the message, 0 without one, and the time of recording."""
        if isinstance(self.message, Message):
            return Stamp(foxglove_messages.stamp_ns(self.message), self.received_ns)
        stamp = getattr(getattr(self.message, "header", None), "stamp", None)
        own_ns = 0 if stamp is None else int(stamp.sec * 1_000_000_000 + stamp.nanosec)
        return Stamp(own_ns, self.received_ns)


@dataclass(slots=True)
class FirstMessages:
    """The first messages of a topic."""

    stamps: list[Stamp] = field(default_factory=list)
    readings: list[Any] = field(default_factory=list)
    """Contents of messages that can be used: of an inertial unit all, else the first."""
    fault: str = ""
    """Fault of the first message that cannot."""

    def add(self, kind: str, received: Received) -> None:
        """Take the next message."""
        self.stamps.append(received.stamp)
        if self.readings and kind != IMU:
            return
        try:
            self.readings.append(READ[kind](received.message))
        except BadData as error:
            self.fault = self.fault or str(error)

    def first(self) -> Any:
        """Contents of the first usable message. Raises BadData when none of the first is."""
        if not self.readings:
            raise BadData(self.fault or "no message that can be read")
        return self.readings[0]


class Topic(ABC):
    """A topic of a bag and its sensor; turns messages into samples."""

    sensor: LoggedSensor
    options: Mapping[str, Any]
    """Keys of the configuration beside modality and rate: size, channels."""

    def __init__(self, name: str, probed: FirstMessages, clock: StampClock) -> None:
        """Make the topic of a sensor `name` from its first messages."""
        self.name = name
        self._clock = clock
        times = clock.copy()
        self._first = [(stamp, times.capture_ns(stamp)[0]) for stamp in probed.stamps]
        self.first_ns = min(t_ns for _, t_ns in self._first)
        self.faults: Counter[str] = Counter()
        self.notes: list[str] = []
        """Lines about the topic as a whole."""

    def samples(self, received: Received) -> list[Sample]:
        """The samples that a message completes; one that cannot be used is counted."""
        stamp = received.stamp
        t_ns, note = self._clock.capture_ns(stamp)
        try:
            samples = self._samples(received.message, t_ns, stamp)
        except BadData as error:
            self.count(f"messages with {shortened(str(error))}")
            return []
        if note:
            self.count(note)
        return samples

    def count(self, fault: str) -> None:
        """Count a fault; beyond MOST_FAULTS kinds as one of others."""
        self.faults[fault if fault in self.faults or len(self.faults) < MOST_FAULTS else OTHER_FAULTS] += 1

    @abstractmethod
    def _samples(self, message: Any, t_ns: int, stamp: Stamp) -> list[Sample]: ...

    def flush(self) -> list[Sample]:
        """Return the samples that are left at the end."""
        return []

    def _rate_hz(self) -> float | None:
        return rate_of([t_ns for _, t_ns in self._first])


class PictureTopic(Topic):
    """Pictures of a camera; gaps between their stamps tell which are missing."""

    def __init__(
        self, name: str, probed: FirstMessages, clock: StampClock, kind: str, modality: Modality | None
    ) -> None:
        """Raises BadData when none of the first pictures can be used."""
        super().__init__(name, probed, clock)
        self._decode = READ[kind]
        pixels = probed.first()
        self._modality: Modality = modality or ("vision" if pixels.ndim == 3 else "depth")
        check_picture(ros_messages.data_of(pixels, self._modality), self._modality)
        form = FORMS[self._modality]
        self.sensor = LoggedSensor(self._modality, self._rate_hz() or 1.0, form.count_scale, form.count_offset)
        self.options = {"width": pixels.shape[1], "height": pixels.shape[0]}
        self._missing = MissingImages(self.sensor.rate_hz)

    def _samples(self, message: Any, t_ns: int, stamp: Stamp) -> list[Sample]:  # noqa: ARG002  as Topic has it
        data = ros_messages.data_of(self._decode(message), self._modality)
        return [Sample(t_ns, data, lost=self._missing.before(t_ns))]


class MissingImages:
    """Images that are missing between others, by the gaps of their times."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._last_ns: int | None = None

    def before(self, t_ns: int) -> int:
        """Take the next image; return the number of those missing before it."""
        apart_ns = 0 if self._last_ns is None else t_ns - self._last_ns
        self._last_ns = t_ns
        return 0 if apart_ns > LONGEST_GAP_S * 1e9 else images_missing(apart_ns, 1 / self._rate_hz)


class ImuTopic(Topic):
    """Single inertial rows, put together to blocks."""

    def __init__(self, name: str, probed: FirstMessages, clock: StampClock) -> None:
        """Raises BadData when the first rows cannot be used, are of another unit, or no rate can be told."""
        super().__init__(name, probed, clock)
        probed.first()
        if fault := half_missing(probed.readings):
            raise BadData(fault)
        check_inertial([(*row.accel, *row.gyro) for row in probed.readings if row.accel and row.gyro])
        if not any(any(reading.gyro) for reading in probed.readings if reading.gyro):
            self.notes.append("its rotation is exactly 0 in the first messages; does it measure it?")
        rate_hz = self._rate_hz()
        if rate_hz is None:
            raise BadData("its rate cannot be derived from its stamps")
        self.sensor = LoggedSensor("imu", rate_hz)
        self.options = {}
        self.blocks = RowBlocks(rate_hz)
        self._last_row: tuple[int, ros_messages.Inertial] | None = None
        """Stamp and values of the last message, which some recorders write twice."""

    def _samples(self, message: Any, t_ns: int, stamp: Stamp) -> list[Sample]:
        row = ros_messages.inertial(message)
        before, self._last_row = self._last_row, (stamp.stamp_ns, row)
        if stamp.stamp_ns and before == self._last_row:
            raise BadData("the stamp and the values of the one before")
        return self._add(t_ns, row)

    def _add(self, t_ns: int, row: ros_messages.Inertial) -> list[Sample]:
        """Take a row. Raises BadData for half of one."""
        if row.accel is None or row.gyro is None:
            raise BadData("no linear acceleration" if row.accel is None else "no angular velocity")
        return self.blocks.add(t_ns, (*row.accel, *row.gyro))

    def flush(self) -> list[Sample]:
        """Return the last block."""
        return self.blocks.flush()


class AudioTopic(Topic):
    """Blocks of sound; a stamp is of the first row, a time of recording of the last."""

    def __init__(
        self, name: str, probed: FirstMessages, clock: StampClock, kind: str, form: AudioFormat | None = None
    ) -> None:
        """`form` is that of messages which do not state it. Raises BadData when the first blocks cannot be used."""
        super().__init__(name, probed, clock)
        first = probed.first()
        self._read = READ[kind]
        if form is None:
            rows, rate_hz = first
            form = AudioFormat(round(rate_hz), rows.shape[1])
        self._form = form
        self.first_ns = min(self._begin_ns(t_ns, stamp, self._rows(first)) for stamp, t_ns in self._first[:1])
        self._timeline = RowTimeline(form.rate_hz)
        self.sensor = LoggedSensor("audio", float(form.rate_hz))
        self.options = {"channels": form.channels}

    def _samples(self, message: Any, t_ns: int, stamp: Stamp) -> list[Sample]:
        data = self._rows(self._read(message))
        t_ns = self._begin_ns(t_ns, stamp, data)
        gap = self._timeline.gap(t_ns, len(data))
        if not 0 <= gap <= LONGEST_GAP_S * self._form.rate_hz:  # the stamps step
            self._timeline.restart()
            gap = 0
        self._timeline.take(t_ns, len(data), gap)
        return [Sample(t_ns, data, float(self._form.rate_hz), gap)]

    def _rows(self, reading: Any) -> NDArray[np.float32]:
        """The rows of what `READ` returns. Raises BadData."""
        if isinstance(reading, bytes):
            return ros_messages.sound(reading, self._form.channels)
        rows: NDArray[np.float32]
        rows, rate_hz = reading
        if (rate_hz, rows.shape[1]) != (self._form.rate_hz, self._form.channels):
            raise BadData(f"sound of {rate_hz:g} Hz and {rows.shape[1]} channels; the first is other")
        return rows

    def _begin_ns(self, t_ns: int, stamp: Stamp, rows: NDArray[np.float32]) -> int:
        return t_ns if stamp.stamp_ns else t_ns - round(len(rows) * 1e9 / self._form.rate_hz)


class SampleTopic(Topic):
    """Samples in our own schema, as an agent writes those that no other schema can hold."""

    def __init__(self, name: str, probed: FirstMessages, clock: StampClock) -> None:
        """Raises BadData when none of the first samples can be used."""
        super().__init__(name, probed, clock)
        modality, sample = probed.first()
        form = FORMS[modality]
        self._modality = modality
        rate_hz = sample.rate_hz or self._rate_hz() or 1.0
        self.sensor = LoggedSensor(modality, rate_hz, form.count_scale, form.count_offset)
        shape = sample.data.shape
        self.options = {"width": shape[1], "height": shape[0]} if form.image_like else {}
        if modality == "audio":
            self.options = {"channels": shape[1]}
        if modality == "imu":
            check_inertial(sample.data.tolist())

    def _samples(self, message: Any, t_ns: int, stamp: Stamp) -> list[Sample]:  # noqa: ARG002  as Topic has it
        modality, sample = foxglove_messages.sample(message)
        if modality != self._modality:
            raise BadData(f"a sample of {modality}; the first is {self._modality}")
        return [replace(sample, t_ns=t_ns)]


def half_missing(readings: Sequence[ros_messages.Inertial]) -> str:
    """Return what the messages of an inertial unit do not measure, in words; empty if nothing.

    Drivers that have two topics for a unit fill the other half with zeros, and do not always say so. No unit measures
    an acceleration of exactly zero; a rotation of exactly zero may be that of a simulated robot at rest.
    """
    for what, halves in (
        ("linear acceleration", [reading.accel for reading in readings]),
        ("angular velocity", [reading.gyro for reading in readings]),
    ):
        if not any(half is not None for half in halves):
            return f"no {what}"
        if what == "linear acceleration" and not any(any(half) for half in halves if half):
            return f"its {what} is exactly 0: it does not measure it, and no topic beside it does"
    return ""


def audio_format(info: Any) -> AudioFormat:
    """Return the format that an AudioInfo states for the topic beside it. Raises BadData unless it is plain 16-bit."""
    if info.coding_format.lower() not in ("wave", "wav", "pcm", "raw", "") or info.sample_format.upper() != "S16LE":
        raise BadData(f"sound as {info.coding_format} {info.sample_format}; only wave S16LE can be imported")
    if not (info.sample_rate and info.channels):
        raise BadData(f"sound of {info.sample_rate} Hz and {info.channels} channels")
    return AudioFormat(info.sample_rate, info.channels)
