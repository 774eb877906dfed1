"""A bag as a log: ROS 2 messages (MCAP or SQLite), or Foxglove's messages in MCAP.

Stamps in the messages are capture times, judged by the times of recording; a message without one counts as captured
when it was recorded. Bags number no messages, so what is missing is told by gaps in the stamps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.exchange.bag_files import AUDIO_INFO, Bag, BagTopic, open_bag
from agent.exchange.bag_topics import (
    IMAGE,
    IMU,
    PICTURES,
    READ,
    AudioFormat,
    AudioTopic,
    FirstMessages,
    ImuTopic,
    PictureTopic,
    Received,
    SampleTopic,
    Topic,
    Wanted,
    audio_format,
)
from agent.exchange.log_file import ImportReport, facts_of_import, write_log
from agent.exchange.split_imu import SplitImu, pairs_of
from agent.exchange.stamp_clock import StampClock, clocks_of
from agent.log import messages
from agent.log.format import RAW_TOPIC, SENSORS_TOPIC, LogError
from common.progress import Progress, untold
from drivers.driver import BadData, Sample

PROBED = 200
"""Messages of a topic from which its rate, its form and its clock are told."""


def import_bag(
    path: Path,
    out: Path,
    topics: Mapping[str, Wanted] | None = None,
    audio: AudioFormat | None = None,
    *,
    progress: Progress = untold,
) -> ImportReport:
    """Make a log of a bag: a folder, or one .mcap or .db3 file. Raises LogError and ConfigError.

    `topics` says which, and the sensors' names; by default all that can be mapped are taken, named after themselves.
    `audio` is used where the bag holds no AudioInfo beside the topic. What is cut off or damaged gives what stands
    before. `progress` is told messages.
    """
    bag = open_bag(path)
    try:
        found, skipped = _topics(bag, topics or {}, audio)
        if not found:
            why = "; ".join([*skipped, *bag.damages]) or "it is empty"
            raise LogError(f"{path}: none of its topics can be imported: {why}")
        sensors = {topic.name: topic for topic in found.values()}
        facts = facts_of_import(
            min(sensor.first_ns for sensor in sensors.values()),
            {name: (sensor.sensor, sensor.options) for name, sensor in sensors.items()},
            {},
            str(path),
        )
        faults = {name: sensor.faults for name, sensor in sensors.items()}
        written = write_log(out, facts, _samples(bag, found, progress), faults)
        notes = [f"{name}: {note}" for name, sensor in sensors.items() for note in sensor.notes]
        return ImportReport(written, [*skipped, *bag.damages], notes)
    finally:
        bag.close()


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known of a bag before it is imported."""

    bag: Bag
    wanted: Mapping[str, Wanted]
    audio: AudioFormat | None
    probed: Mapping[str, FirstMessages]
    clocks: Mapping[str, StampClock]


def _topics(bag: Bag, wanted: Mapping[str, Wanted], audio: AudioFormat | None) -> tuple[dict[str, Topic], list[str]]:
    """The topics to import, by their names, and one line for each that is not. Raises LogError."""
    for name in wanted:
        if name not in bag.topics:
            raise LogError(f"{bag.path}: has no topic {name!r}; its topics are: {', '.join(bag.topics) or 'none'}")
    probed = _probe(bag, {name for name in bag.topics if not wanted or name in wanted})
    look = _Look(bag, wanted, audio, probed, clocks_of({name: found.stamps for name, found in probed.items()}))
    pairs = pairs_of({name: found.readings for name, found in probed.items() if bag.topics[name].kind == IMU})
    found: dict[str, Topic] = {}
    skipped = []
    for name, topic in bag.topics.items():
        try:
            if name not in found:
                found |= _imported(look, topic, pairs, {other.name for other in found.values()})
        except BadData as error:
            what = f"{name} ({topic.kind}, {topic.count} messages)"
            if name in wanted:
                raise LogError(f"{bag.path}: {what} cannot be imported: {error}") from None
            skipped.append(f"{what}: {error}")
    return found, skipped


