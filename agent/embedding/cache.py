"""Caches of the model's results: vectors of texts, and of pieces that came back.

Nothing is guessed: a text must be the same text, a piece must hold the same numbers. A hit returns the earlier result,
bit for bit. Both caches are bounded, and belong to one thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.embedding.inputs import Piece
from agent.vectors import Vectors

TEXTS_MAX = 4096
"""16 MB of the published model's vectors."""
CLIPS_KEPT = 64
"""Of one microphone. The oldest clip of a window of 10 s ends 8 s before it, which is 16 ticks of half a second."""
_GLANCE = 64
"""Values that are compared before all are."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """Lookups and hits of a cache since the start."""

    hits: int
    misses: int


class TextVectors:
    """Vectors of the texts that were asked for last; beyond `room` the one that waited longest goes."""

    def __init__(self, room: int = TEXTS_MAX) -> None:
        self._room = room
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._hits = self._misses = 0

    @property
    def reuse(self) -> Reuse:
        """Lookups and hits of texts."""
        return Reuse(self._hits, self._misses)

    def embed(self, texts: Sequence[str], compute: Callable[[list[str]], Vectors]) -> list[Vectors]:
        """A read-only vector [D] of every text; `compute` is called once, with the unknown ones, each once."""
        unknown = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        self._misses += len(unknown)
        self._hits += len(texts) - len(unknown)
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        if unknown:
            computed = compute(unknown)
            found.update((text, frozen(vector)) for text, vector in zip(unknown, computed, strict=True))
        for text in dict.fromkeys(texts):
            self._vectors[text] = found[text]
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._room:
            self._vectors.popitem(last=False)
        return [found[text] for text in texts]


@dataclass(slots=True, eq=False)
class Result:
    """Result of a piece: a vector, or the reason for its absence; neither until the model has run."""

    vector: Vectors | None = None
    patches: Vectors | None = None
    missing: str = ""

    @property
    def done(self) -> bool:
        """True if the model has run."""
        return self.vector is not None or bool(self.missing)


class RecentPieces:
    """The results of each sensor's newest pieces, found again by their content.

    A camera or depth sensor slower than the hop gives the same images to several ticks, and only to consecutive ones:
    the newest window is kept. The clips of a long audio window come back for as long as it reaches, so of these there
    are CLIPS_KEPT. Content is compared and not hashed: a glance at a few values tells most images that differ apart in
    microseconds, while a hash that is safe from collisions reads all of every image, milliseconds for a large one.

    A replay gives the same vectors each time, although their rounding depends on the batch that they were computed in:
    what is found depends on nothing but the ticks before. Requests, whose moment is not recorded, must stay out.
    """

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[Piece, Result]]] = {}
        self._hits = self._misses = 0

    @property
    def reuse(self) -> Reuse:
        """Lookups and hits of pieces."""
        return Reuse(self._hits, self._misses)

    def results(self, pieces: Sequence[Piece]) -> list[Result]:
        """For every piece of a window the result of the same content, or a new one, for the caller to fill in."""
        kept = self._kept.setdefault(pieces[0].sensor, deque())
        found = [self._result(kept, piece) for piece in pieces]
        while len(kept) > (CLIPS_KEPT if len(pieces) > 1 else 1):
            kept.popleft()
        return found

    def _result(self, kept: deque[tuple[Piece, Result]], piece: Piece) -> Result:
        for before, result in reversed(kept):
            if _same(before, piece):
                self._hits += 1
                return result
        self._misses += 1
        kept.append((piece, result := Result()))
        return result


def frozen(array: Vectors) -> Vectors:
    """The array, read-only: it is given to more than one reader."""
    array.flags.writeable = False
    return array


def _same(a: Piece, b: Piece) -> bool:
    return a.rate_hz == b.rate_hz and _same_values(a.data, b.data)


def _same_values(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    step = max(1, a.size // _GLANCE)
    return bool((a.flat[::step] == b.flat[::step]).all()) and np.array_equal(a, b)
