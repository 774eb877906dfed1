"""Faults of a microphone array that its own sound gives away: silent, inverted, swapped or copied channels.

Three kinds of evidence, of every half second that is loud enough:

- Level. A channel far below the others is silent.
- What no sound field does. Microphones much closer than a wavelength hear nearly the same phase, whatever sounds from
  wherever: a pair that differs by half a turn at low frequencies has one channel inverted. And over the band where they
  are apart by a good part of a wavelength, channels that are one signal without a delay hear a cable, not a room.
- The plane wave of a strong sound. It fits the array as it is; if it fits much better with two channels swapped, those
  are. A swap that mirrors or turns the array, such as that of its only two microphones, fits as well and is never told.

Evidence for a fault counts up and evidence against it down, at most one for each half second, so that a fault is told
after 4 s of it at the earliest and withdrawn after as much without. A channel that is late by a sample or two is not
told: in a live room the echoes of a healthy array fit that as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from agent.microphone_array import band_of, checked_positions, unambiguous_half, voiced_band_hz
from agent.phase_differences import OPPOSITE, FieldLimits, Pairs, PhaseDifferences, phase_differences
from agent.plane_waves import PlaneWaves, unit_vectors

STRETCH_S = 0.5
"""Sound that is judged at once."""
CERTAIN = 8.0
"""Pieces of evidence for a fault, less those against it, with which it is told."""
QUIET_DBFS = -70.0
"""Below this, a stretch is no evidence."""
SILENT_DB = -40.0
"""Level of a silent channel against the median of all, or less: microphones of one array differ by a tenth of this."""
LOWEST_HZ = 100.0
ALIKE = 0.3
"""Mean cosine of a pair at low frequencies, or more, that is not inverted."""
STRONG = 0.1
"""Share of a sound that is strong enough to judge the order of channels."""
BETTER = 0.15
"""Logarithm of the share that a swap explains over the best of all others: less is evidence against it. Echoes that
happen to favour a swap reach 0.05 on average; a swapped pair has 0.2 to 1, by the place of the source."""
MUCH_BETTER = 0.5
"""The same; from here on it is one whole piece of evidence."""
GRID_DEG = 10.0
FITTED_BINS = 40
"""Frequencies that a plane wave is fitted to, about."""


@dataclass(slots=True)
class _Evidence:
    sum: float = 0.0
    certain: bool = False

    def add(self, piece: float) -> None:
        """Take note of evidence for (up to 1) or against (down to -1)."""
        self.sum = min(max(self.sum + piece, 0.0), CERTAIN)
        self.certain = self.sum == CERTAIN or (self.certain and self.sum > 0.0)


class ArrayCheck:
    """Judges one array, or the levels alone of channels whose positions are not known. Holds a stretch of sound."""

    def __init__(self, channels: int, rate_hz: float, mic_positions_m: NDArray[np.floating] | None = None) -> None:
        """`mic_positions_m` [channels, 3]. Raises ValueError where they can tell no direction."""
        self._channels = channels
        self._rows_wanted = round(STRETCH_S * rate_hz)
        self._blocks: list[NDArray[np.float32]] = []
        self._rows = 0
        self._evidence: dict[str, _Evidence] = {}
        self._geometry = None if mic_positions_m is None else _Geometry(checked_positions(mic_positions_m), rate_hz)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take note of sound [n, channels], finite; of another number of channels none is taken."""
        if rows.ndim != 2 or rows.shape[1] != self._channels:
            return
        self._blocks.append(rows)
        self._rows += len(rows)
        if self._rows >= self._rows_wanted:
            stretch = np.concatenate(self._blocks)
            self._blocks, self._rows = [], 0
            for told, piece in self._judged(stretch).items():
                self._evidence.setdefault(told, _Evidence()).add(piece)

    def problem(self) -> str:
        """Return the faults that are certain, in one line; empty when there is none."""
        return "; ".join(told for told, evidence in self._evidence.items() if evidence.certain)

    def _judged(self, stretch: NDArray[np.float32]) -> dict[str, float]:
        """Evidence for (up to 1) or against (down to -1) each fault, by the line that tells it."""
        mean_square = stretch.var(axis=0, dtype=np.float64)
        level_db = 10.0 * np.log10(np.maximum(mean_square, 1e-20))
        if not np.isfinite(level_db).all() or level_db.max() < QUIET_DBFS:
            return {}
        others_db = np.array([np.median(np.delete(level_db, channel)) for channel in range(self._channels)])
        silent = (level_db < others_db + SILENT_DB) & (others_db >= QUIET_DBFS)
        found: dict[str, float] = {
            f"channel {channel} is silent beside the others: check its microphone": 1 if is_silent else -1
            for channel, is_silent in enumerate(silent)
        }
        if self._geometry is not None and not silent.any():
            found |= self._geometry.judged(stretch)
        return found


