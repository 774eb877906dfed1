"""Faults that pydantic finds in plain values, in words of ours: where, what is wrong, what to write instead."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from common.printable import brief, shortened


def fault_lines(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """Return the faults of a validation as `key.path: what (found ...)`.

    Unknown keys come first, with the nearest known one, since a missing key is often one that is misspelt.
    """
    unknown: list[str] = []
    others: list[str] = []
    for fault in error.errors(include_url=False):
        where = ".".join(shortened(str(part)) for part in fault["loc"]) or "the file"
        if fault["type"] == "extra_forbidden" and model is not None:
            unknown.append(f"{where}: unknown key{nearest(str(fault['loc'][-1]), _keys_at(model, fault['loc'][:-1]))}")
        elif fault["type"] == "missing":
            others.append(f"{where}: is required, and is not given")
        else:
            what = _WORDS.get(fault["type"]) or shortened(fault["msg"].replace("Input should", "must", 1), 200)
            others.append(f"{where}: {what} (found {brief(fault['input'])})")
    return unknown + others


_GROUP, _WHOLE, _NUMBER = "must be a group of keys of its own", "must be a whole number", "must be a number"
_WORDS = {
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dict_type": _GROUP,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
}
"""In place of pydantic's words, which name classes and what it tried."""


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the settings know at a path."""
    for part in path:
        if part not in model.model_fields:  # a place in a list, or a key of a mapping
            continue
        annotation = model.model_fields[part].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return list(model.model_fields)


def nearest(key: str, known: Any) -> str:
    """Return advice for an unknown key: the nearest known one, or all."""
    close = difflib.get_close_matches(str(key)[:80], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
