"""The words around a query: the templates it is put into, and the background prompts it is held against.

A query is embedded in every template and the mean is normalised, as CLIP does for a class (Radford 2021, 3.1.4). Its
score is a softmax against background prompts (`scoring`): without them a score would have no zero. A background prompt
that says the same as the query is left out for that query, which would otherwise be set against itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.vectors import Vectors
from drivers.driver import MODALITIES, Modality
from models.vocabulary import stem

TEMPLATES: tuple[str, ...] = (
    "{}",
    "{}.",
    "a photo of {}.",
    "a picture of {}.",
    "a blurry photo of {}.",
    "a close-up photo of {}.",
    "a photo of {} in the distance.",
    "a video of {}.",
    "this is {}.",
    "there is {}.",
    "the sound of {}.",
    "a recording of {}.",
)

QUIET: tuple[str, ...] = (
    "nothing",
    "silence",
    "background noise",
    "white noise",
    "the hum of an empty room",
)
"""Background sounds of a microphone."""

SCENERY: tuple[str, ...] = (
    "an empty room",
    "an empty street",
    "a wall",
    "the floor",
    "the sky",
    "grass",
)

THINGS: tuple[str, ...] = (
    "a dog",
    "a dog barking",
    "rain",
    "rain falling",
    "sea waves",
    "a baby",
    "a baby crying",
    "a clock",
    "a clock ticking",
    "a person",
    "a person sneezing",
    "a helicopter",
    "a helicopter flying",
    "a chainsaw",
    "a chainsaw running",
    "a rooster",
    "a rooster crowing",
    "a fire",
    "a crackling fire",
    "a chair",
    "a box",
    "a tree",
    "a car",
    "music",
)
"""Ordinary things and sounds: the ten of ESC-10 (Piczak 2015), silent ones, and what most places have."""

MOTIONS: tuple[str, ...] = (
    "standing still",
    "driving forward",
    "turning left",
    "turning right",
    "bumping into something",
    "climbing a slope",
    "falling",
)
"""Motions that an IMU feels."""

BACKGROUND: tuple[str, ...] = QUIET + SCENERY + THINGS + MOTIONS
"""The bank that stands unless the configuration names another."""

# Words that name nothing: what is left of a text decides whether two texts say the same.
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        "a an the this that it its there some something someone and or is are be of in on at to into still forward "
        "robot photo picture video sound recording",
    )
)
_WORD = re.compile(r"[^\W_]+")


def in_templates(texts: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """Each text in every template."""
    # Not str.format: a query may hold braces.
    return [template.replace("{}", text) for text in texts for template in templates]


def embed_prompts(
    texts: Sequence[str], embed_texts: Callable[[list[str]], Vectors], templates: Sequence[str] = TEMPLATES
) -> Vectors:
    """Embed each text in every template; float32 [n, D] of unit vectors. `embed_texts` gives unit vectors [m, D]."""
    vectors = embed_texts(in_templates(texts, templates)).reshape(len(texts), len(templates), -1)
    mean = vectors.mean(axis=1)  # [n, D]
    pooled: Vectors = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return pooled


def by_modality(embed: Callable[[Modality], Vectors]) -> Mapping[Modality, Vectors]:
    """Vectors of the same texts for every modality; equal ones are one object, which is scored once."""
    distinct: list[Vectors] = []
    found: dict[Modality, Vectors] = {}
    for modality in MODALITIES:
        vectors = embed(modality)
        same = next((known for known in distinct if np.array_equal(known, vectors)), None)
        if same is None:
            distinct.append(vectors)
        found[modality] = vectors if same is None else same
    return found


def rivals(
    text: str, vector: Vectors, background: Sequence[str], background_vectors: Vectors, same_cosine: float = 0.97
) -> NDArray[np.bool_]:
    """Return the background prompts that a query is held against, bool [B].

    Left out are those that use the query's words (all words of one are among the other's: "a dog" and "a dog barking")
    and those whose vectors are closer to the query's than `same_cosine`. Raises ValueError when none remains.
    """
    words = _content(text)
    same_words = np.array([_says_the_same(words, _content(prompt)) for prompt in background], dtype=np.bool_)
    kept: NDArray[np.bool_] = ~same_words & (background_vectors @ vector < same_cosine)
    if not kept.any():
        raise ValueError(
            f"every background prompt says the same as the query {text!r}; add others to background_prompts"
        )
    return kept


def asks_for_quiet(text: str) -> bool:
    """Return whether a query asks for quiet or noise itself, which sound without meaning answers."""
    return any(_says_the_same(_content(text), _content(prompt)) for prompt in QUIET)


def _says_the_same(a: frozenset[str], b: frozenset[str]) -> bool:
    return bool(a and b) and (a <= b or b <= a)


def _content(text: str) -> frozenset[str]:
    """The stems of a text's words without fillers; all words where there is nothing but fillers."""
    words = _WORD.findall(text.lower())
    return frozenset(stem(w) for w in words if w not in _FILLERS) or frozenset(words)
