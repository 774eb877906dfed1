"""What scoring and alerts cost per tick, by the number of queries. Prints a table; the bar is 1 ms for 10,000 queries.

    python benchmarks/scoring.py [--dimensions 128]

128 is the shipped nano's vector, 1024 ImageBind-Huge's. The floor is the time to read the queries' vectors once from
memory at the bandwidth measured here: no way of scoring them all can be faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.book import AlertBook
from agent.perceiving.alerts.scoring import Scorer
from agent.query import Query
from drivers.driver import MODALITIES, Modality

BACKGROUND = 43
LOGIT_SCALES: dict[Modality, float] = {"vision": 100.0, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--queries", type=int, nargs="+", default=[10, 1000, 10_000])
    arguments = parser.parse_args()
    bandwidth = _bandwidth()
    print(f"memory reads at {bandwidth / 1e9:.1f} GB/s; medians in milliseconds a tick of {len(MODALITIES)} modalities")
    print(f"{'queries':>8} {'D':>5} {'floor':>7} {'score':>7} {'+ dense':>8} {'alerts':>7}")
    rng = np.random.default_rng(0)
    for dimensions in arguments.dimensions:
        for queries in arguments.queries:
            floor_ms = queries * dimensions * 4 / bandwidth * 1e3
            score_ms, dense_ms, alerts_ms = _measure(rng, queries, dimensions)
            print(f"{queries:8} {dimensions:5} {floor_ms:7.3f} {score_ms:7.3f} {dense_ms:8.2f} {alerts_ms:7.3f}")


def _measure(rng: np.random.Generator, queries: int, dimensions: int) -> tuple[float, float, float]:
    background = _units(rng, BACKGROUND, dimensions)
    plain, dense = (Scorer(background, LOGIT_SCALES, dense=d) for d in (False, True))
    book = AlertBook(max_queries=queries)
    for i, vector in enumerate(_units(rng, queries, dimensions)):
        rivals = np.ones(BACKGROUND, dtype=np.bool_)
        rivals[i % 7] = i % 5 > 0  # some are held against fewer
        for scorer in (plain, dense):
            scorer.add(str(i), vector, rivals)
        book.add(Query(str(i), f"query {i}"))
    windows = {m: _units(rng, 1, dimensions) for m in MODALITIES}
    patches = _units(rng, 256, dimensions)
    scores = plain.score(windows)
    ticks = iter(range(10**9))
    return (
        _median_ms(lambda: plain.score(windows)),
        _median_ms(lambda: dense.score(windows, patches), repeats=5),
        _median_ms(lambda: book.step(next(ticks) * 500_000_000, scores)),
    )


def _units(rng: np.random.Generator, n: int, dimensions: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _median_ms(function: Callable[[], object], repeats: int = 50) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def _bandwidth() -> float:
    """Bytes a second that a sum over an array larger than the caches reads."""
    data = np.ones(32_000_000, dtype=np.float32)
    return data.nbytes / (_median_ms(data.sum, repeats=5) / 1e3)


if __name__ == "__main__":
    main()
