"""The kinds of things a synthetic scene may hold: its names, sound, height and temperature.

Ten sound: the classes of ESC-10 (Piczak, "ESC: Dataset for Environmental Sound Classification", 2015). The rest are
silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Moves = Literal["stays", "wanders", "flies"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing.

    `noun` is what is seen and `sound` what is heard, both as one says them; `sound` is None for a silent kind.
    `height_m` and `surface_c` are ranges from which each thing draws its own height and surface temperature; the
    temperature is relative to the air where `heated` is False.
    """

    name: str
    noun: str
    sound: str | None
    height_m: tuple[float, float]
    surface_c: tuple[float, float]
    heated: bool
    moves: Moves = "stays"


_ALL = (
    Kind("dog", "dog", "a dog barking", (0.8, 1.1), (31.0, 35.0), True, "wanders"),
    Kind("rain", "rain", "rain falling", (1.8, 2.4), (-7.0, -3.0), False),
    Kind("sea_waves", "sea waves", "sea waves", (0.8, 1.1), (-8.0, -4.0), False),
    Kind("baby", "baby", "a baby crying", (0.75, 1.0), (33.0, 35.0), True),
    Kind("clock", "clock", "a clock ticking", (1.4, 1.9), (1.0, 4.0), False),
    Kind("person", "person", "a person sneezing", (1.55, 1.9), (32.0, 34.5), True, "wanders"),
    Kind("helicopter", "helicopter", "a helicopter flying", (1.0, 1.4), (45.0, 60.0), True, "flies"),
    Kind("chainsaw", "chainsaw", "a chainsaw running", (0.85, 1.1), (42.0, 60.0), True),
    Kind("rooster", "rooster", "a rooster crowing", (0.75, 1.0), (33.0, 37.0), True, "wanders"),
    Kind("fire", "fire", "a crackling fire", (0.9, 1.3), (180.0, 300.0), True),
    Kind("chair", "chair", None, (0.9, 1.1), (-0.5, 1.0), False),
    Kind("box", "box", None, (0.7, 0.95), (-0.5, 1.0), False),
    Kind("tree", "tree", None, (2.2, 3.0), (-2.5, -0.5), False),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
SOUNDING: tuple[str, ...] = tuple(kind.name for kind in _ALL if kind.sound is not None)
SILENT: tuple[str, ...] = tuple(kind.name for kind in _ALL if kind.sound is None)
