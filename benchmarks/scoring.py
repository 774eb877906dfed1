"""What queries cost a tick: scores, alerts, the event and its bytes, beside a message for each score, as it was.

    python benchmarks/scoring.py [--dimensions 128] [--queries 256]

Medians of the CPU time of one thread, of five modalities with one window each. The bars are of build + check + score:
0.5 ms for 256 queries and 12 ms for 10,000 of 1024 dimensions. 128 is the shipped nano's vector, 1024 ImageBind-Huge's.
The floor is the time to read the queries' vectors once from memory at the bandwidth measured here: no way of scoring
them all can be faster. `was` is what build and check cost when every score was a message that the check walked through.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from agent.embedding.model import Embedded
from agent.events import messages
from agent.events.filters import View
from agent.events.finite import non_finite
from agent.perceiving.alerts.book import AlertBook
from agent.perceiving.alerts.scoring import Scorer
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, StandingQuery
from agent.scores import Scores
from agent.windows.window import Tick, Window
from drivers.codec import MODALITY_VALUES
from drivers.driver import MODALITIES, Modality
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO

BACKGROUND = 43
LOGIT_SCALES: dict[Modality, float] = {"vision": 100.0, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
BARS_MS = {256: 0.5, 10_000: 12.0}
COLUMNS = (
    "queries", "D", "floor", "score", "build", "check", "sum", "bar", "was", "serialise", "filter", "alerts", "+ dense",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--queries", type=int, nargs="+", default=[10, 64, 256, 10_000])
    arguments = parser.parse_args()
    bandwidth = _bandwidth()
    print(f"memory reads at {bandwidth / 1e9:.1f} GB/s; milliseconds of CPU a tick")
    print(" ".join(f"{column:>9}" for column in COLUMNS))
    rng = np.random.default_rng(0)
    for dimensions in arguments.dimensions:
        for queries in arguments.queries:
            floor_ms = queries * dimensions * 4 / bandwidth * 1e3
            bar = f"{BARS_MS[queries]:g}" if queries in BARS_MS else ""
            score, build, check, was, *rest = _measure(rng, queries, dimensions)
            numbers = [f"{ms:.3f}" for ms in (floor_ms, score, build, check, score + build + check)]
            numbers += [bar, *(f"{ms:.3f}" for ms in (was, *rest))]
            print(" ".join(f"{text:>9}" for text in (str(queries), str(dimensions), *numbers)))


def _measure(rng: np.random.Generator, queries: int, dimensions: int) -> list[float]:
    """Score, build, check, the former way of building and checking, serialise, filter, alerts, dense."""
    table = QueryTable(max_queries=queries)
    background = dict.fromkeys(MODALITIES, _units(rng, BACKGROUND, dimensions))
    plain, dense = (Scorer(table, background, LOGIT_SCALES, dense=d) for d in (False, True))
    book = AlertBook(table)
    for i, vector in enumerate(_units(rng, queries, dimensions)):
        rivals = np.ones(BACKGROUND, dtype=np.bool_)
        rivals[i % 7] = i % 5 > 0  # some are held against fewer
        row = book.add(StandingQuery(Query(f"query-number-{i}", "a dog")))
        for scorer in (plain, dense):
            scorer.set(row, dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, rivals))
    vectors = {m: _units(rng, 1, dimensions) for m in MODALITIES}
    patches = _units(rng, 256, dimensions)
    embedded = _embedded(vectors)
    scores = plain.score(vectors)
    event = messages.embedding(embedded, scores)
    view = View(modalities=frozenset({int(MODALITY_AUDIO)}))
    ticks = iter(range(10**9))
    return [
        _median_ms(lambda: plain.score(vectors)),
        _median_ms(lambda: messages.embedding(embedded, scores)),
        _median_ms(lambda: non_finite(event)),
        _median_ms(lambda: _walked(_each_a_message(embedded, scores)), repeats=5),
        _median_ms(event.SerializeToString),
        _median_ms(lambda: view.apply(event).SerializeToString()),
        _median_ms(lambda: book.step(next(ticks) * 500_000_000, scores)),
        _median_ms(lambda: dense.score(vectors, patches), repeats=5),
    ]


def _embedded(vectors: dict[Modality, NDArray[np.float32]]) -> Embedded:
    windows = {m: Window(m, m, None, 0.0, 1, "") for m in MODALITIES}
    by_sensor = {str(m): rows[0] for m, rows in vectors.items()}
    return Embedded(Tick(1, 1, windows, 1), by_sensor, {}, by_sensor["vision"], 1.0, {})


def _each_a_message(embedded: Embedded, scores: Scores) -> pb.Event:
    """The former event."""
    event = messages.embedding(embedded)
    modalities = [MODALITY_VALUES[modality] for modality in scores.modalities]
    event.embedding.scores.extend(
        pb.QueryScore(query_id=query_id, modality=modality, score=score)
        for query_id, row in zip(scores.query_ids, scores.values.tolist(), strict=True)
        for modality, score in zip(modalities, row, strict=True)
    )
    return event


def _walked(message: Message) -> bool:
    """The former check, field by field."""
    for field, value in message.ListFields():
        if field.message_type:
            if not all(map(_walked, value if field.is_repeated else (value,))):
                return False
        elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE) and not math.isfinite(value):
            return False
    return True


def _units(rng: np.random.Generator, n: int, dimensions: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _median_ms(function: Callable[[], object], repeats: int = 50) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


def _bandwidth() -> float:
    """Bytes a second that a sum over an array larger than the caches reads."""
    data = np.ones(32_000_000, dtype=np.float32)
    return data.nbytes / (_median_ms(data.sum, repeats=5) / 1e3)


if __name__ == "__main__":
    main()
