"""Arithmetic of embeddings (Girdhar 2023): a picture plus a sound, both in one space, as a query.

>>> for term in parse('0.5*image:beach.jpg + 0.5*audio:rain.wav - text:"a dog"', ["image", "audio", "text"]):
...     print(term)
Term(weight=0.5, kind='image', name='beach.jpg')
Term(weight=0.5, kind='audio', name='rain.wav')
Term(weight=-1.0, kind='text', name='a dog')
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

from common.errors import UserFault

if TYPE_CHECKING:
    from torch import Tensor

K = TypeVar("K", bound=str)

_JOINT: Final = re.compile(r"\s*([+-])\s*")
_WEIGHT: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*", re.ASCII)
_QUOTED: Final = re.compile(r"""\s*("[^"]+"|'[^']+')\s*(?=[+-]|$)""")
_BARE: Final = re.compile(r"""\s*(?!["'\s])((?:(?!\s-)[^+])+)""")
_CANCELLED: Final = 1e-5
"""Fraction of the summed weights: a shorter sum is the float32 remainder of vectors that cancel."""
_SHOWN: Final = 24


class CombinationError(UserFault, ValueError):
    """A combination cannot be read, or its terms cancel; one line with the place."""


@dataclass(frozen=True, slots=True)
class Term(Generic[K]):
    """One summand: `weight` times the unit vector of the input `kind`, `name`."""

    weight: float
    kind: K
    name: str


def parse(expression: str, kinds: Sequence[K]) -> list[Term[K]]:
    """The terms of `[WEIGHT*]KIND:NAME`, joined by + and -; without a weight it is 1.

    A bare name ends before a +, and before a - that follows a blank; in single or double quotes it may hold both.
    Raises CombinationError.
    """
    terms: list[Term[K]] = []
    place = 0
    while not terms or place < len(expression):
        term, place = _term(expression, place, kinds, first=not terms)
        terms.append(term)
    return terms


def combine(vectors: Tensor, weights: Sequence[float]) -> Tensor:
    """Normalise each of [n, D], weigh, sum, normalise: a unit vector [D], float32.

    Raises CombinationError when nothing but rounding is left of the sum.
    """
    import torch  # here: a combination is read without it
    import torch.nn.functional as F

    factors = vectors.new_tensor(weights, dtype=torch.float64)  # [n]
    shares = (factors / factors.abs().sum()).float()  # float32 ends at 3e38, weights do not
    total = shares @ F.normalize(vectors.float(), dim=-1)  # [D]
    if not total.norm() > _CANCELLED:
        raise CombinationError("combination: the terms cancel, nothing is left of their sum; change a weight")
    return F.normalize(total, dim=0)


def _term(expression: str, place: int, kinds: Sequence[K], *, first: bool) -> tuple[Term[K], int]:
    """The term at `place` with the sign before it, and the place after it."""
    weight = 1.0
    if joint := _JOINT.match(expression, place):
        weight, place = (-1.0 if joint[1] == "-" else 1.0), joint.end()
    elif first:
        place = len(expression) - len(expression.lstrip())
    else:
        _refuse(expression, place, "+ or -")
    if factor := _WEIGHT.match(expression, place):
        if not math.isfinite(float(factor[1])):
            _refuse(expression, place, "a weight that is not infinite")
        weight, place = weight * float(factor[1]), factor.end()
    kind = next((kind for kind in kinds if expression.startswith(f"{kind}:", place)), None)
    if kind is None:
        _refuse(expression, place, f"KIND:NAME or WEIGHT*KIND:NAME, KIND being one of {', '.join(kinds)}")
    place += len(kind) + 1
    quoted, bare = _QUOTED.match(expression, place), _BARE.match(expression, place)
    if quoted and quoted[1][1:-1].strip():
        return Term(weight, kind, quoted[1][1:-1]), quoted.end()
    if not bare:
        _refuse(expression, place, "a name, in quotes if it holds + or -")
    if another := re.search(rf"[\s*-](?:{'|'.join(kinds)}):", bare[1]):
        _refuse(expression, bare.start(1) + another.start(), "+ or -")
    return Term(weight, kind, bare[1].rstrip()), bare.end()


def _refuse(expression: str, place: int, expected: str) -> NoReturn:
    rest = expression[place:]
    found = f"{rest[:_SHOWN]!r}{'...' if len(rest) > _SHOWN else ''}" if rest else "its end"
    raise CombinationError(f"combination: at character {place + 1} expected {expected}; found {found}")
