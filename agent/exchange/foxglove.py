"""A recording with the messages for viewers, and a layout that shows them: for logs that were recorded without them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError
from mcap.records import Metadata

from agent.exchange.contents import chosen_sensors
from agent.exchange.new_folder import new_folder
from agent.log import messages
from agent.log.editing.copying import Copied, contents, order_of
from agent.log.editing.cutting import OtherMetadata
from agent.log.files import SUFFIX
from agent.log.format import FACTS_RECORD, LoggedSensor
from agent.log.reading import frames, open_log
from agent.log.timeline import LogFile, Timeline
from agent.log.unpacking import Damaged
from agent.log.viewers.layout import layout_of
from agent.log.viewers.messages import ViewerMessages
from agent.log.whole_file import whole_log
from agent.log.writing import Beside, LogWriter
from common import private_files
from drivers.driver import BadData, Sample
from drivers.forms import check_form
from protos import perception_pb2 as pb

LAYOUT_FILE = "layout.json"


@dataclass(slots=True)
class ViewedFile:
    """A file of the export."""

    name: str
    messages: int = 0
    """Samples and events."""
    for_viewers: int = 0


@dataclass(frozen=True, slots=True)
class ViewersReport:
    """Result of an export for viewers."""

    files: list[ViewedFile]
    unfinished: str
    """File of the recording that ended early; empty if none did."""


def export_for_viewers(log: Path, out: Path, sensors: Collection[str] = ()) -> ViewersReport:
    """Copy a recording into a new folder with all that viewers show of it, every IMU row included, and a layout.

    The files keep their names, samples, events and facts: each is a log as before. Messages for viewers that a file has
    already are made anew. Memory is bounded by a chunk. Raises LogError.
    """
    timeline = Timeline([log])
    chosen = chosen_sensors(timeline, sensors)
    viewers = ViewerMessages(replace(timeline.facts, sensors=chosen), None)
    files, unfinished = [], ""
    with new_folder(out) as folder:
        for file in timeline.files:
            name = file.path.name if file.path.suffix == SUFFIX else file.path.name + SUFFIX
            found = ViewedFile(name)
            files.append(found)
            with whole_log(folder / name, order_of([file.path])) as writer:
                try:
                    _copy(file, writer, chosen, viewers, found)
                except Damaged as damage:
                    unfinished = f"{file.path}: {damage}; the part before is exported"
        text = layout_of(replace(timeline.facts, sensors=chosen), viewers.texts)
        private_files.write(folder / LAYOUT_FILE, text.encode())
    return ViewersReport(files, unfinished)


def _copy(
    file: LogFile, writer: LogWriter, chosen: dict[str, LoggedSensor], viewers: ViewerMessages, found: ViewedFile
) -> None:
    """Raises Damaged at the place up to which the file is copied."""
    kept = {name: sensor for name, sensor in file.facts.sensors.items() if name in chosen}
    writer.add_metadata(FACTS_RECORD, replace(file.facts, sensors=kept).to_record())
    others = OtherMetadata(writer)
    with open_log(file.path) as stream:
        for item in contents(frames(stream)):
            if isinstance(item, Metadata):
                others.copy(item)
            elif item.viewer is None and item.is_of(kept, events=True):
                beside = _beside(item, kept, viewers)
                item.write(writer, beside)
                found.messages += 1
                found.for_viewers += len(beside)


def _beside(item: Copied, sensors: dict[str, LoggedSensor], viewers: ViewerMessages) -> tuple[Beside, ...]:
    """The messages beside another; none where that is not what it should be."""
    name, message = item.sensor, item.message

    def read() -> Sample:
        assert name is not None
        sample = messages.decode(item.channel.schema, sensors[name], message.log_time, message.data)
        check_form(sample, sensors[name].modality)
        return sample

    try:
        if name is not None:
            return viewers.of_sample(name, message.log_time, read)
        return viewers.of_event(pb.Event.FromString(message.data))
    except (BadData, DecodeError, ValueError):
        return ()
