"""True if every number in a message is finite. Where to look follows from the descriptors, once a kind of message."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from agent.scores import table_values
from agent.vectors import heat_map_of, vector_of
from protos import perception_pb2 as pb

Check = Callable[[Any], str]
"""Names the first field of a message that holds a NaN or infinity, by its path; empty without one."""

_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_PACKED: Mapping[Descriptor, tuple[str, Callable[[Any], NDArray[Any]]]] = {
    pb.Vector.DESCRIPTOR: ("data", vector_of),
    pb.HeatMap.DESCRIPTOR: ("data", heat_map_of),
    pb.ScoreTable.DESCRIPTOR: ("values", lambda table: table_values(table)[1]),
}
"""Messages with numbers in a field of bytes."""


def non_finite(message: Message) -> str:
    """Name the first field that holds a NaN or infinity, vectors, scores and heat maps included; empty without one."""
    check = _check_of(message.DESCRIPTOR)
    return check(message) if check else ""


@cache
def _check_of(descriptor: Descriptor) -> Check | None:
    """Fields to check in messages of a kind; None if none of them could be NaN."""
    if descriptor.GetOptions().map_entry:
        return None  # counts by reason
    floats: list[str] = []
    checks: list[tuple[str, bool, Check]] = []
    for field in descriptor.fields:
        if field.cpp_type in _FLOATS and not field.is_repeated:
            floats.append(field.name)
        elif field.cpp_type in _FLOATS:
            checks.append((field.name, True, _check_number))
        elif field.message_type and (inner := _check_of(field.message_type)):
            checks.append((field.name, field.is_repeated, inner))
    packed, numbers = _PACKED.get(descriptor, ("", None))
    if not (floats or checks or numbers):
        return None

    def check(message: Any) -> str:
        if numbers and not np.isfinite(numbers(message)).all():
            return packed
        for name in floats:
            if not math.isfinite(getattr(message, name)):
                return name
        for name, repeated, inner in checks:
            if not repeated and not message.HasField(name):
                continue
            value = getattr(message, name)
            for part in value if repeated else (value,):
                if found := inner(part):
                    return f"{name}.{found}".rstrip(".")
        return ""

    return check


def _check_number(number: float) -> str:
    return "" if math.isfinite(number) else "."
