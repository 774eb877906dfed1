"""`recording.yaml` in a folder of media: which file is which sensor's, and when each begins.

The export writes it, and a person may, for files from elsewhere:

    start: 2026-05-04T10:00:00Z
    sensors:
      front_camera: {file: drive.mp4}
      microphone: {file: drive.wav, offset_s: 0.12}
      imu: {file: imu.csv, columns: [t_s, ax, ay, az, gx, gy, gz], gyro_unit: deg/s}
      depth: {file: depth, modality: depth, rate_hz: 10}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agent.config.validation import fault_lines
from agent.exchange.inside import entry
from agent.log.format import LogError
from agent.streams import MAX_SENSORS
from common import private_files
from common.yaml_file import YamlError, read_yaml
from drivers.driver import Modality
from drivers.forms import MAX_RATE_HZ, MIN_RATE_HZ

NAME = "recording.yaml"
NO_START_NS = 946_684_800_000_000_000
"""2000-01-01: where a recording begins when nobody says it. A file's own date is that of its last copy."""

MAX_START_NS = 2**62
MOST_FAULTS = 5
"""Faults that are told at once."""

Rate = Annotated[float, Field(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)]
Seconds = Annotated[float, Field(ge=-2e10, le=2e10)]
"""Largest distance of two stamps of 64 bits."""
Scale = Annotated[float, Field(ge=1e-12, le=1e12)]
Offset = Annotated[float, Field(ge=-1e12, le=1e12)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SensorFile(_Strict):
    """File of a sensor, and its units, times and rate."""

    file: str
    """Relative to the folder."""
    modality: Modality | None = None
    """Default: by the file's suffix vision, audio or imu; a folder of pictures must state it."""
    offset_s: Seconds = 0.0
    """Capture time of its beginning, after the start. Times of a table or folder count from its first; a video whose
    picture track starts late has its first picture that much later."""
    rate_hz: Rate | None = None
    """Rows or pictures a second, of a table, folder or bare video stream that does not tell."""
    scale: Scale | None = None
    """Metres, or degrees Celsius, of one count of a PNG file; by default millimetres and hundredths of a kelvin."""
    offset: Offset | None = None
    """Metres, or degrees Celsius, of a count of 0."""
    columns: list[str] | None = None
    """Columns of a table whose first line does not name them."""
    delimiter: Annotated[str, Field(min_length=1)] | None = None
    """Of a table; by default the comma, semicolon, tab or blank that its first line fits."""
    decimal: Literal[".", ","] = "."
    """Decimal sign of a table's numbers."""
    accel_unit: Literal["m/s2", "g"] = "m/s2"
    gyro_unit: Literal["rad/s", "deg/s"] = "rad/s"


class Description(_Strict):
    """The whole `recording.yaml`."""

    start: AwareDatetime | None = None
    """Begin of the recording, with its time zone."""
    start_ns: Annotated[int, Field(ge=0, lt=MAX_START_NS)] | None = None
    """The same in nanoseconds since 1970."""
    sensors: Annotated[dict[str, SensorFile], Field(max_length=MAX_SENSORS)]
    config: dict[str, Any] = {}
    """Keys of the configuration for a replay of the log; `sensors` is added to."""

    @property
    def begin_ns(self) -> int:
        """Begin of the recording."""
        if self.start_ns is not None:
            return self.start_ns
        if self.start is not None:
            return round(self.start.timestamp() * 1_000_000) * 1000
        return NO_START_NS


def read_description(folder: Path) -> Description | None:
    """Return the description that lies in a folder; None without one. Raises LogError."""
    path = folder / NAME
    if entry(folder, NAME) is None:
        return None
    try:
        found = Description.model_validate(read_yaml(path))
    except YamlError as error:
        raise LogError(str(error)) from None
    except ValidationError as error:
        raise LogError("; ".join(f"{path}: {line}" for line in fault_lines(error, Description)[:MOST_FAULTS])) from None
    if not found.sensors:
        raise LogError(f"{path}: sensors: none is given; name the file of each, or remove {NAME}")
    if found.start is not None and found.start_ns is not None:
        raise LogError(f"{path}: start and start_ns are both given; give one")
    if not 0 <= found.begin_ns < MAX_START_NS:
        raise LogError(f"{path}: start: {found.start} is not between 1970 and 2116; correct it, or leave it out")
    return found


def write_description(folder: Path, description: Description) -> None:
    """Write what `read_description` reads. Raises OSError."""
    tree = description.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(tree, sort_keys=False, width=120)
    private_files.write(folder / NAME, text.encode())
