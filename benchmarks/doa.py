"""How exact, how sure and how quick the direction finder is: `python benchmarks/doa.py [--trials 24]`.

Rooms come from pyroomacoustics (image sources, 6 x 5 x 3 m, source 1.5 m away at the array's height); its own SRP-PHAT
and NormMUSIC run on the same signals. The last tables show what the limits for "no source" stand on, and the cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyroomacoustics as pra
from numpy.typing import NDArray

from agent.perceiving.localization.doa import MIN_SHARE, DirectionFinder
from world.acoustics import BackgroundNoise
from world.sounds import VOICES, synthesise

RATE_HZ = 16000
ROOM_M = np.array([6.0, 5.0, 3.0])
SQUARE_M = 0.0323 * np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])


def ring(mics: int, radius_m: float) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.arange(mics) / mics
    return radius_m * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def rooms(
    mics_m: NDArray[np.float64], rt60_s: float, snr_db: float, window_s: float, trials: int, sound: str
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """True azimuth in degrees and noisy window [n, mics] of each trial; `sound` is white or kinds."""
    rng = np.random.default_rng(0)
    absorption, order = pra.inverse_sabine(rt60_s, ROOM_M) if rt60_s else (1.0, 0)
    for trial in range(trials):
        azimuth_deg = float(rng.uniform(-180.0, 180.0))
        centre_m = ROOM_M * [0.5, 0.5, 0.4] + rng.uniform(-0.3, 0.3, 3)
        room = pra.ShoeBox(ROOM_M, fs=RATE_HZ, materials=pra.Material(absorption), max_order=min(order, 12))
        towards = np.array([np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg)), 0.0])
        length_s = window_s + 1.0
        white = rng.standard_normal(int(length_s * RATE_HZ))
        signal = white if sound == "white" else synthesise(list(VOICES)[trial % len(VOICES)], rng, length_s)
        room.add_source(centre_m + 1.5 * towards, signal=signal)
        room.add_microphone_array((centre_m + mics_m).T)
        room.simulate()
        window = room.mic_array.signals[:, 8000 : 8000 + int(window_s * RATE_HZ)].T
        window = window + window.std() * 10 ** (-snr_db / 20) * rng.standard_normal(window.shape)
        yield azimuth_deg, window.astype(np.float32)


def ours(mics_m: NDArray[np.float64]) -> Callable[[NDArray[np.float32]], float]:
    finder = DirectionFinder(mics_m, RATE_HZ)

    def azimuth_deg(window: NDArray[np.float32]) -> float:
        found = finder.find(window)
        return float("nan") if found is None else found.azimuth_deg

    return azimuth_deg


def theirs(name: str, mics_m: NDArray[np.float64]) -> Callable[[NDArray[np.float32]], float]:
    """A direction finder of pyroomacoustics on a grid of 360 azimuths, 300-4000 Hz, frames of 512."""
    grid = np.linspace(-np.pi, np.pi, 360, endpoint=False)

    def azimuth_deg(window: NDArray[np.float32]) -> float:
        spectra = pra.transform.stft.analysis(window, 512, 256, win=pra.hann(512)).transpose(2, 1, 0)
        finder = pra.doa.algorithms[name](mics_m.T, RATE_HZ, 512, c=343.0, num_src=1, azimuth=grid)
        finder.locate_sources(spectra, freq_range=[300, 4000])
        return float(np.degrees(finder.azimuth_recon[0]))

    return azimuth_deg


def accuracy(trials: int) -> None:
    print(f"azimuth error in degrees, median / 90 % quantile, and share within 5 degrees, of {trials} trials")
    print(f"{'array':22} {'sound':6} {'window':6} {'RT60':>5} {'SNR':>4}   {'ours':22}{'SRP-PHAT':22}{'NormMUSIC':22}")
    square, small, eight = "4 mics, 64.6 mm square", "4 mics, r 32.5 mm", "8 mics, r 50 mm"
    arrays = {square: SQUARE_M, small: ring(4, 0.0325), eight: ring(8, 0.05)}
    rows = [(square, "white", 1.0), (square, "kinds", 1.0), (square, "kinds", 2.0)]
    rows += [(small, "white", 2.0), (eight, "white", 2.0)]
    for array, sound, window_s in rows:
        mics_m = arrays[array]
        finders = [ours(mics_m), theirs("SRP", mics_m), theirs("NormMUSIC", mics_m)]
        for rt60_s, snr_db in ((0.0, 20.0), (0.3, 20.0), (0.3, 5.0), (0.6, 10.0)):
            truth, windows = zip(*rooms(mics_m, rt60_s, snr_db, window_s, trials, sound), strict=True)
            cells = ""
            for find in finders:
                azimuths = np.array([find(window) for window in windows])
                errors = np.nan_to_num(np.abs((azimuths - np.array(truth) + 180) % 360 - 180), nan=180.0)
                median, high = np.quantile(errors, [0.5, 0.9])
                cells += f"{median:5.1f} /{high:5.1f} {np.mean(errors <= 5):6.0%}    "
            print(f"{array:22} {sound:6} {window_s:4.0f} s {rt60_s:4.1f}s {snr_db:4.0f}   {cells}")


def confidence(trials: int) -> None:
    """What is answered to noise alone, and with which confidence to sources."""
    finder = DirectionFinder(SQUARE_M, RATE_HZ)
    print(f"\nwindows answered with a direction, and confidence (10 % / 50 % / 90 %); None below {MIN_SHARE}")

    def row(name: str, windows: list[NDArray[np.float32]]) -> None:
        found = [finder.find(window) for window in windows]
        shares = [0.0 if direction is None else direction.confidence for direction in found]
        answered = np.mean([direction is not None for direction in found])
        print(f"{name:34} {answered:6.0%}   " + " / ".join(f"{q:.2f}" for q in np.quantile(shares, [0.1, 0.5, 0.9])))

    for window_s in (0.5, 1.0, 2.0):
        n = int(window_s * RATE_HZ)
        diffuse = BackgroundNoise(1, SQUARE_M, 0.1, own_share=0.05)
        own = [np.random.default_rng(k).standard_normal((n, 4)).astype(np.float32) for k in range(4 * trials)]
        row(f"independent noise, {window_s} s", own)
        row(f"diffuse noise, {window_s} s", [diffuse.read(k * n, n) for k in range(4 * trials)])
    for rt60_s in (0.0, 0.3, 0.6):
        for snr_db in (20.0, 10.0, 5.0, 0.0):
            windows = [window for _, window in rooms(SQUARE_M, rt60_s, snr_db, 2.0, trials, "kinds")]
            row(f"kinds, 2 s, RT60 {rt60_s} s, {snr_db:.0f} dB", windows)


def cost() -> None:
    print("\ntime of find() in ms, one window of 2 s, median of 100; construction once")
    for name, mics_m in (("2 mics", SQUARE_M[:2]), ("4 mics", SQUARE_M), ("8 mics", ring(8, 0.05))):
        window = np.random.default_rng(0).standard_normal((2 * RATE_HZ, len(mics_m))).astype(np.float32)
        begin = time.perf_counter()
        finder = DirectionFinder(mics_m, RATE_HZ)
        built = time.perf_counter() - begin
        spent = []
        for _ in range(100):
            begin = time.perf_counter()
            finder.find(window)
            spent.append(time.perf_counter() - begin)
        print(f"{name:8} {1e3 * np.median(spent):6.2f}    (constructed in {1e3 * built:.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=24, help="trials per row")
    trials = parser.parse_args().trials
    accuracy(trials)
    confidence(trials)
    cost()


if __name__ == "__main__":
    main()
