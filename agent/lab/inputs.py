"""Inputs that `sensebind embed` compares, and what is found; values alone, so that their faults need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import UserFault
from models.arithmetic import Term
from models.modalities import Modality

Array = NDArray[np.float32]
Kind = Literal["text", "image", "video", "audio", "depth", "thermal", "imu"]

KINDS: Final[Mapping[Kind, Modality]] = {
    "text": "text",
    "image": "vision",
    "video": "vision",
    "audio": "audio",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}
"""Kinds of inputs that can be compared, and the encoder of each."""


class SimilarityError(UserFault):
    """A comparison cannot be made, or gives nothing; the message is one line."""


@dataclass(frozen=True, slots=True)
class Item:
    """A text, or the path of a file, as it was given."""

    kind: Kind
    name: str

    @property
    def modality(self) -> Modality:
        """Whose encoder takes it."""
        return KINDS[self.kind]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The items of one modality against those of another."""

    rows: Modality
    columns: Modality
    row_names: list[str]
    column_names: list[str]
    products: Array
    """[rows, columns] of the published outputs, with their logit scales."""
    cosines: Array
    """[rows, columns]"""
    softmax: Array
    """Softmax of the products, over the columns: which of them fits best, not whether any does."""
    scores: Array | None
    """[rows, columns] of texts in the columns, as alerts score a window; None without texts, or if not asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """A weighted sum of unit vectors."""

    terms: list[Term[Kind]]
    vector: Array
    """Unit vector [D]."""
    similarity: Array
    """Cosine with every item, [n]."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Vectors of the items, and the tables made of them."""

    model: str
    """Name of the model, and a short hash of its weights."""
    items: list[Item]
    vectors: Array
    """Unit vectors [n, D]."""
    tables: list[Table]
    """Every pair of modalities; pairs with text come first, and text stands in the columns."""
    combined: Combined | None
    unknown_words: list[str]
    """Words of the texts that the weights were never trained on."""