def _imported(look: _Look, topic: BagTopic, pairs: Mapping[str, str], taken: set[str]) -> dict[str, Topic]:
    """The sensor of a topic, and of the other one that it has, if any. Raises BadData."""
    if look.wanted and topic.name not in look.wanted:
        raise BadData("not asked for")
    if topic.kind not in READ:
        raise BadData("no sensor's samples")
    if not look.wanted and (raw := _also_raw(topic.name, look.bag)):
        raise BadData(f"the same pictures as {raw}")
    wanted = look.wanted.get(topic.name)
    name = wanted.name if wanted else _name_of(topic.name, taken)
    other = pairs.get(topic.name)
    if other is not None:
        accel, gyro = sorted((topic.name, other), key=lambda half: half in pairs.values())
        halves = {half: (look.probed[half], look.clocks[half]) for half in (accel, gyro)}
        if not wanted:
            name = _name_of(SplitImu.common_name(accel, gyro), taken)
        return dict.fromkeys(halves, SplitImu(name, halves, accel, gyro))
    return {topic.name: _topic(look, topic, name)}


def _topic(look: _Look, topic: BagTopic, name: str) -> Topic:
    """Raises BadData when a topic cannot become a sensor."""
    probed, clock = look.probed[topic.name], look.clocks[topic.name]
    if not probed.stamps:
        raise BadData("no message that can be read")
    if topic.kind in PICTURES:
        wanted = look.wanted.get(topic.name)
        return PictureTopic(name, probed, clock, topic.kind, wanted.modality if wanted else None)
    if topic.kind == IMU:
        return ImuTopic(name, probed, clock)
    if topic.kind == messages.SAMPLE_SCHEMA:
        return SampleTopic(name, probed, clock)
    if topic.kind == messages.AUDIO_SCHEMA:
        return AudioTopic(name, probed, clock, topic.kind)
    form = _audio_format(look, topic.name)
    if form is None:
        raise BadData("its rate is not in the bag; add rate and channels, such as --audio 16000x1")
    return AudioTopic(name, probed, clock, topic.kind, form)


def _audio_format(look: _Look, name: str) -> AudioFormat | None:
    """The format of a topic without one of its own. Raises BadData for one that cannot be read."""
    info = look.bag.topics.get(f"{name.rpartition('/')[0]}/audio_info")
    if info is None or info.kind != AUDIO_INFO:
        return look.audio
    for _, _, data in look.bag.messages([info.name]):
        return audio_format(look.bag.decode(info.name, data))
    return look.audio


def _probe(bag: Bag, names: set[str]) -> dict[str, FirstMessages]:
    """The first messages of topics that can be mapped."""
    found = {name: FirstMessages() for name in names if bag.topics[name].kind in READ}
    waiting = set(found)
    if not waiting:
        return found
    for name, received_ns, data in bag.messages(waiting):
        if name not in waiting:
            continue
        probed = found[name]
        try:
            probed.add(bag.topics[name].kind, Received(bag.decode(name, data), received_ns))
        except BadData as error:
            probed.fault = probed.fault or str(error)
        if len(probed.stamps) >= PROBED:
            waiting.discard(name)
            if not waiting:
                break
    return found


def _samples(bag: Bag, topics: Mapping[str, Topic], progress: Progress) -> Iterator[tuple[str, Sample]]:
    """All samples in the order of recording."""
    total = sum(bag.topics[name].count for name in topics)
    for number, (name, received_ns, data) in enumerate(bag.messages(topics), start=1):
        progress("messages", number, total)
        topic = topics[name]
        try:
            received = Received(bag.decode(name, data), received_ns, name)
        except BadData:
            topic.faults["messages that cannot be read"] += 1
            continue
        yield from ((topic.name, sample) for sample in topic.samples(received))
    for topic in dict.fromkeys(topics.values()):
        yield from ((topic.name, sample) for sample in topic.flush())


def _also_raw(topic: str, bag: Bag) -> str:
    """The topic of which this is the compressed form, when the bag holds both."""
    raw, _, transport = topic.rpartition("/")
    has_raw = raw in bag.topics and bag.topics[raw].kind == IMAGE
    return raw if transport in ("compressed", "compressedDepth") and has_raw else ""


def _name_of(topic: str, taken: set[str]) -> str:
    """A sensor's name after its topic; of a topic as a log of ours has it, the sensor's own."""
    own = topic.removeprefix(SENSORS_TOPIC).removeprefix(RAW_TOPIC)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", own.strip("/"))[:60] or "topic"
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique
