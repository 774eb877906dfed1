"""How exact, how sure and how quick the direction finder is: `python -m benchmarks.doa [--trials 24] [--seed 0]`.

Rooms come from pyroomacoustics (image sources up to order 12, 6 x 5 x 3 m, sources 1.5 m away at the array's height);
its own SRP-PHAT and NormMUSIC run on the same signals. Then: two sources at once, elevation, what is answered to noise,
faults of the array and how soon they are told, and the cost. README's figures come from seeds that no limit was chosen
with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
import pyroomacoustics as pra
from numpy.typing import NDArray

from agent.health.array_check import ArrayCheck
from agent.perceiving.localization.doa import MIN_SHARE, Direction, DirectionFinder
from common.physics import SPEED_OF_SOUND_MPS
from world.acoustics import BackgroundNoise
from world.sounds import VOICES, synthesise

RATE_HZ = 16000
ROOM_M = np.array([6.0, 5.0, 3.0])
SETTLED = 8000
"""Samples after which reverberation is as it stays."""

Audio = NDArray[np.float32]
Points = NDArray[np.float64]


def ring(mics: int, radius_m: float) -> Points:
    angle = 2 * np.pi * np.arange(mics) / mics
    return radius_m * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


SQUARE_M = 0.0323 * np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
PAIR_M = np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
LINE_M = 0.035 * np.array([[0.0, k, 0.0] for k in (1.5, 0.5, -0.5, -1.5)])
SOLID_M = 0.03 * np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
SQUARE, SMALL, EIGHT = "4 mics, 64.6 mm square", "4 mics, r 32.5 mm", "8 mics, r 50 mm"
PAIR, LINE, SOLID = "2 mics, 200 mm", "4 mics, line of 35 mm", "4 mics, tetrahedron"
ARRAYS = {
    SQUARE: SQUARE_M,
    SMALL: ring(4, 0.0325),
    EIGHT: ring(8, 0.05),
    PAIR: PAIR_M,
    LINE: LINE_M,
    SOLID: SOLID_M,
}
MIRRORED = (PAIR, LINE)
"""Lie on y, so that an azimuth and its mirror image behind are one."""


class Room:
    """A room with an array and sources at some azimuths (and one elevation), by its impulse responses."""

    def __init__(
        self,
        mics_m: Points,
        rt60_s: float,
        azimuths_deg: Sequence[float],
        rng: np.random.Generator,
        elevation_deg: float = 0.0,
    ) -> None:
        absorption, order = pra.inverse_sabine(rt60_s, ROOM_M) if rt60_s else (1.0, 0)
        room = pra.ShoeBox(ROOM_M, fs=RATE_HZ, materials=pra.Material(absorption), max_order=min(order, 12))
        centre_m = ROOM_M * [0.5, 0.5, 0.4] + rng.uniform(-0.3, 0.3, 3)
        for azimuth_deg in azimuths_deg:
            room.add_source(centre_m + 1.5 * towards(azimuth_deg, elevation_deg))
        room.add_microphone_array((centre_m + mics_m).T)
        room.compute_rir()
        self._responses = room.rir

    def heard(self, source: int, sound: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        """The sound of one source at the microphones, [n, mics], of unit power."""
        size = SETTLED + n + max(len(of_mic[source]) for of_mic in self._responses)
        dry = np.fft.rfft(sound[: SETTLED + n], size)
        of_mics = [np.fft.irfft(dry * np.fft.rfft(of_mic[source], size)) for of_mic in self._responses]
        wet = np.stack([of_mic[SETTLED : SETTLED + n] for of_mic in of_mics], axis=1)
        return wet / max(float(wet.std()), 1e-9)


def towards(azimuth_deg: float, elevation_deg: float = 0.0) -> Points:
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def sound_of(kind: str, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """White noise, or one of the kinds of sound of the synthetic world."""
    if kind == "white":
        return rng.standard_normal(n + SETTLED)
    voice = list(VOICES)[rng.integers(len(VOICES))]
    return synthesise(voice, rng, (n + SETTLED) / RATE_HZ + 0.1).astype(np.float64)


def with_noise(signal: NDArray[np.float64], snr_db: float, rng: np.random.Generator) -> Audio:
    """Independent noise at each microphone is added."""
    noise = signal.std() * 10 ** (-snr_db / 20) * rng.standard_normal(signal.shape)
    return np.asarray(signal + noise, np.float32)


def rooms(
    mics_m: Points,
    rt60_s: float,
    snr_db: float,
    window_s: float,
    trials: range,
    kind: str,
    *,
    apart_deg: float | None = None,
    elevation_deg: float = 0.0,
) -> Iterator[tuple[list[float], Audio]]:
    """True azimuths in degrees and noisy window [n, mics] of each trial, of one source or of two of equal power."""
    n = int(window_s * RATE_HZ)
    for trial in trials:
        rng = np.random.default_rng([trial, round(10 * rt60_s), round(snr_db) + 100])
        azimuths_deg = [float(rng.uniform(-180.0, 180.0))]
        if apart_deg is not None:
            azimuths_deg.append((azimuths_deg[0] + apart_deg + 180.0) % 360.0 - 180.0)
        room = Room(mics_m, rt60_s, azimuths_deg, rng, elevation_deg)
        signal = sum(room.heard(k, sound_of(kind, rng, n), n) for k in range(len(azimuths_deg)))
        yield azimuths_deg, with_noise(np.asarray(signal), snr_db, rng)


Find = Callable[[Audio], float]


def ours(mics_m: Points) -> Find:
    finder = DirectionFinder(mics_m, RATE_HZ)

    def azimuth_deg(window: Audio) -> float:
        found = finder.find(window)
        return float("nan") if found is None else found.azimuth_deg

    return azimuth_deg


def theirs(name: str, mics_m: Points) -> Find:
    """A direction finder of pyroomacoustics on a grid of 360 azimuths, 300-4000 Hz, frames of 512."""
    grid = np.linspace(-np.pi, np.pi, 360, endpoint=False)

    def azimuth_deg(window: Audio) -> float:
        spectra = pra.transform.stft.analysis(window, 512, 256, win=pra.hann(512)).transpose(2, 1, 0)
        finder = pra.doa.algorithms[name](mics_m.T, RATE_HZ, 512, c=SPEED_OF_SOUND_MPS, num_src=1, azimuth=grid)
        finder.locate_sources(spectra, freq_range=[300, 4000])
        return float(np.degrees(finder.azimuth_recon[0]))

    return azimuth_deg


def error_deg(found_deg: float, truth_deg: Sequence[float], array: str) -> float:
    """To the nearest source; 180 for no answer."""
    if np.isnan(found_deg):
        return 180.0
    places = [place for truth in truth_deg for place in ((truth, 180.0 - truth) if array in MIRRORED else (truth,))]
    return min(abs((found_deg - place + 180.0) % 360.0 - 180.0) for place in places)


def accuracy(trials: range) -> None:
    print(f"azimuth error in degrees, median / 90 % quantile, and share within 5 degrees, of {len(trials)} trials")
    print(f"{'array':22} {'sound':6} {'RT60':>5} {'SNR':>4}   {'ours, 1 s windows':22}{'SRP-PHAT':22}{'NormMUSIC':22}")
    for array, mics_m in ARRAYS.items():
        finders = [ours(mics_m), theirs("SRP", mics_m), theirs("NormMUSIC", mics_m)]
        within: list[list[float]] = []
        for rt60_s in (0.0, 0.3, 0.6, 0.9):
            for snr_db, kind in ((20.0, "white"), (20.0, "kinds"), (5.0, "kinds"), (-5.0, "white")):
                made = list(rooms(mics_m, rt60_s, snr_db, 1.0, trials, kind))
                cells = ""
                within.append([])
                for find in finders:
                    errors = np.array([error_deg(find(window), truth, array) for truth, window in made])
                    median, high = np.quantile(errors, [0.5, 0.9])
                    within[-1].append(float(np.mean(errors <= 5)))
                    cells += f"{median:5.1f} /{high:5.1f} {within[-1][-1]:6.0%}    "
                print(f"{array:22} {kind:6} {rt60_s:4.1f}s {snr_db:4.0f}   {cells}", flush=True)
        pooled = "".join(f"{share:19.0%}    " for share in np.mean(within, axis=0))
        print(f"{array:22} all, within 5      {pooled}", flush=True)


def row(name: str, found: Sequence[Direction | None]) -> None:
    shares = [0.0 if direction is None else direction.confidence for direction in found]
    answered = np.mean([direction is not None for direction in found])
    quantiles = " / ".join(f"{q:.2f}" for q in np.quantile(shares, [0.1, 0.5, 0.9, 1.0]))
    print(f"{name:44} {answered:6.0%}   {quantiles}   {np.mean(np.array(shares) >= 0.1):6.0%}", flush=True)


def confidence(trials: range) -> None:
    """What is answered to noise alone, and with which confidence to one source."""
    print(f"\nwindows answered (none below {MIN_SHARE}); confidence, 10 % / 50 % / 90 % / most; share of 0.1 or more")
    for array in (SQUARE, PAIR, LINE, EIGHT):
        mics_m = ARRAYS[array]
        finder = DirectionFinder(mics_m, RATE_HZ)
        for window_s in (0.5, 1.0, 2.0):
            n = int(window_s * RATE_HZ)
            own = [
                np.random.default_rng(k).standard_normal((n, len(mics_m))).astype(np.float32)
                for k in range(4 * trials.start, 4 * trials.stop)
            ]
            row(f"{array}, independent noise, {window_s} s", [finder.find(window) for window in own])
            diffuse = BackgroundNoise(trials.start, mics_m, 0.1, own_share=0.05)
            row(
                f"{array}, diffuse noise, {window_s} s",
                [finder.find(diffuse.read(k * n, n)) for k in range(4 * len(trials))],
            )
            row(f"{array}, uneven field, {window_s} s", [finder.find(uneven(mics_m, n, k)) for k in trials])
    finder = DirectionFinder(SQUARE_M, RATE_HZ)
    for rt60_s in (0.0, 0.3, 0.6, 0.9):
        for snr_db in (20.0, 5.0, -5.0):
            made = rooms(SQUARE_M, rt60_s, snr_db, 2.0, trials, "kinds")
            row(f"{SQUARE}, kinds, RT60 {rt60_s} s, {snr_db:.0f} dB", [finder.find(window) for _, window in made])


def uneven(mics_m: Points, n: int, seed: int) -> Audio:
    """Noise from 48 random directions at once."""
    rng = np.random.default_rng([8, seed])
    f_hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    spectrum = np.zeros((len(f_hz), len(mics_m)), dtype=np.complex128)
    for _ in range(48):
        direction = rng.standard_normal(3)
        lead_s = mics_m @ (direction / np.linalg.norm(direction)) / SPEED_OF_SOUND_MPS
        spectrum += np.fft.rfft(rng.standard_normal(n))[:, None] * np.exp(2j * np.pi * f_hz[:, None] * lead_s)
    return np.fft.irfft(spectrum, n, axis=0).astype(np.float32)


def two_sources(trials: range) -> None:
    print(
        f"\ntwo sources of equal power, {SQUARE}, 20 dB, 1 s: within 5 degrees of either (ours, SRP-PHAT), confidence"
    )
    finder, srp = DirectionFinder(SQUARE_M, RATE_HZ), theirs("SRP", SQUARE_M)
    for rt60_s in (0.0, 0.3, 0.6):
        for apart_deg in (15.0, 30.0, 60.0, 90.0, 180.0):
            for kind in ("white", "kinds"):
                made = list(rooms(SQUARE_M, rt60_s, 20.0, 1.0, trials, kind, apart_deg=apart_deg))
                found = [finder.find(window) for _, window in made]
                right = [
                    direction is not None and error_deg(direction.azimuth_deg, truth, SQUARE) <= 5
                    for direction, (truth, _) in zip(found, made, strict=True)
                ]
                sure = [d is not None and d.confidence >= 0.1 for d in found]
                wrong = np.mean([s and not r for s, r in zip(sure, right, strict=True)])
                other = np.mean([error_deg(srp(window), truth, SQUARE) <= 5 for truth, window in made])
                shares = np.quantile([0.0 if d is None else d.confidence for d in found], [0.1, 0.5, 0.9])
                quantiles = " / ".join(f"{q:.2f}" for q in shares)
                print(
                    f"RT60 {rt60_s} s, {apart_deg:4.0f} apart, {kind:6} {np.mean(right):6.0%} {other:6.0%}   "
                    f"{quantiles}   0.1 or more and wrong {wrong:.0%}",
                    flush=True,
                )


def elevation(trials: range) -> None:
    print("\nelevation found, 10 % / 50 % / 90 %, 20 dB, 1 s of white noise")
    for array in (SQUARE, EIGHT, SOLID):
        finder = DirectionFinder(ARRAYS[array], RATE_HZ)
        for rt60_s in (0.0, 0.3, 0.6):
            for truth_deg in (0.0, 20.0, 40.0):
                made = rooms(ARRAYS[array], rt60_s, 20.0, 1.0, trials, "white", elevation_deg=truth_deg)
                found = [d.elevation_deg for _, window in made if (d := finder.find(window)) is not None]
                quantiles = " / ".join(f"{q:.0f}" for q in np.quantile(found, [0.1, 0.5, 0.9]))
                print(f"{array:22} RT60 {rt60_s} s, at {truth_deg:3.0f}: {quantiles}", flush=True)


@cache
def _long(array: str, rt60_s: float, seed: int, still: bool) -> Audio:
    """30 s of sounds, noise and pauses of 0 to 10 dB less, 20 dB over each microphone's own noise; from a place that
    changes every 3 s unless it is `still`.
    """
    rng = np.random.default_rng([seed, round(10 * rt60_s), 7])
    azimuths_deg = rng.uniform(-180.0, 180.0, 5)
    room = Room(ARRAYS[array], rt60_s, list(azimuths_deg), rng)
    n = 3 * RATE_HZ
    parts = []
    for _ in range(10):
        source = 0 if still else int(rng.integers(5))
        heard = room.heard(source, sound_of("white" if rng.random() < 0.3 else "kinds", rng, n), n)
        parts.append(heard * 10 ** (-rng.uniform(0, 10) / 20))
    return with_noise(0.05 * np.concatenate(parts), 20.0, rng)


def swapped(sound: Audio) -> Audio:
    return np.take(sound, [1, 0, *range(2, sound.shape[1])], axis=1)


def inverted(sound: Audio) -> Audio:
    return np.multiply(sound, np.where(np.arange(sound.shape[1]) == 1, -1, 1), dtype=np.float32)


def dead(sound: Audio) -> Audio:
    return np.multiply(sound, np.where(np.arange(sound.shape[1]) == 1, 1e-4, 1), dtype=np.float32)


def common(sound: Audio) -> Audio:
    """One channel's signal on all, 60 dB over their own noise."""
    noise = np.random.default_rng(0).standard_normal(sound.shape) * 1e-3 * sound.std()
    return np.asarray(sound[:, :1] + noise, np.float32)


