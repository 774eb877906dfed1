"""How many times faster than real time the synthetic world renders on one core: `python benchmarks/synthetic.py`.

Each modality is timed alone, as in its own capture process, and then all together in one scene.
"""

from __future__ import annotations

import os

# One core: numpy's linear algebra reads this when it is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import cv2

from world.scene import Scene, SceneOptions

SEEDS = range(5)
SCENE_S = 10.0
FLOOR = 5.0

Render = Callable[[Scene, int], object]
MODALITIES: dict[str, tuple[Render, float]] = {
    "vision": (lambda scene, k: scene.image(k), 0.1),
    "depth": (lambda scene, k: scene.depth(k), 0.1),
    "thermal": (lambda scene, k: scene.thermal(k), 0.1),
    "audio": (lambda scene, k: scene.audio(800 * k, 800), 0.05),
    "imu": (lambda scene, k: scene.imu(20 * k, 20), 0.05),
    "truth": (lambda scene, k: scene.truth(0.1 * k), 0.1),
}
SENSORS = ("vision", "depth", "thermal", "audio", "imu")


def seconds(names: tuple[str, ...]) -> float:
    """Time to render SCENE_S of each seed, from making the scene on."""
    begin = time.perf_counter()
    for seed in SEEDS:
        scene = Scene(SceneOptions(seed=seed))
        for name in names:
            render, step_s = MODALITIES[name]
            for k in range(round(SCENE_S / step_s)):
                render(scene, k)
    return time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    wanted = len(SEEDS) * SCENE_S
    print(
        f"{len(SEEDS)} scenes of {SCENE_S:g} s, 320 x 240 at 10 fps, 4 microphones at 16 kHz, IMU at 400 Hz, one core"
    )
    print(f"{'':10} {'x real time':>12} {'ms per second':>14}")
    for name in MODALITIES:
        took = seconds((name,))
        print(f"{name:10} {wanted / took:12.1f} {1e3 * took / wanted:14.1f}")
    took = seconds(SENSORS)
    print(f"{'all five':10} {wanted / took:12.1f} {1e3 * took / wanted:14.1f}   (floor: {FLOOR:g} x)")


if __name__ == "__main__":
    main()
