"""What mcap's own reader finds in a file, by the index: what any other program would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from mcap.reader import make_reader

from agent.log.viewers.topics import viewer_topic


def messages(path: Path, *, viewers: bool = False) -> list[tuple[str, int, int, bytes]]:
    """Topic, log time, number and content, in the order in which they stand; the statistics agree with them.

    Messages for viewers are left out, unless they are asked for.
    """
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        found = [(c.topic, m.log_time, m.sequence, m.data) for _, c, m in reader.iter_messages(log_time_order=False)]
        assert summary.statistics.message_count == len(found)
        assert summary.statistics.chunk_count == len(summary.chunk_indexes)
        return [message for message in found if viewers or not viewer_topic(message[0])]


def metadata(path: Path) -> dict[str, dict[str, str]]:
    """Metadata records, found by the index."""
    with path.open("rb") as stream:
        return {found.name: found.metadata for found in make_reader(stream).iter_metadata()}


def decoded(path: Path) -> list[tuple[str, int, Any]]:
    """Topic, log time and message in order of log time, by nothing but the schemas in the file, as viewers read it."""
    classes: dict[int, Any] = {}
    found = []
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            assert schema is not None
            assert (schema.encoding, channel.message_encoding) == ("protobuf", "protobuf")
            if schema.id not in classes:
                pool = DescriptorPool()
                for file in FileDescriptorSet.FromString(schema.data).file:
                    pool.Add(file)
                classes[schema.id] = GetMessageClass(pool.FindMessageTypeByName(schema.name))
            found.append((channel.topic, message.log_time, classes[schema.id].FromString(message.data)))
    return found
