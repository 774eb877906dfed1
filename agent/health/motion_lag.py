"""Lag between the stamps of a camera and those of an inertial sensor, by the turning that both show.

Only a robot that turns tells it. Between sound and picture it cannot be known: nothing that both show need happen at
one time, as turning does.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from agent.streams import Streams
from agent.windows.window import Tick, Window

MOST_LAG_S, STEP_S = 1.0, 0.05
LAGS_S = np.arange(-round(MOST_LAG_S / STEP_S), round(MOST_LAG_S / STEP_S) + 1) * STEP_S
"""Candidates: by how much pictures are behind."""
AT_REST = len(LAGS_S) // 2
LEAST_LAG_S = 0.15
"""Smaller lags are not told: windows are half a second apart, and pictures a tenth."""
APART_NS = 400_000_000
"""Least time between two pairs of pictures that are looked at, however short the hop is."""
MOST_PAIRS = 120
LEAST_PAIRS = 40
FIT_EVERY = 10
"""Pairs between two fits."""

# Limits on what is told, with which no world of the tests is accused: see tests/test_motion_lag.py.
LEAST_CORRELATION = 0.9
LEAST_GAIN = 2.0
"""The squared error without a lag, in those with it."""
HALVES_AGREE_S = 0.1
UNUSUAL = 5.0
"""Times the median deviation."""
LEAST_USUAL = 0.7
"""Share of the pairs."""

COLUMNS, ROWS = 80, 15
MOST_SHIFT = COLUMNS // 2
LEAST_ALIKE = 0.7
"""Correlation of the two pictures, one of them shifted."""

Floats = NDArray[np.float64]


class MotionLag:
    """Watches the windows of one camera and one inertial sensor."""

    def __init__(self, camera: str, imu: str) -> None:
        self.camera, self.imu = camera, imu
        self._newest_ns = 0
        self._waiting: deque[tuple[int, int, float]] = deque(maxlen=16)
        """(time of the older picture, of the newer, shift of the picture) of pairs whose motion is still to come."""
        self._pairs: deque[tuple[float, Floats]] = deque(maxlen=MOST_PAIRS)
        """(shift of the picture, angle turned meanwhile for each of LAGS_S)."""
        self._unfitted = 0
        self._lag_s = 0.0

    @property
    def lag_s(self) -> float:
        """Time by which pictures are behind the motion, negative when ahead; 0 while none is certain."""
        return self._lag_s

    def problem(self) -> str:
        """Return the lag in words; empty without a certain one."""
        if not self._lag_s:
            return ""
        how = "lag" if self._lag_s > 0 else "are ahead of"
        told = f"by their turning, its pictures {how} {self.imu} by about {abs(self._lag_s):.1f} s"
        return f"{told}; set latency_ms of the one whose time stamps are wrong"

    def observe(self, tick: Tick) -> None:
        """Take note of the windows of a tick."""
        pictures, motion = tick.windows.get(self.camera), tick.windows.get(self.imu)
        if pictures is not None and pictures.newest_ns - self._newest_ns >= APART_NS:
            self._newest_ns = pictures.newest_ns
            self._see(pictures)
        if motion is not None and motion.data is not None:
            self._turn(motion, tick.t_ns)
        if self._unfitted >= FIT_EVERY:
            self._unfitted = 0
            self._lag_s = self._fit()

    def _see(self, pictures: Window) -> None:
        if pictures.data is None or not pictures.data.size or not pictures.apart_ns:
            return
        shift = _shift(pictures.data[0], pictures.data[1])
        if shift is not None:
            self._waiting.append((pictures.newest_ns - pictures.apart_ns, pictures.newest_ns, shift))

    def _turn(self, motion: Window, end_ns: int) -> None:
        """Add the angle that was turned between the pictures of pairs whose time the motion reaches."""
        assert motion.data is not None
        angle: Floats | None = None
        most_ns = round(MOST_LAG_S * 1e9)
        while self._waiting and self._waiting[0][1] + most_ns <= end_ns:
            older_ns, newer_ns, shift = self._waiting.popleft()
            if (end_ns - older_ns + most_ns) / 1e9 * motion.rate_hz > len(motion.data):
                continue
            if angle is None:
                angle = np.concatenate([[0.0], np.cumsum(motion.data[:, 5], dtype=np.float64)]) / motion.rate_hz
            # Where pictures lag by so much, they show the motion of so much earlier.
            ends, starts = (
                len(motion.data) + ((t - end_ns) / 1e9 - LAGS_S) * motion.rate_hz for t in (newer_ns, older_ns)
            )
            rows = np.arange(len(angle))
            self._pairs.append((shift, np.interp(ends, rows, angle) - np.interp(starts, rows, angle)))
            self._unfitted += 1

    def _fit(self) -> float:
        if len(self._pairs) < LEAST_PAIRS:
            return 0.0
        shifts, turned = np.array([s for s, _ in self._pairs]), np.stack([t for _, t in self._pairs])
        usual = _usual(shifts, turned, int(_correlation(shifts, turned).argmax()))
        if usual.mean() < LEAST_USUAL:
            return 0.0
        shifts, turned = shifts[usual], turned[usual]
        correlation, half = _correlation(shifts, turned), len(shifts) // 2
        lag_s, most = _peak_s(correlation), float(correlation.max())
        gain = (1.0 - correlation[AT_REST] ** 2) / max(1.0 - most**2, 1e-9)
        if abs(lag_s) < LEAST_LAG_S or most < LEAST_CORRELATION or gain < LEAST_GAIN:
            return 0.0
        halves = (_peak_s(_correlation(shifts[part], turned[part])) for part in (slice(half), slice(half, None)))
        return lag_s if all(abs(half_s - lag_s) <= HALVES_AGREE_S for half_s in halves) else 0.0


def motion_lags(streams: Streams) -> list[MotionLag]:
    """One for each camera, beside the first inertial sensor; none without one."""
    imus = [name for name, stream in streams.items() if stream.modality == "imu"]
    cameras = [name for name, stream in streams.items() if stream.modality == "vision"]
    return [MotionLag(camera, imus[0]) for camera in cameras] if imus else []


def _correlation(shifts: Floats, turned: Floats) -> Floats:
    """Size of Pearson's correlation for each lag: a camera may hang upside down. 0 where nothing moves."""
    a, b = shifts - shifts.mean(), turned - turned.mean(axis=0)
    scale = np.sqrt((a @ a) * np.square(b).sum(axis=0))
    size: Floats = np.abs(a @ b) / np.maximum(scale, 1e-12)
    return size


