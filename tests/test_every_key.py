"""Every key of the configuration does what it says: two values, two behaviours, and none is forgotten."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from every_key import OTHER, Row, devices, recording, running
from pydantic import BaseModel

from agent.config.settings import SensorSettings, Settings
from drivers.registry import DRIVERS, driver_class

ROWS: dict[str, Row] = {**running.ROWS, **recording.ROWS, **devices.ROWS}
NOTHING = object()
"""Default of a key that must be given."""


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings within a type, as those of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from inner_models(argument)


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key with a value of its own: its path, type and default."""
    for name, field in model.model_fields.items():
        inner = list(inner_models(field.annotation))
        for below in inner:
            yield from keys_of(below, f"{path}{name}.")
        if not inner:
            yield f"{path}{name}", field.annotation, NOTHING if field.is_required() else field.get_default()


def all_keys() -> dict[str, tuple[Any, Any]]:
    """The type and default of every key: the settings, those of a sensor, and every driver's options."""
    found = {path: (kind, default) for path, kind, default in keys_of(Settings) if path != "sensors"}
    found |= {f"sensors.{path}": (kind, default) for path, kind, default in keys_of(SensorSettings)}
    for name in DRIVERS:
        for field in dataclasses.fields(driver_class(name).Options):
            default = NOTHING if field.default is dataclasses.MISSING else field.default
            found[f"{name}.{field.name}"] = (field.type, default)
    return found


KEYS = all_keys()


def test_every_key_has_a_row_and_every_row_a_key() -> None:
    assert not (KEYS.keys() - ROWS.keys()), "keys without a row in tests/every_key: does anything obey them?"
    assert not (ROWS.keys() - KEYS.keys()), "rows in tests/every_key of keys that are gone"


@pytest.mark.parametrize("path", sorted(ROWS))
def test_two_values_are_two_behaviours(path: str, tmp_path: Path) -> None:
    row = ROWS[path]
    seen = []
    for number, (value, expected) in enumerate((row.first, row.second)):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen.append(row.behaviour(value, folder))
        assert expected is OTHER or seen[-1] == expected, f"{path}: {value}"
    assert seen[0] != seen[1], f"{path}: {row.first[0]} and {row.second[0]} do the same"


@pytest.mark.parametrize("path", sorted(ROWS.keys() & KEYS.keys()))
def test_no_row_rests_on_a_default(path: str) -> None:
    kind, default = KEYS[path]
    choices = 2 if kind in (bool, "bool") else len(get_args(kind)) if get_origin(kind) is Literal else 99
    two_valued = choices == 2 or kind in TWO_VALUED
    defaults = [value for value, _ in (ROWS[path].first, ROWS[path].second) if value == default]
    assert len(defaults) <= two_valued, f"{path}: {defaults[0]} is the default; a part that ignores the key passes"


TWO_VALUED = {"Pace", "AccelUnit", "GyroUnit", "Checksum", "Literal['Z16', 'Y16']", 'Literal["Z16", "Y16"]'}
"""Types of options, as they are written, that have two values: one is the default."""


def test_every_key_stands_in_an_example_or_in_the_documents() -> None:
    root = Path(__file__).parent.parent
    said = "\n".join(path.read_text() for path in (*root.glob("configs/*.yaml"), *root.glob("docs/*.md")))
    names = {path.rpartition(".")[2] for path in KEYS}
    assert not {name for name in names if not re.search(rf"\b{name}:", said)}, "say them in configs/robot.yaml"