class _Geometry:
    """Evidence that follows from the positions of the microphones."""

    def __init__(self, mics_m: NDArray[np.float64], rate_hz: float) -> None:
        self._mics_m = mics_m
        self._pairs = Pairs.of(len(mics_m))
        low_hz, high_hz = voiced_band_hz(rate_hz)
        self._frame, self._bins = band_of(rate_hz, (min(LOWEST_HZ, low_hz), high_hz))
        f_hz = np.fft.rfftfreq(self._frame, 1.0 / rate_hz)[self._bins]
        self._limits = FieldLimits(mics_m, self._pairs, f_hz)
        voiced = np.flatnonzero(f_hz >= low_hz)
        self._fitted = voiced[:: max(1, len(voiced) // FITTED_BINS)]
        self._swaps = _swaps(mics_m)
        elevation_deg, _, _ = unambiguous_half(mics_m)
        towards = unit_vectors(np.arange(-180.0, 180.0, GRID_DEG), elevation_deg).reshape(-1, 3)
        self._waves = PlaneWaves(mics_m, self._pairs, f_hz[self._fitted], towards)

    def judged(self, stretch: NDArray[np.float32]) -> dict[str, float]:
        """As `ArrayCheck._judged`."""
        measured = phase_differences(stretch, self._frame, self._bins, self._pairs)
        copied = self._limits.copied(measured)
        one_signal = "its channels carry one signal, not the sound at microphones: check its channels"
        found: dict[str, float] = {one_signal: 1 if copied.all() else -1}
        if copied.all():
            return found
        found |= {
            f"channels {i} and {j} carry one signal: check its channels": 1 if is_copied else -1
            for i, j, is_copied in zip(self._pairs.first, self._pairs.second, copied, strict=True)
        }
        if copied.any():
            return found
        inverted = self._inverted(self._limits.low_cosine(measured))
        found |= inverted
        if 1 not in inverted.values():
            found |= self._swapped(measured)
        return found

    def _inverted(self, cosine: NDArray[np.floating]) -> dict[str, float]:
        """By the mean cosines of pairs at low frequencies, NaN where a pair is too far apart."""
        found: dict[str, float] = {}
        channels = range(len(self._mics_m)) if len(self._mics_m) > 2 else range(1)
        for channel in channels:
            of_it = (self._pairs.first == channel) | (self._pairs.second == channel)
            its, others = cosine[of_it], cosine[~of_it]
            opposite = np.isfinite(its).any() and (its[np.isfinite(its)] < OPPOSITE).all()
            alone = not (others < OPPOSITE).any()
            told = f"channel {channel} is inverted" if len(channels) > 1 else "one of its two channels is inverted"
            step = 1 if opposite and alone else -1 if (its > ALIKE).any() else 0
            found[f"{told}: turn its polarity"] = step
        return found

    def _swapped(self, measured: PhaseDifferences) -> dict[str, float]:
        phasors = measured.phasors[:, self._fitted]
        orders = [phasors] + [self._reordered(phasors, order) for _, order in self._swaps]
        stacked = np.stack([np.concatenate([order.real.ravel(), order.imag.ravel()]) for order in orders], axis=1)
        share = self._waves.fit(self._waves.project(stacked)).max(axis=0)
        if share.max() < STRONG:
            return {}
        found = {}
        for k, (pairs, _) in enumerate(self._swaps, start=1):
            better = math.log(max(share[k], 1e-3) / max(float(np.delete(share, k).max()), 1e-3))
            piece = min(max((better - BETTER) / (MUCH_BETTER - BETTER), -1.0), 1.0)
            found[f"channels {pairs} are swapped: give mic_positions_m in the order of the channels"] = piece
        return found

    def _reordered(self, phasors: NDArray[np.complex64], order: NDArray[np.intp]) -> NDArray[np.complex64]:
        """Return the phase differences as if channel `order[k]` stood at microphone k."""
        i, j = order[self._pairs.first], order[self._pairs.second]
        at = np.zeros((len(order), len(order)), dtype=np.intp)
        at[self._pairs.first, self._pairs.second] = np.arange(len(self._pairs.first))
        return np.where((i < j)[:, None], phasors[at[i, j]], phasors[at[j, i]].conj())


def _swaps(mics_m: NDArray[np.float64]) -> list[tuple[str, NDArray[np.intp]]]:
    """Swaps of two channels that neither mirror nor turn the array, each once: "0 and 1, or 2 and 3," and the order."""
    distances_m = np.linalg.norm(mics_m[:, None] - mics_m[None, :], axis=-1)
    shapes, pairs, orders = [distances_m], [""], [np.arange(len(mics_m))]
    for i, j in combinations(range(len(mics_m)), 2):
        order = np.arange(len(mics_m))
        order[[i, j]] = j, i
        shape = distances_m[np.ix_(order, order)]
        same = [k for k, other in enumerate(shapes) if np.allclose(shape, other, rtol=0.02, atol=1e-3)]
        if same:
            pairs[same[0]] += f", or {i} and {j}"
        else:
            shapes.append(shape)
            pairs.append(f"{i} and {j}")
            orders.append(order)
    return list(zip(pairs, orders, strict=True))[1:]
