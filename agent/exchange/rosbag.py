"""A ROS 2 bag (MCAP or SQLite) as a log, through the package `rosbags`.

Stamps in the messages' heads are capture times; a message without one counts as captured when it was recorded. ROS 2
numbers no messages, so what is missing is told by gaps in the stamps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

from agent.exchange.inside import check_entries
from agent.exchange.log_file import ImportReport, facts_of_import, write_log
from agent.exchange.ros_topics import (
    AUDIO,
    AUDIO_INFO,
    COMPRESSED,
    IMAGE,
    IMU,
    MAPPED,
    STAMPED_AUDIO,
    AudioFormat,
    AudioTopic,
    ImuTopic,
    PictureTopic,
    Received,
    Topic,
    Wanted,
    audio_format,
)
from agent.log.format import LogError
from agent.log.reading import EXPANSION, FREE_BYTES
from common.printable import shortened
from drivers.driver import BadData, Sample

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

_BLOCK_BYTES = 2**20
PROBED = 200
"""Messages of a topic from whose stamps its rate is told."""
# As in https://github.com/ros-drivers/audio_common. Definitions that a bag brings along are not used: they become code.
_AUDIO_TYPES = {
    AUDIO: "uint8[] data",
    STAMPED_AUDIO: "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    AUDIO_INFO: "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format",
}


def import_bag(
    bag: Path, out: Path, topics: Mapping[str, Wanted] | None = None, audio: AudioFormat | None = None
) -> ImportReport:
    """Make a log of a bag: a folder with `metadata.yaml`, or one .mcap or .db3 file. Raises LogError and ConfigError.

    `topics` says which, and the sensors' names; by default all that can be mapped are taken, named after themselves.
    `audio` is used where the bag holds no AudioInfo beside the topic.
    """
    if bag.is_dir():
        check_entries(bag)
        for packed in sorted(bag.glob("*.zstd")):
            _check_expansion(packed)
    opened = _Bag(bag)
    try:
        sensors, skipped = _sensors(opened, topics or {}, audio)
        if not sensors:
            why = "; ".join(skipped) or "it is empty"
            raise LogError(f"{bag}: none of its topics can be imported: {why}")
        facts = facts_of_import(
            min(sensor.first_ns for sensor in sensors.values()),
            {sensor.name: (sensor.sensor, sensor.options) for sensor in sensors.values()},
            {},
            str(bag),
        )
        faults = {sensor.name: sensor.faults for sensor in sensors.values()}
        return ImportReport(write_log(out, facts, _samples(opened, sensors, skipped), faults), skipped)
    finally:
        opened.close()


def _check_expansion(path: Path) -> None:
    """Raise LogError for a packed file that becomes far more than it is: rosbags unpacks it whole, onto the disk."""
    try:
        most = FREE_BYTES + EXPANSION * path.stat().st_size
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            found = 0
            while block := reader.read(_BLOCK_BYTES):
                found += len(block)
                if found > most:
                    raise LogError(f"{path}: is more than {EXPANSION} times as long once unpacked; it is not imported")
    except zstandard.ZstdError as error:
        raise LogError(f"{path}: cannot be unpacked: {shortened(str(error))}") from None
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror}") from None


class Damaged(LogError):
    """A bag cannot be read on."""


class _Bag:
    """An open bag. All faults come out as LogError: there is little that damaged bytes do not make rosbags raise."""

    def __init__(self, path: Path) -> None:
        try:
            from rosbags.rosbag2 import Reader
            from rosbags.typesys import Stores, get_types_from_msg, get_typestore
        except ImportError as error:
            raise LogError(f"bags are read by rosbags: {error}; install it: pip install 'sensebind[ros]'") from None
        self.path = path
        self._types: Typestore = get_typestore(Stores.LATEST)
        for name, definition in _AUDIO_TYPES.items():
            self._types.register(get_types_from_msg(definition, name))
        self._reader: Reader | None = None
        try:
            reader = Reader(path)
            reader.open()
        except Exception as error:  # noqa: BLE001  see the class
            mend = "if its recording was cut off, mend it first with `ros2 bag reindex` or `mcap recover`"
            raise LogError(f"{path}: cannot be read as a ROS 2 bag: {_what(error)}; {mend}") from None
        self._reader = reader

    @property
    def connections(self) -> Sequence[Connection]:
        assert self._reader is not None
        return self._reader.connections

    def messages(self, connections: Sequence[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time of recording, data) in the order of recording. Raises Damaged."""
        assert self._reader is not None
        try:
            yield from self._reader.messages(connections)
        except Exception as error:  # noqa: BLE001  see the class
            raise Damaged(f"{self.path}: is damaged ({_what(error)}); the part before is imported") from None

    def decode(self, connection: Connection, data: bytes) -> Any:
        """Return the message as an object. Raises BadData."""
        try:
            return self._types.deserialize_cdr(data, connection.msgtype)
        except Exception as error:  # noqa: BLE001  see the class
            raise BadData(f"not a {connection.msgtype}: {_what(error)}") from None

    def close(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None


def _sensors(bag: _Bag, wanted: Mapping[str, Wanted], audio: AudioFormat | None) -> tuple[dict[str, Topic], list[str]]:
    """The topics to import, by their names, and one line for each that is not. Raises LogError."""
    by_topic = {
        topic: list(connections)
        for topic, connections in groupby(sorted(bag.connections, key=lambda c: c.topic), key=lambda c: c.topic)
    }
    for topic in wanted:
        if topic not in by_topic:
            raise LogError(f"{bag.path}: has no topic {topic!r}; its topics are: {', '.join(by_topic) or 'none'}")
    found: dict[str, Topic] = {}
    skipped = []
    for topic, connections in by_topic.items():
        what = f"{topic} ({connections[0].msgtype}, {sum(c.msgcount for c in connections)} messages)"
        try:
            if wanted and topic not in wanted:
                raise BadData("not asked for")
            if not wanted and (raw := _also_raw(topic, by_topic)):
                raise BadData(f"the same pictures as {raw}")
            name = wanted[topic].name if topic in wanted else _name_of(topic, {t.name for t in found.values()})
            found[topic] = _topic(bag, name, connections, by_topic, wanted.get(topic), audio)
        except BadData as error:
            if topic in wanted:
                raise LogError(f"{bag.path}: {what} cannot be imported: {error}") from None
            skipped.append(f"{what}: {error}")
    return found, skipped


def _topic(
    bag: _Bag,
    name: str,
    connections: Sequence[Connection],
    by_topic: Mapping[str, Sequence[Connection]],
    wanted: Wanted | None,
    audio: AudioFormat | None,
) -> Topic:
    """Raises BadData when a topic cannot become a sensor."""
    kind = connections[0].msgtype
    if kind not in MAPPED:
        raise BadData("no sensor's samples")
    first = _first(bag, connections)
    if not first:
        raise BadData("no message that can be read")
    if kind in (IMAGE, COMPRESSED):
        return PictureTopic(name, first, kind, wanted.modality if wanted else None)
    if kind == IMU:
        return ImuTopic(name, first)
    info = by_topic.get(f"{connections[0].topic.rpartition('/')[0]}/audio_info", [])
    told = _first(bag, [connection for connection in info if connection.msgtype == AUDIO_INFO], 1)
    form = audio_format(told[0].message) if told else audio
    if form is None:
        raise BadData("its rate is not in the bag; add rate and channels, such as --audio 16000x1")
    return AudioTopic(name, first, kind, form)


def _first(bag: _Bag, connections: Sequence[Connection], count: int = PROBED) -> list[Received]:
    """The first messages of a topic; but for the first, only their stamps are kept."""
    found: list[Received] = []
    if not connections:
        return found
    try:
        for connection, received_ns, data in islice(bag.messages(connections), count):
            try:
                received = Received(bag.decode(connection, data), received_ns)
            except BadData:
                continue
            found.append(received if not found else Received(None, received.t_ns))
    except Damaged:
        return found  # said when all is read
    return found


def _samples(bag: _Bag, topics: Mapping[str, Topic], skipped: list[str]) -> Iterator[tuple[str, Sample]]:
    """All samples in the order of recording. Where the bag is damaged they end, which is added to `skipped`."""
    connections = [connection for connection in bag.connections if connection.topic in topics]
    try:
        for connection, received_ns, data in bag.messages(connections):
            topic = topics[connection.topic]
            try:
                received = Received(bag.decode(connection, data), received_ns)
            except BadData:
                topic.faults["messages that cannot be read"] += 1
                continue
            yield from ((topic.name, sample) for sample in topic.samples(received))
    except Damaged as damage:
        skipped.append(str(damage))
    for topic in topics.values():
        yield from ((topic.name, sample) for sample in topic.flush())


def _also_raw(topic: str, by_topic: Mapping[str, Sequence[Connection]]) -> str:
    """The topic of which this is the compressed form, when the bag holds both."""
    raw, _, transport = topic.rpartition("/")
    has_raw = raw in by_topic and by_topic[raw][0].msgtype == IMAGE
    return raw if transport in ("compressed", "compressedDepth") and has_raw else ""


def _what(error: Exception) -> str:
    return shortened(" ".join(str(error).split()), 200) or type(error).__name__


def _name_of(topic: str, taken: set[str]) -> str:
    """A sensor's name after its topic."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", topic.strip("/"))[:60] or "topic"
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique
