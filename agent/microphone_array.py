"""Limits of a microphone array, from its geometry and its rate alone. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME_S = 0.032
"""Length of the spectra that directions are found from, about: the nearest power of two of samples."""
ELEVATION_STEP_DEG = 10.0
LEAST_APART_M = 0.001
"""Distance below which two microphones are one."""
WIDTHS_M = 0.005, 10.0
"""Widths of arrays: a chip's, and a room's."""


def check_array(mic_positions_m: NDArray[np.floating], rate_hz: float) -> None:
    """Raise ValueError unless microphones at these positions [m, 3], at this rate, can tell directions."""
    band_of(rate_hz, voiced_band_hz(rate_hz))
    mics_m = checked_positions(mic_positions_m)
    unambiguous_half(mics_m)
    widest_m = float(_apart_m(mics_m).max())
    lowest_m, highest_m = WIDTHS_M
    if not lowest_m <= widest_m <= highest_m:
        raise ValueError(
            f"mic_positions_m: the array is {widest_m:g} m wide; {lowest_m:g} to {highest_m:g} m are possible: are the "
            "positions in metres?"
        )


def check_apart(mic_positions_m: NDArray[np.floating]) -> None:
    """Raise ValueError if two of the positions [m, 3] are one point, as after a slip of the pen."""
    mics_m = checked_positions(mic_positions_m)
    if len(together := np.argwhere(np.triu(_apart_m(mics_m) < LEAST_APART_M, 1))):
        first, second = together[0]
        raise ValueError(f"mic_positions_m: microphones {first} and {second} are at one point; give each its own")


def _apart_m(mics_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each two, [m, m]."""
    apart_m: NDArray[np.float64] = np.linalg.norm(mics_m[:, None] - mics_m[None], axis=2)
    return apart_m


def checked_positions(mic_positions_m: NDArray[np.floating]) -> NDArray[np.float64]:
    """The positions, float64 [m, 3]. Raises ValueError for another shape, fewer than two, NaN or infinity."""
    mics_m = np.asarray(mic_positions_m, dtype=np.float64)
    if mics_m.ndim != 2 or mics_m.shape[0] < 2 or mics_m.shape[1] != 3 or not np.isfinite(mics_m).all():
        raise ValueError(f"mic_positions_m must be [m, 3] with m >= 2, finite; its shape is {mics_m.shape}")
    return mics_m


def voiced_band_hz(rate_hz: float) -> tuple[float, float]:
    """The band of most sounds, 300 to 5000 Hz, as far as a microphone of this rate hears it."""
    return 300.0, min(5000.0, rate_hz / 2)


def band_of(rate_hz: float, band_hz: tuple[float, float]) -> tuple[int, slice]:
    """Samples in a frame, and the bins of its spectrum inside a band. Raises ValueError for a band without any."""
    if not 0.0 <= band_hz[0] < band_hz[1] <= rate_hz / 2.0:
        raise ValueError(f"band_hz {band_hz} must rise and lie within 0..{rate_hz / 2.0:g} Hz, half of rate_hz")
    frame = 1 << round(np.log2(FRAME_S * rate_hz))
    f_hz = np.fft.rfftfreq(frame, 1.0 / rate_hz)
    inside = np.flatnonzero((f_hz >= band_hz[0]) & (f_hz <= band_hz[1]))
    if len(inside) == 0:
        raise ValueError(f"band_hz {band_hz} holds no frequency of a {frame}-sample frame; widen it")
    return frame, slice(int(inside[0]), int(inside[-1]) + 1)


def unambiguous_half(mics_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return the limits of the array: elevations of the grid in degrees, a normal [3] of the half space that is
    searched (zero for all of it), and whether azimuths outside have a mirror image inside.
    """
    _, extents, axes = np.linalg.svd(mics_m - mics_m.mean(axis=0), full_matrices=True)
    extents = np.pad(extents, (0, 3 - len(extents)))
    if extents[0] < 1e-4:
        raise ValueError("mic_positions_m: the microphones stand in one place; their positions must differ")
    dimensions = int((extents > 0.05 * extents[0]).sum())
    upper = np.arange(0.0, 90.0, ELEVATION_STEP_DEG)
    sphere = np.concatenate([-upper[:0:-1], upper])
    if dimensions == 3:
        return sphere, np.zeros(3), False
    if dimensions == 2:
        normal = axes[2]
        if abs(normal[2]) > 0.99:
            return upper, np.zeros(3), False
        return sphere, _towards_front(normal, up=abs(normal[2]) >= 0.5), True
    if np.hypot(axes[0][0], axes[0][1]) < 0.1:
        raise ValueError("mic_positions_m: the microphones stand on a vertical line, which gives no azimuth")
    return np.zeros(1), _towards_front(np.array([-axes[0][1], axes[0][0], 0.0]), up=False), True


def _towards_front(normal: NDArray[np.float64], *, up: bool) -> NDArray[np.float64]:
    """The normal or its opposite: the one that points up, or else ahead, or else left."""
    leading = normal[2] if up else normal[0] if abs(normal[0]) > 1e-6 else normal[1]
    return normal if leading > 0.0 else -normal
