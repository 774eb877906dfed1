"""Requests to the model's process and its answers, as parts of a message.

A request is a pickle whose arrays lie beside it, one part each. An answer is JSON with its arrays beside it: the agent
unpickles nothing that another process wrote.
"""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from agent.clock import RunClock
from agent.config.settings import ModelSettings
from agent.embedding.budget import Budget
from agent.embedding.model import Embedded, NotFinite
from agent.embedding.pipe import Bytes
from agent.embedding.requests import Request
from agent.vectors import Vectors
from agent.windows.window import Tick
from common.errors import UserFault
from drivers.driver import Modality

OURS = ("agent", "common", "models")
"""Packages whose errors are raised here as what they were there."""

Parts = list[bytes | memoryview]
Trouble = Literal["", "unusable", "not finite", "failed", "user", "fatal"]


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """Order to the model's process: weights to load, and the pipe that requests come through."""

    settings: ModelSettings
    modalities: tuple[Modality, ...]
    clock: RunClock
    """That both processes have."""
    pipe_fds: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Embed:
    """Ticks to be embedded within a budget."""

    ticks: Sequence[Tick]
    budget: Budget | None


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A request and the time at which it was sent."""

    asked: Embed | Request
    sent_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Result of a request: a value and arrays, or trouble and a line about it."""

    value: Any = None
    """Of what JSON can say."""
    arrays: Sequence[Vectors] = ()
    """float32 each."""
    trouble: Trouble = ""
    """"failed": the model raised an error; "fatal": and its process ends; "user": a UserFault, named by `value`."""
    message: str = ""
    trace: str = ""
    """Where it was raised, for the agent's log."""
    faults: Sequence[tuple[str, int, str]] = field(default=())
    """What was swallowed on the way: place, how often, the first of the place."""


def pack_request(sent: Sent) -> Parts:
    """Raises what pickle does for what it cannot take."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(sent, protocol=5, buffer_callback=arrays.append)
    return [head, *(array.raw() for array in arrays)]


def unpack_request(parts: Sequence[Bytes]) -> Sent:
    """The request; its arrays are the parts themselves."""
    sent: Sent = pickle.loads(parts[0].data, buffers=parts[1:])
    return sent


def pack_answer(answer: Answer) -> Parts:
    """As `unpack_answer` takes it."""
    head = {
        "value": answer.value,
        "shapes": [array.shape for array in answer.arrays],
        "trouble": answer.trouble,
        "message": answer.message,
        "trace": answer.trace,
        "faults": list(answer.faults),
    }
    arrays = [np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint8).data for array in answer.arrays]
    return [json.dumps(head).encode(), *arrays]


def unpack_answer(parts: Sequence[Bytes]) -> Answer:
    """Raises ValueError, KeyError or TypeError for what is no answer."""
    head = json.loads(parts[0].tobytes())
    shapes = head["shapes"]
    arrays = [data.view(np.float32).reshape(shape) for data, shape in zip(parts[1:], shapes, strict=True)]
    for array in arrays:
        array.flags.writeable = False
    faults = [(str(place), int(count), str(first)) for place, count, first in head["faults"]]
    return Answer(head["value"], arrays, head["trouble"], head["message"], head["trace"], faults)


def embedded_answer(results: Sequence[Embedded]) -> Answer:
    """The answer to `embed`."""
    arrays: list[Vectors] = []
    values = []
    for one in results:
        arrays += [*one.vectors.values(), *one.patches.values()]
        if one.fused is not None:
            arrays.append(one.fused)
        value = {
            "vectors": list(one.vectors),
            "patches": list(one.patches),
            "fused": one.fused is not None,
            "inference_ms": one.inference_ms,
            "missing": one.missing,
            "costs_ms": dict(one.costs_ms),
            "declined": sorted(one.declined),
        }
        values.append(value)
    return Answer(values, arrays)


def embedded_of(answer: Answer, ticks: Sequence[Tick]) -> list[Embedded]:
    """The results of these ticks. Raises ValueError, KeyError, StopIteration or TypeError for any other answer."""
    arrays = iter(answer.arrays)
    return [_embedded(value, tick, arrays) for value, tick in zip(answer.value, ticks, strict=True)]


def _embedded(value: Mapping[str, Any], tick: Tick, arrays: Any) -> Embedded:
    vectors = {sensor: next(arrays) for sensor in value["vectors"]}
    patches = {sensor: next(arrays) for sensor in value["patches"]}
    fused = next(arrays) if value["fused"] else None
    inference_ms, missing, costs_ms = value["inference_ms"], value["missing"], value["costs_ms"]
    return Embedded(tick, vectors, patches, fused, inference_ms, missing, costs_ms, frozenset(value["declined"]))


class _ThereRaised(Exception):
    """The traceback of an error in the model's process, to be logged as the cause of the one here."""


def raised(answer: Answer) -> Exception:
    """The error that an answer tells of."""
    match answer.trouble:
        case "user":
            module, name = answer.value
            return _user_fault(module, name, answer.message)
        case "not finite":
            return NotFinite(answer.message)
        case "unusable":
            return ValueError(answer.message)
    error = RuntimeError(answer.message)
    error.__cause__ = _ThereRaised(f"in the model's process:\n{answer.trace}")
    return error


def _user_fault(module: str, name: str, message: str) -> Exception:
    """Made here as it was there; importing its module may take seconds, which an agent that ends with it can afford."""
    if module.partition(".")[0] in OURS:
        kind = getattr(importlib.import_module(module), name, None)
        if isinstance(kind, type) and issubclass(kind, UserFault):
            return kind(message)
    return UserFault(message)
