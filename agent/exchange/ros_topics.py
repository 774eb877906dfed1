"""Topics of a ROS 2 bag on their way to sensors' samples: what one message after the other becomes. Knows no bag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.exchange import ros_messages
from agent.exchange.row_blocks import LONGEST_GAP_S, RowBlocks, rate_of
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
AUDIO, STAMPED_AUDIO = "audio_common_msgs/msg/AudioData", "audio_common_msgs/msg/AudioDataStamped"
AUDIO_INFO = "audio_common_msgs/msg/AudioInfo"

_PICTURES: dict[str, Callable[[Any], ros_messages.Picture]] = {
    IMAGE: ros_messages.picture,
    COMPRESSED: ros_messages.compressed_picture,
}
MAPPED = (*_PICTURES, IMU, AUDIO, STAMPED_AUDIO)
"""The types that become samples."""


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

    @property
    def stamp_ns(self) -> int:
        """Stamp of the header; 0 without one."""
        stamp = getattr(getattr(self.message, "header", None), "stamp", None)
        return 0 if stamp is None else int(stamp.sec * 1_000_000_000 + stamp.nanosec)

    @property
    def t_ns(self) -> int:
        """Stamp of the header, or else the time of recording."""
        return self.stamp_ns or self.received_ns


class Topic(ABC):
    """A topic of a bag and its sensor; turns messages into samples."""

    sensor: LoggedSensor
    options: Mapping[str, Any]
    """Keys of the configuration beside modality and rate: size, channels."""

    def __init__(self, name: str, first: Sequence[Received]) -> None:
        """Make the topic of a sensor `name` from its first messages."""
        self.name = name
        self.first_ns = min(received.t_ns for received in first)
        self.faults: Counter[str] = Counter()

    def samples(self, received: Received) -> list[Sample]:
        """The samples that a message completes; one that cannot be used is counted."""
        try:
            samples = self._samples(received)
        except BadData as error:
            reason = f"messages with {shortened(str(error))}"
            self.faults[reason if reason in self.faults or len(self.faults) < MOST_FAULTS else OTHER_FAULTS] += 1
            return []
        if not received.stamp_ns:
            self.faults["messages without a stamp, placed at their recording time"] += 1
        return samples

    @abstractmethod
    def _samples(self, received: Received) -> list[Sample]: ...

    def flush(self) -> list[Sample]:
        """Return the samples that are left at the end."""
        return []


class PictureTopic(Topic):
    """Pictures of a camera; gaps between their stamps tell which are missing."""

    def __init__(self, name: str, first: Sequence[Received], kind: str, modality: Modality | None) -> None:
        """Raises BadData when the first picture cannot be used."""
        super().__init__(name, first)
        self._decode = _PICTURES[kind]
        pixels = self._decode(first[0].message)
        self._modality: Modality = modality or ("vision" if pixels.ndim == 3 else "depth")
        ros_messages.data_of(pixels, self._modality)
        rate_hz = rate_of([received.t_ns for received in first]) or 1.0
        form = FORMS[self._modality]
        self.sensor = LoggedSensor(self._modality, rate_hz, form.count_scale, form.count_offset)
        self.options = {"width": pixels.shape[1], "height": pixels.shape[0]}
        self._last_ns: int | None = None

    def _samples(self, received: Received) -> list[Sample]:
        data = ros_messages.data_of(self._decode(received.message), self._modality)
        apart_ns = 0 if self._last_ns is None else received.t_ns - self._last_ns
        missing = 0 if apart_ns > LONGEST_GAP_S * 1e9 else images_missing(apart_ns, 1 / self.sensor.rate_hz)
        self._last_ns = received.t_ns
        return [Sample(received.t_ns, data, lost=missing)]


class ImuTopic(Topic):
    """Single inertial rows, put together to blocks."""

    def __init__(self, name: str, first: Sequence[Received]) -> None:
        """Raises BadData when the first row cannot be used, or no rate can be told."""
        super().__init__(name, first)
        ros_messages.inertial_row(first[0].message)
        rate_hz = rate_of([received.t_ns for received in first])
        if rate_hz is None:
            raise BadData("its rate cannot be derived from its stamps")
        self.sensor = LoggedSensor("imu", rate_hz)
        self.options = {}
        self._blocks = RowBlocks(rate_hz)

    def _samples(self, received: Received) -> list[Sample]:
        return self._blocks.add(received.t_ns, ros_messages.inertial_row(received.message))

    def flush(self) -> list[Sample]:
        """Return the last block."""
        return self._blocks.flush()


class AudioTopic(Topic):
    """Blocks of sound; a stamp is of the first row, a time of recording of the last."""

    def __init__(self, name: str, first: Sequence[Received], kind: str, form: AudioFormat) -> None:
        """Raises BadData when the first block cannot be used."""
        self._stamped, self._form = kind == STAMPED_AUDIO, form
        self._timeline = RowTimeline(form.rate_hz)
        super().__init__(name, first)
        self.first_ns = self._begin_ns(first[0], len(self._rows(first[0])))
        self.sensor = LoggedSensor("audio", float(form.rate_hz))
        self.options = {"channels": form.channels}

    def _samples(self, received: Received) -> list[Sample]:
        data = self._rows(received)
        t_ns = self._begin_ns(received, len(data))
        gap = self._timeline.gap(t_ns, len(data))
        if not 0 <= gap <= LONGEST_GAP_S * self._form.rate_hz:  # the stamps step
            self._timeline.restart()
            gap = 0
        self._timeline.take(t_ns, len(data), gap)
        return [Sample(t_ns, data, float(self._form.rate_hz), gap)]

    def _rows(self, received: Received) -> Any:
        return ros_messages.sound(received.message.audio if self._stamped else received.message, self._form.channels)

    def _begin_ns(self, received: Received, rows: int) -> int:
        return received.stamp_ns or received.received_ns - round(rows * 1e9 / self._form.rate_hz)


def audio_format(info: Any) -> AudioFormat:
    """Return the format that an AudioInfo states for the topic beside it. Raises BadData unless it is plain 16-bit."""
    if info.coding_format.lower() not in ("wave", "wav", "pcm", "raw", "") or info.sample_format.upper() != "S16LE":
        raise BadData(f"sound as {info.coding_format} {info.sample_format}; only wave S16LE can be imported")
    if not (info.sample_rate and info.channels):
        raise BadData(f"sound of {info.sample_rate} Hz and {info.channels} channels")
    return AudioFormat(info.sample_rate, info.channels)
