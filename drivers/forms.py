"""THE table of forms: what a sample of each modality is, holds and can be.

Whatever follows from the modality alone stands here once: drivers, windows, health, logs and displays ask this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from common.physics import ZERO_KELVIN_C
from drivers.driver import BadData, Modality, Sample

Sense = Literal["seen", "heard", "felt", "depth", "thermal"]

MIN_RATE_HZ: Final = 1e-3
"""Of rows or images."""
MAX_RATE_HZ: Final = 1e6
MAX_CHANNELS: Final = 256
"""Of audio."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Quantity in one or more neighbouring columns of a sample, and the values that a working sensor can give."""

    name: str
    unit: str
    lowest: float
    highest: float
    columns: int | None = 1
    """None: as many as the device has."""


@dataclass(frozen=True, slots=True)
class Form:
    """One row of the table. `Sample` says in words what its arrays look like."""

    dtype: np.dtype[Any]
    image_like: bool
    """A sample is one picture rather than a block of consecutive rows."""
    quantities: tuple[Quantity, ...]
    """In the order of the columns: channels of a pixel, or values of a row."""
    sense: Sense
    """How a person is told what an alert comes from; the name of the modality where people have no such sense."""
    usual_rate_hz: float
    """Images, or rows, a second, where nobody says another rate."""
    count_scale: float = 1.0
    """What one count of a 16-bit picture stands for by custom, in the quantity's unit."""
    count_offset: float = 0.0
    """What a count of 0 stands for by custom."""

    @property
    def columns(self) -> int | None:
        """Channels of a pixel, or values of a row; None: as many as the device has."""
        counts = [quantity.columns for quantity in self.quantities]
        return None if None in counts else sum(filter(None, counts))

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """(lowest, highest) of every column; of one where their number is the device's."""
        return tuple((q.lowest, q.highest) for q in self.quantities for _ in range(q.columns or 1))

    def shape(
        self, height: int | None = None, width: int | None = None, columns: int | None = None
    ) -> tuple[int | None, ...]:
        """The shape of a sample's array; None stands for any size, as for what is not given."""
        columns = self.columns or columns
        if not self.image_like:
            return (None, columns)
        return (height, width) if columns == 1 else (height, width, columns)

    def bytes_of(self, places: int, columns: int | None = None) -> int:
        """Bytes of so many pixels or rows; `columns` is asked for where their number is the device's."""
        return places * (self.columns or columns or 1) * self.dtype.itemsize


_FLOAT32: Final = np.dtype(np.float32)

FORMS: Final[dict[Modality, Form]] = {
    "vision": Form(
        np.dtype(np.uint8),
        image_like=True,
        quantities=(Quantity("colour", "levels", 0.0, 255.0, 3),),
        sense="seen",
        usual_rate_hz=30.0,
    ),
    "audio": Form(
        _FLOAT32,
        image_like=False,
        # Float formats may pass full scale, but not by 24 dB.
        quantities=(Quantity("sound", "full scales", -16.0, 16.0, None),),
        sense="heard",
        usual_rate_hz=16_000.0,
    ),
    "depth": Form(
        _FLOAT32,
        image_like=True,
        quantities=(Quantity("distance", "m", 0.0, 10_000.0),),
        sense="depth",
        usual_rate_hz=30.0,
        count_scale=0.001,
    ),
    "thermal": Form(
        _FLOAT32,
        image_like=True,
        quantities=(Quantity("temperature", "degrees Celsius", ZERO_KELVIN_C, 3_000.0),),
        sense="thermal",
        # The most that cameras without an export licence give.
        usual_rate_hz=9.0,
        count_scale=0.01,
        count_offset=ZERO_KELVIN_C,
    ),
    "imu": Form(
        _FLOAT32,
        image_like=False,
        # The widest ranges on the market are 400 g and 4000 degrees a second; a little more is a scale that is off.
        quantities=(
            Quantity("acceleration", "m/s2", -4_000.0, 4_000.0, 3),
            Quantity("rotation", "rad/s", -100.0, 100.0, 3),
        ),
        sense="felt",
        usual_rate_hz=100.0,
    ),
}


def image_like(modality: Modality) -> bool:
    """Return whether samples of this modality are single pictures rather than blocks of rows."""
    return FORMS[modality].image_like


def check_form(sample: Sample, modality: Modality) -> None:
    """Raise BadData unless the sample has the type and shape that `Sample` promises for its modality."""
    form, data = FORMS[modality], sample.data
    if data.dtype != form.dtype or data.size == 0 or not fits(data.shape, form.shape()):
        raise BadData(f"a {modality} sample of {data.dtype} {list(data.shape)} came")
    possible = sample.rate_hz == 0.0 if form.image_like else MIN_RATE_HZ <= sample.rate_hz <= MAX_RATE_HZ
    if not possible:
        raise BadData(f"a {modality} sample of rate {sample.rate_hz:g} Hz came")


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Return whether an array has the wanted shape, in which None stands for any size."""
    return len(shape) == len(wanted) and all(w in (None, size) for w, size in zip(wanted, shape, strict=True))
