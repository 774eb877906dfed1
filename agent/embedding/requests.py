"""Requests to the model beside ticks, as values, and their answers.

Values, so that they can be asked of a model in another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.vectors import Vectors
from drivers.driver import Modality
from models.vocabulary import Reading

Sound = tuple[NDArray[np.float32], float]
"""Audio rows [n, channels] with full scale -1..1, and their rate in Hz."""


class EmbedError(ValueError):
    """An input cannot be embedded. `field` names it as in EmbedRequest; the message is one line."""

    def __init__(self, message: str, field: str = "request") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts to be embedded. Answer: float32 [n, D]."""

    texts: Sequence[str]
    modality: Modality | None = None
    """Whose windows they are held against, where that is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """RGB pictures, uint8 [H, W, 3] each, to be embedded. Answer: float32 [n, D]. Raises EmbedError."""

    pictures: Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Sounds:
    """Audio to be embedded. Answer: float32 [n, D]. Raises EmbedError."""

    sounds: Sequence[Sound]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A text to be read in the words that the weights were trained on. Answer: its Reading."""

    text: str


Request = Texts | Pictures | Sounds | Read


@dataclass(frozen=True, slots=True, eq=False)
class EmbedAnswer:
    """Unit vectors, float32 [n, D] each, in the order of what was asked."""

    texts: NDArray[np.float32]
    images: NDArray[np.float32]
    audio: NDArray[np.float32]
    model: str


class Answers(Protocol):
    """A model that requests can be asked of."""

    def embed_texts(self, texts: Sequence[str], modality: Modality | None) -> Vectors:
        """Unit vectors float32 [n, D]."""
        ...

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Unit vectors float32 [n, D] of RGB pictures [H, W, 3]. Raises ValueError."""
        ...

    def embed_audio(self, recordings: Sequence[Sound]) -> Vectors:
        """Unit vectors float32 [n, D]. Raises ValueError."""
        ...

    def read(self, text: str) -> Reading:
        """Read a text in the words that the weights were trained on."""
        ...


def answer(model: Answers, request: Request) -> Vectors | Reading:
    """A model's answer to a request. Raises EmbedError, and whatever else the model raises."""
    match request:
        case Texts(texts, modality):
            return model.embed_texts(texts, modality)
        case Read(text):
            return model.read(text)
    try:
        match request:
            case Pictures(pictures):
                return model.embed_images(pictures)
            case Sounds(sounds):
                return model.embed_audio(sounds)
    except ValueError as error:
        raise EmbedError(str(error)) from None
