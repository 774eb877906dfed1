"""Made-up examples, squares of a colour with a tone of their own, and a model small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.datasets.dataset import About, Classes, Example, Seen, write_index, write_shard
from models.imagebind import Sizes
from models.transformer import TowerSizes

COLOURS = {"fire": (230, 90, 20), "sea": (20, 90, 220), "tree": (30, 160, 40), "wall": (200, 200, 200)}
TONES_HZ = {"fire": 300.0, "sea": 700.0, "tree": 1500.0, "wall": 3500.0}
TINY = TowerSizes(32, 1, 2)
SIZES = Sizes(embedding_dim=16, vision=TINY, audio=TINY, depth=TINY, thermal=TINY, imu=TINY, text=TINY)


def moment(number: int) -> Example:
    """A square of the colour of its label, with its tone; the IMU turns."""
    rng = np.random.default_rng(number)
    label = list(COLOURS)[number % len(COLOURS)]
    frames = np.full((2, 64, 64, 3), 90, np.uint8)
    x, y = (int(v) for v in rng.integers(0, 24, 2))
    frames[:, y : y + 40, x : x + 40] = COLOURS[label]
    time_s = np.arange(32000) / 16000
    audio = (0.3 * np.sin(2 * np.pi * TONES_HZ[label] * time_s)).astype(np.float32)
    imu = np.zeros((2000, 6), np.float32)
    imu[:, 2], imu[:, 5] = 9.81, 0.3
    about = About(
        seen={label: Seen(((x, y, x + 40.0, y + 40.0),), (f"a {label}", f"a photo of a {label}"))},
        movement=("turning left",),
        heard=label,
        shown=True,
        motion="turning left",
    )
    depth_m, warm = np.full((64, 64), 2.0, np.float32), np.full((64, 64), 20.0 + number % 4, np.float32)
    return Example(f"{number:04d}", frames, audio, depth_m, warm, imu, about)


def write_moments(folder: Path) -> Path:
    """64 moments in two shards, and their classes."""
    for shard in range(2):
        write_shard(folder / f"{shard}.tar", (moment(32 * shard + i) for i in range(32)))
    phrases = {label: (f"a {label}",) for label in COLOURS}
    write_index(folder, Classes(phrases, phrases, {"turning left": ("turning left",)}, ("nothing",), ("nothing",)))
    return folder
