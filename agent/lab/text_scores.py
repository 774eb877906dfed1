"""Scores of texts for single vectors: those that alerts compare with a query's threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.config.parse import Config
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.perceiving.findings import ScoredTick
from agent.perceiving.perception import Perception
from agent.query import MAX_TEXT, Query
from agent.vectors import Vectors
from agent.windows.window import Tick, Window
from drivers.driver import Modality


def text_scores(embedder: Embedder, texts: Sequence[str], windows: Sequence[tuple[Modality, Vectors]]) -> Vectors:
    """Return how each window's unit vector [D] scores for each text, float32 [windows, texts], 0 to 1.

    A text is put into the templates of queries and held against the built-in background prompts; one that a query could
    not be asked for is scored all the same. Pictures are scored as a whole. Raises QueryError.
    """
    perception = Perception(embedder, Config(name="texts", tree={}, sensors={}))
    ids = [f"t{number}" for number in range(len(texts))]
    for query_id, text in zip(ids, texts, strict=True):
        perception.add(Query(query_id, _askable(text), force=True), embedder)
    found = np.zeros((len(windows), len(texts)), np.float32)
    for row, (modality, vector) in zip(found, windows, strict=True):
        finding = next(iter(perception.perceive(_embedded(modality, vector))))
        assert isinstance(finding, ScoredTick)
        if finding.scores is not None:
            row[:] = [finding.scores.of(query_id)[modality] for query_id in ids]
    return found


def _askable(text: str) -> str:
    """Return a text on one line, as long as a query may be."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TEXT]


def _embedded(modality: Modality, vector: Vectors) -> Embedded:
    window = Window("window", modality, None, 0.0, 0, "")
    return Embedded(Tick(0, 0, {"window": window}, 0), {"window": vector}, {}, vector, 0.0, {})
