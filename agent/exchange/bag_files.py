"""Files of bags: topics and messages of MCAP files, read by our own code, and of what `rosbags` reads.

MCAP files are read without trust in their index, so that one which was cut off gives what stands in it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard
from mcap.opcode import Opcode
from mcap.records import Channel, Schema

from agent.exchange import foxglove_messages
from agent.exchange.inside import check_entries, entry
from agent.log.format import LogError
from agent.log.ordering import by_time
from agent.log.reading import MESSAGE_HEAD, Record, chunk_contents, frames, open_log, parse
from agent.log.unpacking import EXPANSION, FREE_BYTES, Allowance, Body, Damaged, NotMcap, PackedChunk
from common.printable import shortened
from common.yaml_file import YamlError, read_yaml
from drivers.driver import BadData

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

METADATA = "metadata.yaml"
AUDIO, STAMPED_AUDIO = "audio_common_msgs/msg/AudioData", "audio_common_msgs/msg/AudioDataStamped"
AUDIO_INFO = "audio_common_msgs/msg/AudioInfo"

_BLOCK_BYTES = 2**20
_ROS_TYPE = re.compile(r"(\w+)/(?:msg/)?(\w+)")
# As in https://github.com/ros-drivers/audio_common. Definitions that a bag brings along are not used: they become code.
_AUDIO_TYPES = {
    AUDIO: "uint8[] data",
    STAMPED_AUDIO: "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    AUDIO_INFO: "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format",
}


@dataclass(frozen=True, slots=True)
class BagTopic:
    """A topic of a bag."""

    name: str
    kind: str
    """Type of its messages, such as sensor_msgs/msg/Imu or foxglove.RawImage."""
    encoding: str
    """Encoding of its messages: cdr, protobuf, json, or any other."""
    count: int


class Bag(ABC):
    """An open bag."""

    path: Path
    topics: dict[str, BagTopic]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damages: dict[str, None] = {}
        """Places that are cut off or damaged, one line each."""
        self._types: Typestore | None = None

    @abstractmethod
    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, time of recording, data) in the order of recording; damage ends a file, and is noted."""

    def decode(self, topic: str, data: bytes) -> Any:
        """Return the message as an object. Raises BadData, and LogError where rosbags is not installed."""
        found = self.topics[topic]
        if found.encoding != "cdr":
            return foxglove_messages.decode(found.kind, found.encoding, data)
        if self._types is None:
            self._types = _ros_types()
        try:
            return self._types.deserialize_cdr(data, found.kind)
        except Exception as error:  # noqa: BLE001  there is little that damaged bytes do not make rosbags raise
            raise BadData(f"not a {found.kind}: {_what(error)}") from None

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Close the files; may be called again."""


def open_bag(path: Path) -> Bag:
    """Open a bag: a folder, or one .mcap or .db3 file. Raises LogError."""
    if not path.is_dir():
        return McapBag(path, [path]) if path.suffix == ".mcap" else RosBag(path)
    check_entries(path)
    for packed in sorted(path.glob("*.zstd")):
        _check_expansion(packed)
    files = _mcap_files(path)
    if files:
        return McapBag(path, files)
    databases = sorted(path.glob("*.db3"))
    # A recorder that lost power leaves no metadata.yaml.
    alone = not (path / METADATA).exists() and len(databases) == 1
    return RosBag(databases[0] if alone else path)


class McapBag(Bag):
    """One or several MCAP files, one after the other."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        """Read the files once, for topics and counts. Raises LogError for one that is not MCAP."""
        super().__init__(path)
        self._files = files
        counts: Counter[tuple[str, str, str]] = Counter()
        for file in files:
            counts += self._counted(file)
        self.topics = {}
        for (name, kind, encoding), count in sorted(counts.items()):
            other = self.topics.get(name)
            self.topics[name] = BagTopic(name, kind, encoding, count + (other.count if other else 0))

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, time of recording, data) in the order of recording; damage ends a file, and is noted."""
        for file in self._files:
            with open_log(file) as stream:
                try:
                    for given in by_time(stream):
                        topic = given.channel.topic
                        if topic in topics and _kind(given.schema, given.channel) == self.topics[topic].kind:
                            yield topic, given.message.log_time, given.message.data
                except Damaged as damage:
                    self._note(file, damage)

    def _counted(self, file: Path) -> Counter[tuple[str, str, str]]:
        """Messages of a file by topic, type and encoding. Raises LogError."""
        counts: Counter[int] = Counter()
        schemas, channels, allowance = {0: Schema(0, b"", "", "")}, dict[int, Channel](), Allowance()

        def take(offset: int, opcode: int, body: Body | memoryview) -> list[Record]:
            if opcode == Opcode.MESSAGE:
                if not isinstance(body, PackedChunk) and len(body) >= MESSAGE_HEAD.size:
                    counts[MESSAGE_HEAD.unpack_from(body)[0]] += 1
                return []
            for record in parse(offset, opcode, body):
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
            return []

        with open_log(file) as stream:
            try:
                for offset, opcode, body in frames(stream):
                    if opcode == Opcode.CHUNK:
                        list(chunk_contents(offset, body, allowance, take, messages=True))
                    else:
                        take(offset, opcode, body)
            except Damaged as damage:
                if isinstance(damage, NotMcap) and damage.offset == 0:
                    raise LogError(f"{file}: is not an MCAP file; give a bag, or a folder of media") from None
                self._note(file, damage)
        found: Counter[tuple[str, str, str]] = Counter()
        for number, count in counts.items():
            channel = channels.get(number)
            schema = schemas.get(channel.schema_id) if channel else None
            if channel and schema:
                found[channel.topic, _kind(schema, channel), channel.message_encoding] += count
        return found

    def _note(self, file: Path, damage: Damaged) -> None:
        self.damages[f"{file}: is {damage}; what stands before is imported"] = None