def faults(trials: range) -> None:
    print(
        "\nfaults of the array in 30 s of sound, of every second seed from one place: runs in which told, after (median"
    )
    print("and longest); share of windows of 0.5 s with a direction of confidence 0.1 or more; what is told")
    alterations = (None, swapped, inverted, dead, common)
    for array in (SQUARE, EIGHT, PAIR, LINE):
        finder = DirectionFinder(ARRAYS[array], RATE_HZ)
        for rt60_s in (0.0, 0.3, 0.6, 0.9):
            for alter in alterations:
                told: set[str] = set()
                after_s, sure = [], []
                for seed in trials:
                    sound = _long(array, rt60_s, seed, seed % 2 == 0)
                    check, first_s = ArrayCheck(sound.shape[1], RATE_HZ, ARRAYS[array]), None
                    sound = sound if alter is None else alter(sound)
                    for at in range(0, len(sound), 800):
                        check.add(sound[at : at + 800])
                        if check.problem() and first_s is None:
                            first_s = (at + 800) / RATE_HZ
                            told.add(check.problem())
                    after_s += [] if first_s is None else [first_s]
                    found = [finder.find(sound[at : at + 8000]) for at in range(0, len(sound), 48000)]
                    sure += [d is not None and d.confidence >= 0.1 for d in found]
                when = f"{np.median(after_s):4.1f} s, {max(after_s):4.1f} s" if after_s else ""
                name = "healthy" if alter is None else alter.__name__
                print(
                    f"{array:22} RT60 {rt60_s} s {name:9} {len(after_s):3} of {len(trials)} {when:16} "
                    f"confident {np.mean(sure):4.0%} {sorted(told)[:2]}",
                    flush=True,
                )
        _long.cache_clear()


def cost() -> None:
    print("\nfind(), one window of 1 s, in ms, fastest of 100; construction once; ArrayCheck, a second of sound")
    for name, mics_m in ((PAIR, PAIR_M), (SQUARE, SQUARE_M), (EIGHT, ARRAYS[EIGHT])):
        window = np.random.default_rng(0).standard_normal((RATE_HZ, len(mics_m))).astype(np.float32)
        window += np.random.default_rng(1).standard_normal((RATE_HZ, 1)).astype(np.float32)
        begin = time.perf_counter()
        finder = DirectionFinder(mics_m, RATE_HZ)
        built = time.perf_counter() - begin
        check = ArrayCheck(len(mics_m), RATE_HZ, mics_m)
        found_s, checked_s = fastest(partial(finder.find, window)), fastest(partial(check.add, window))
        print(f"{name:22} {1e3 * found_s:6.2f}    (constructed in {1e3 * built:.0f}); check {1e3 * checked_s:.2f}")


def fastest(call: Callable[[], object]) -> float:
    spent = []
    for _ in range(100):
        begin = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begin)
    return min(spent)


TABLES: dict[str, Callable[[range], None]] = {
    "accuracy": accuracy,
    "confidence": confidence,
    "two": two_sources,
    "elevation": elevation,
    "faults": faults,
    "cost": lambda _: cost(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=24, help="trials per row")
    parser.add_argument("--seed", type=int, default=0, help="first seed; a trial uses one")
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES), help="tables to print")
    given = parser.parse_args()
    for name in given.only:
        TABLES[name](range(given.seed, given.seed + given.trials))


if __name__ == "__main__":
    main()
