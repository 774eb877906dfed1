"""Messages of Foxglove's schemas, and our own samples, in MCAP files of other programs, as protobuf or as JSON. Pure.

Sources: https://docs.foxglove.dev/docs/visualization/message-schemas, https://protobuf.dev/programming-guides/json.
Pictures have the fields of ROS pictures: `ros_messages` reads both.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from agent.log import messages
from common.printable import shortened
from drivers import codec
from drivers.driver import BadData, Modality, Sample
from drivers.forms import check_form

KINDS = (messages.IMAGE_SCHEMA, messages.RAW_IMAGE_SCHEMA, messages.AUDIO_SCHEMA, messages.SAMPLE_SCHEMA)
"""Names of the schemas that become samples."""
ENCODINGS = ("protobuf", "json")
_LATEST_S = 253_402_300_800
"""The year 10,000, at which protobuf's times end."""


def decode(kind: str, encoding: str, data: bytes) -> Message:
    """Return a message of one of KINDS. Raises BadData."""
    if encoding == "protobuf":
        return messages.parse(kind, data)
    try:
        tree = json.loads(data)
        if not isinstance(tree, dict):
            raise ValueError(f"{shortened(str(tree))} is not an object")
        if isinstance(tree.get("timestamp"), dict):
            tree["timestamp"] = _as_text(tree["timestamp"])
        return json_format.ParseDict(tree, messages.parse(kind, b""), ignore_unknown_fields=True)
    except (ValueError, RecursionError, TypeError, json_format.ParseError, DecodeError) as error:
        raise BadData(f"not a {kind} in JSON: {shortened(str(error))}") from None


def stamp_ns(message: Any) -> int:
    """Capture time that a message states; 0 without one."""
    if message.DESCRIPTOR.full_name == messages.SAMPLE_SCHEMA:
        return int(message.t_ns)
    return int(message.timestamp.seconds * 1_000_000_000 + message.timestamp.nanos)


def sample(message: Any) -> tuple[Modality, Sample]:
    """The sample of one of our messages. Raises BadData."""
    modality, found = codec.decode_sample(message)
    check_form(found, modality)
    return modality, found


def _as_text(stamp: dict[str, Any]) -> str:
    """Foxglove's JSON schemas have times as {"sec", "nsec"}, protobuf's JSON has a text. Raises ValueError."""
    seconds, nanoseconds = stamp.get("sec", 0), stamp.get("nsec", stamp.get("nanosec", 0))
    if not (isinstance(seconds, int) and isinstance(nanoseconds, int) and 0 <= nanoseconds < 1_000_000_000):
        raise ValueError(f"the time {stamp}")
    if not 0 <= seconds < _LATEST_S:
        raise ValueError(f"the time {stamp}")
    return f"{np.datetime64(seconds, 's')}.{nanoseconds:09d}Z"