class RosBag(Bag):
    """A bag that rosbags reads: SQLite, and MCAP whose files or messages are compressed."""

    def __init__(self, path: Path) -> None:
        """Raises LogError."""
        super().__init__(path)
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise _not_installed(error) from None
        self._reader: Reader | None = None
        try:
            reader = Reader(path)
            reader.open()
        except Exception as error:  # noqa: BLE001  see `decode`
            mend = "if its recording was cut off, mend it first with `ros2 bag reindex`"
            raise LogError(f"{path}: cannot be read as a ROS 2 bag: {_what(error)}; {mend}") from None
        self._reader = reader
        counts = Counter({(c.topic, c.msgtype): 0 for c in reader.connections})
        for connection in reader.connections:
            counts[connection.topic, connection.msgtype] += connection.msgcount
        self.topics = {name: BagTopic(name, kind, "cdr", count) for (name, kind), count in sorted(counts.items())}

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, time of recording, data) in the order of recording; damage ends a file, and is noted."""
        assert self._reader is not None
        wanted = [c for c in self._reader.connections if c.topic in topics and c.msgtype == self.topics[c.topic].kind]
        if not wanted:
            return
        try:
            for connection, received_ns, data in self._reader.messages(wanted):
                yield connection.topic, received_ns, data
        except Exception as error:  # noqa: BLE001  see `decode`
            self.damages[f"{self.path}: is damaged ({_what(error)}); the part before is imported"] = None

    def close(self) -> None:
        """Close the files; may be called again."""
        if self._reader:
            self._reader.close()
            self._reader = None


def _kind(schema: Schema, channel: Channel) -> str:
    """The type of a channel's messages; that of ROS 2 in its long form."""
    match = _ROS_TYPE.fullmatch(schema.name) if channel.message_encoding == "cdr" else None
    return f"{match[1]}/msg/{match[2]}" if match else schema.name or "no schema"


def _ros_types() -> Typestore:
    """Raises LogError."""
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise _not_installed(error) from None
    types = get_typestore(Stores.LATEST)
    for name, definition in _AUDIO_TYPES.items():
        types.register(get_types_from_msg(definition, name))
    return types


def _not_installed(error: ImportError) -> LogError:
    return LogError(f"ROS 2 messages are read by rosbags: {error}; install it: pip install 'sensebind[ros]'")


def _mcap_files(folder: Path) -> list[Path]:
    """The MCAP files of a bag in the order of their recording; none when they or their messages are compressed."""
    found = sorted(folder.glob("*.mcap"), key=_by_number)
    described = entry(folder, METADATA)
    if described is None:
        return found
    try:
        facts = read_yaml(described).get("rosbag2_bagfile_information", {})
        if facts.get("compression_format") or facts.get("compression_mode", "").lower() not in ("", "none"):
            return []
        names = [str(name) for name in facts.get("relative_file_paths", [])]
    except (YamlError, AttributeError, TypeError):
        return found
    listed = [path for name in names if name.endswith(".mcap") and (path := entry(folder, name)) is not None]
    return listed or found


def _by_number(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


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


def _what(error: Exception) -> str:
    return shortened(" ".join(str(error).split()), 200) or type(error).__name__
