"""The texts of prompts and queries, embedded for perception by whoever runs the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from agent.embedding.requests import Texts, UnknownWords
from agent.vectors import Vectors
from drivers.driver import Modality

if TYPE_CHECKING:
    from agent.embedding.embedder import Embedder
    from agent.embedding.worker import Worker


class TextsOfModel:
    """Asks the model itself while it is being loaded, and the worker once that runs it.

    Not for the worker's own thread. Raises WorkerError when the worker takes no requests.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.worker: Worker | None = None
        """Once it runs the model."""

    def embed_texts(self, texts: Sequence[str], modality: Modality) -> Vectors:
        """Unit vectors float32 [n, D], for cosines with a modality's windows."""
        if self.worker is None:
            return self._embedder.embed_texts(texts, modality)
        return cast("Vectors", self.worker.ask(Texts(texts, modality)).result())

    def unknown_words(self, text: str) -> list[str]:
        """The words that the weights were never trained on."""
        if self.worker is None:
            return self._embedder.unknown_words(text)
        return cast("list[str]", self.worker.ask(UnknownWords(text)).result())

    def logit_scales(self, overrides: Mapping[Modality, float]) -> Mapping[Modality, float]:
        """The factor on the cosine of a window and a text, per modality."""
        return self._embedder.logit_scales(overrides)
