"""Windows cut from the streams, one per sensor, and the tick that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from drivers.driver import Modality


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Data of one sensor up to the time of a tick, as the model needs it.

    `data` is None when the window is missing, else by modality:
      vision          uint8   [2, H, W, 3], the older frame first; the same frame twice when there is only one
      audio           float32 [n, channels], n = window length x `rate_hz`
      depth, thermal  float32 [H, W]
      imu             float32 [n, 6]
    It holds no NaN or infinity.
    """

    sensor: str
    modality: Modality
    data: NDArray[Any] | None
    rate_hz: float
    """Rate of the rows; 0 for images."""
    newest_ns: int
    """Capture time up to which the window knows its stream; 0 when nothing came."""
    missing: str
    """Empty when present, else why not: "no samples yet", "too short", "stale", "gap", "invalid: ...", "lost",
    "fault" when cutting it failed."""
    filled: float = 0.0
    """Share of rows that are zeros (audio) or interpolated (imu) because they never came."""
    apart_ns: int = 0
    """Time between the two frames of a camera."""


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One step of the fused timeline."""

    index: int
    t_ns: int
    """`index` times the hop."""
    windows: dict[str, Window]
    """Of every sensor in the streams table."""
    settled_ns: int
    """Time on the run's clock at which it was emitted."""
