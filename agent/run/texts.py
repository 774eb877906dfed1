"""The model's answers about one query, fetched before perception takes it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.vectors import Vectors
from drivers.driver import Modality
from models.vocabulary import Reading


@dataclass(frozen=True, slots=True)
class FetchedTexts:
    """Answers like the model, about the texts that it was asked about; so that perception never waits for it."""

    vectors: Mapping[Modality, Vectors]
    """Of the query's texts, for one modality of each space, float32 [n, D]."""
    reading: Reading

    def embed_texts(self, texts: Sequence[str], modality: Modality) -> Vectors:
        """Unit vectors float32 [n, D]. Raises ValueError for other texts than were fetched."""
        vectors = self.vectors[modality]
        if len(vectors) != len(texts):
            raise ValueError(f"{len(texts)} texts are asked for where {len(vectors)} were fetched")
        return vectors

    def read(self, text: str) -> Reading:  # noqa: ARG002  of the one query
        """Return how the model reads the query."""
        return self.reading
