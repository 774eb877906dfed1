"""A query: what the user asks to be told of, and when it counts as seen or heard.

Its fields are those of `pb.AddQueryRequest`, by the same names. Here alone stands what else is to be said of each: its
type, its default, its limits and its help. The configuration, the command line, the client, the server and reports take
them from here, so that another field is an edit of the proto, of this file, and of where it is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypedDict, cast, get_type_hints

from common.errors import UserFault
from drivers.codec import MODALITY_NAMES, MODALITY_VALUES
from drivers.driver import MODALITIES, Modality
from protos import perception_pb2 as pb

MAX_TEXT = 1000
"""Characters. CLIP reads 77 tokens, about 60 words, and drops the rest."""
MAX_SECONDS = 3600.0
LEAST_THRESHOLD = 1e-6
"""Softmax scores of what is not there come close to it; a lower one says nothing."""
OFF_RATIO = 0.6
"""`threshold_off` over `threshold_on` when only the latter is given."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class QueryError(UserFault, ValueError):
    """A query cannot be used. `field` names the field at fault; the message is one line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Query:
    """A text to watch for, and when to alert. Raises QueryError for a value that cannot work."""

    id: str = field(metadata={"help": "Id of the query, such as dog. Default: a new one."})
    text: str = field(metadata={"help": "Text to watch for, such as 'a dog barking'."})
    modalities: tuple[Modality, ...] = field(
        default=(),
        metadata={
            "help": "Modality to score: vision, audio, depth, thermal or imu; repeatable. Default: all.",
            "option": "--modality",
        },
    )
    """Empty: every one that is present."""
    threshold_on: float = field(
        default=0.9,
        metadata={
            "help": "Score at which an alert begins, above 0 and up to 1: a probability. Default: 0.9.",
            "option": "--threshold",
        },
    )
    """A probability where the weights have a calibration: the same in each modality."""
    threshold_off: float = field(
        default=cast("float", None),
        metadata={"help": "Score below which the alert ends. Default: 0.6 times --threshold."},
    )
    """None when it is made, and only then: OFF_RATIO of `threshold_on`."""
    min_duration_s: float = field(
        default=0.5, metadata={"help": "Seconds above the threshold before an alert begins. Default: 0.5."}
    )
    """Time above the threshold before the alert begins: two ticks of the default hop, so that one odd window does not
    alert.
    """
    cooldown_s: float = field(
        default=2.0, metadata={"help": "Seconds from the end of an alert to the next begin. Default: 2."}
    )
    """Time from an end to the next begin."""
    clip: bool = field(
        default=False, metadata={"help": "Save the samples around each alert as a small log in clips.folder."}
    )
    """Save the samples around the begin of its alerts."""
    force: bool = field(
        default=False, metadata={"help": "Ask even if the text hangs on words that the model was never trained on."}
    )

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise QueryError("id", f"{self.id[:80]!r} is not 1 to 64 letters, digits, '_', '.', ':' or '-'")
        if not self.text.strip():
            raise QueryError("text", "is empty; say in words what to watch for, for example 'a dog barking'")
        if len(self.text) > MAX_TEXT:
            raise QueryError("text", f"has {len(self.text)} characters; at most {MAX_TEXT} are allowed")
        if not self.text.isprintable():
            raise QueryError("text", "holds a line break or control character; write it on one line")
        if unknown := [m for m in self.modalities if m not in MODALITIES]:
            raise QueryError("modalities", f"{unknown[0]!r} is not one of {', '.join(MODALITIES)}")
        if len(set(self.modalities)) != len(self.modalities):
            raise QueryError("modalities", "names a modality twice")
        if not 0 < self.threshold_on <= 1:  # also false for nan
            raise QueryError("threshold_on", f"is {self.threshold_on}; it must be above 0 and at most 1")
        if self.threshold_on < LEAST_THRESHOLD:
            raise QueryError("threshold_on", f"is {self.threshold_on}; below {LEAST_THRESHOLD:g} it would always fire")
        if self.threshold_off is None:
            object.__setattr__(self, "threshold_off", OFF_RATIO * self.threshold_on)
        if not 0 < self.threshold_off <= self.threshold_on:
            raise QueryError(
                "threshold_off",
                f"is {self.threshold_off}; it must be above 0 and at most threshold_on {self.threshold_on}",
            )
        for name, seconds in self.tree().items():
            if name.endswith("_s") and not (math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS):
                raise QueryError(name, f"is {seconds}; it must be between 0 and {MAX_SECONDS:.0f}")

    @classmethod
    def of(cls, request: pb.AddQueryRequest, query_id: str) -> Self:
        """The query that a request asks for, under an id; what it leaves open has its default. Raises QueryError.

        Raises KeyError for a modality that is not a sensor's.
        """
        described = request.DESCRIPTOR.fields_by_name
        given = {
            name: getattr(request, name)
            for name in FIELDS
            if not described[name].has_presence or request.HasField(cast("Any", name))
        }
        modalities = [MODALITY_NAMES[modality] for modality in request.modalities]
        return cls.of_tree({**given, "modalities": modalities, "id": query_id})

    @classmethod
    def of_tree(cls, tree: Mapping[str, Any]) -> Self:
        """The query of plain values by field; what is absent or None has its default. Raises QueryError."""
        given = {name: value for name, value in tree.items() if value is not None}
        return cls(**{**given, "modalities": tuple(given.get("modalities", ()))})

    def tree(self) -> dict[str, Any]:
        """Plain values by field, in the order of the fields."""
        return {name: getattr(self, name) for name in FIELDS} | {"modalities": list(self.modalities)}

    def message(self) -> pb.Query:
        """The query by the fields that its user gave."""
        return pb.Query(**{**self.tree(), "modalities": [MODALITY_VALUES[m] for m in self.modalities]})


@dataclass(frozen=True, slots=True)
class QueryField:
    """A field of Query, for code that reads one from users."""

    name: str
    type: Any
    help: str
    option: str
    """Of the command line."""


class QueryOptions(TypedDict, total=False):
    """The fields that a caller may leave open, as keywords; None has its default."""

    modalities: Iterable[Modality] | None
    threshold_on: float | None
    threshold_off: float | None
    min_duration_s: float | None
    cooldown_s: float | None
    clip: bool | None
    force: bool | None


def _fields() -> dict[str, QueryField]:
    types = get_type_hints(Query)
    return {
        one.name: QueryField(
            one.name,
            types[one.name],
            one.metadata["help"],
            one.metadata.get("option", f"--{one.name.replace('_', '-')}"),
        )
        for one in fields(Query)
    }


FIELDS: Mapping[str, QueryField] = _fields()
"""By name, in order."""


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A query that is being watched for, and what its user should know of it."""

    query: Query
    warnings: tuple[str, ...] = ()
    read_as: str = ""
    """Its text in the words of the model; empty if they are the same."""

    def message(self) -> pb.Query:
        """The query as it stands in events and answers."""
        message = self.query.message()
        message.warnings.extend(self.warnings)
        message.read_as = self.read_as
        return message