def _usual(shifts: Floats, turned: Floats, best: int) -> NDArray[np.bool_]:
    """Return the pairs that turning explains, with the best lag or without one: what passes by moves a picture, too."""
    rests: list[Floats] = []
    for lag in (best, AT_REST):
        x, y = turned[:, lag] - turned[:, lag].mean(), shifts - shifts.mean()
        rests.append(np.abs(y - x * (x @ y) / max(x @ x, 1e-12)))
    rest = np.minimum(*rests)
    usual: NDArray[np.bool_] = rest <= max(UNUSUAL * float(np.median(rest)), 1.0)
    return usual


def _peak_s(correlation: Floats) -> float:
    """The lag of the highest correlation, between candidates by a parabola."""
    best = int(correlation.argmax())
    if not 0 < best < len(correlation) - 1:
        return float(LAGS_S[best])
    left, peak, right = correlation[best - 1 : best + 2]
    return float(LAGS_S[best] + STEP_S * (left - right) / (2 * (left - 2 * peak + right) - 1e-12))


def _shift(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Columns, of COLUMNS, by which a picture has moved to the right; None when it is not the same picture."""
    a, b = _profile(before), _profile(after)
    n = len(a)
    most = min(MOST_SHIFT, n // 2)
    shifts = np.arange(-most, most + 1)
    products = np.correlate(b, a, "full")[n - 1 - most : n + most]
    # The energy of the columns that overlap.
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(np.square(x))]) for x in (a, b))
    forward, back = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    overlap_a, overlap_b = energy_a[n - forward] - energy_a[back], energy_b[n - back] - energy_b[forward]
    alike = products / np.sqrt(np.maximum(overlap_a * overlap_b, 1e-6))
    best = int(alike.argmax())
    if alike[best] < LEAST_ALIKE or not 0 < best < len(shifts) - 1:
        return None
    left, peak, right = alike[best - 1 : best + 2]
    return float(shifts[best] + (left - right) / (2 * (left - 2 * peak + right) - 1e-12))


def _profile(picture: NDArray[np.uint8]) -> Floats:
    """The means of about COLUMNS stripes of the green channel of every so many rows, less their mean."""
    height, width = picture.shape[:2]
    wide = max(1, width // COLUMNS)
    rows = picture[:: max(1, height // ROWS), : width // wide * wide, 1]
    sums = rows.sum(axis=0, dtype=np.uint32).reshape(-1, wide).sum(axis=1)
    means: Floats = sums / (len(rows) * wide)
    means -= means.mean()
    return means
