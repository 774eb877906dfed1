"""The words that a model was trained on, and a text read in them.

A model that saw few captions knows few words, and each of them only in the company that it had there. Such weights
bring a table of their meanings, `NAME.words.yaml` beside `NAME.safetensors`. A text that names one meaning is read as
the caption that stands for it, however it is put; a word that carries meaning and is not in the table is unknown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import UserFault
from common.yaml_file import YamlError, read_yaml

Stems = tuple[str, ...]

_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_POSSESSIVE: Final = re.compile(r"['\u2019](s|re|m|ve|ll|d)$")

_TEMPLATES: Final = """
    photo picture image video recording clip frame camera microphone blurry closeup see seen look like show shown appear
"""
_REQUESTS: Final = "tell alert warn notify let know watch detect spot notice recognise recognize find catch give"
_GRAMMAR: Final = """
    a an the this that these those it its some something any one there what which when whenever while if then please
    is are am was were be been being has have had do does did can could will would may might come came get got go going
    make made of in on at to into from by for as up out
    i me my mine we us our you your he his him she her they them their
"""
FILLERS: Final = frozenset(f"{_TEMPLATES} {_REQUESTS} {_GRAMMAR}".split())
"""Words of English, and of the templates around texts, that name nothing."""
_HEARING: Final = ("sound", "noise", "hear", "heard", "listen", "audible", "audio")
"""Words that name nothing beside others, but say that the rest is heard."""
_JOINTS: Final = ("and", "with", "beside", "plus", "near")
_MOST_NEAREST: Final = 3
_ALIKE: Final = 0.8
"""Share of letters that a misspelt word has in common with the known one."""


class VocabularyError(UserFault):
    """A table of words cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as a model understands it."""

    text: str
    """The text in the words of the captions that the model was trained on; as it is if the model knows all words."""
    unknown: tuple[str, ...] = ()
    """Words that carry meaning and that the model was never trained on, in this company."""
    nearest: tuple[str, ...] = ()
    """Known texts that are nearest to the unknown words."""
    knows: str = ""
    """One line on what the model knows; empty if that is not said."""
    left_out: tuple[str, ...] = ()
    """Words about which the model cannot tell anything, and without which the text means nearly the same."""
    mixed: tuple[str, ...] = ()
    """Captions of known meanings that the text relates to each other as no caption did."""

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Self:
        """Make one again from the plain values of `dataclasses.asdict`."""
        made: dict[str, Any] = {name: v if isinstance(v, str) else tuple(map(str, v)) for name, v in tree.items()}
        return cls(**made)


Words = Annotated[list[str], Field(max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Facet(_Strict):
    """Words of a meaning that is seen, heard or felt. `heads` name it alone, those of `beside` only beside a head."""

    caption: str
    heads: Words
    beside: Words = []


class _Meaning(_Strict):
    """Facets of a meaning; one is enough."""

    shown: _Facet | None = None
    heard: _Facet | None = None
    felt: _Facet | None = None


class _Table(_Strict):
    knows: str = ""
    synthetic: bool = False
    meanings: dict[str, _Meaning]
    left_out: Words = []
    near: dict[str, Words] = {}


@dataclass(frozen=True, slots=True)
class _Unit:
    """One word of a text, or some that are one in the table."""

    written: str
    stems: Stems


class Vocabulary:
    """The meanings that a model was trained on, by the words for them. Pure."""

    def __init__(self, table: Any) -> None:
        """Take plain values as they stand in a file. Raises VocabularyError."""
        try:
            checked = _Table.model_validate(table)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise VocabularyError(f"{where}: {first['msg']}") from None
        self.knows = checked.knows
        """One line on what the model knows; empty if that is not said."""
        self.synthetic = checked.synthetic
        """True if the model knows nothing of real pictures and sounds."""
        self._facets: dict[str, dict[str, _Facet]] = {}
        self._heads: dict[Stems, set[str]] = {}
        self._beside: dict[Stems, set[str]] = {}
        self._heard: dict[Stems, set[str]] = {}
        for name, meaning in checked.meanings.items():
            facets = {sense: facet for sense, facet in meaning if facet is not None}
            if not facets:
                raise VocabularyError(f"meanings.{name}: has neither `shown` nor `heard` nor `felt`")
            self._facets[name] = facets
            for sense, facet in facets.items():
                for words, of in ((facet.heads, self._heads), (facet.beside, self._beside)):
                    for stems in map(stems_of, words):
                        of.setdefault(stems, set()).add(name)
                        if sense == "heard":
                            self._heard.setdefault(stems, set()).add(name)
        self._left_out = {stems_of(words) for words in checked.left_out}
        self._near = {stems_of(word): meanings for word, meanings in checked.near.items()}
        known_captions = {facet.caption for facets in self._facets.values() for facet in facets.values()}
        for word, captions in checked.near.items():
            if others := set(captions) - known_captions:
                raise VocabularyError(f"near.{word}: {others.pop()!r} is not the caption of a meaning")
        known = (*self._heads, *self._beside, *self._left_out)
        self._longest = max(map(len, known), default=1)
        self._known = frozenset(known)

    def read(self, text: str) -> Reading:
        """Read a text in the words of the captions."""
        units = [unit for unit in self._units(text) if unit.stems not in _FILLER_STEMS]
        left_out = tuple(dict.fromkeys(unit.written for unit in units if unit.stems in self._left_out))
        units = [unit for unit in units if unit.stems not in self._left_out]
        content = [unit for unit in units if not (unit.stems in _HEARING_STEMS or unit.stems in _JOINT_STEMS)]
        hearing = any(unit.stems in _HEARING_STEMS for unit in units)
        content = content or [unit for unit in units if unit.stems not in _JOINT_STEMS]
        if meaning := self._single(content):
            return Reading(self._say(meaning, content, hearing), left_out=left_out)
        named = set().union(*(self._heads.get(unit.stems, set()) for unit in content))
        unknown = [unit for unit in content if not self._meanings(unit) & named]
        if unknown or not content:
            written = tuple(dict.fromkeys(unit.written for unit in unknown)) or (text.strip(),)
            return Reading(text, written, self._nearest(unknown, content), self.knows, left_out)
        if pair := self._pair(units):
            return Reading(pair, left_out=left_out)
        return Reading(text, left_out=left_out, mixed=tuple(self._parts(content, named)))

    def _units(self, text: str) -> list[_Unit]:
        """Cut a text into words, and take together those that are one in the table, the longest first."""
        words = [_POSSESSIVE.sub("", word) for word in _WORD.findall(text.lower())]
        stems = [stem(word) for word in words]
        units: list[_Unit] = []
        at = 0
        while at < len(words):
            longest = min(self._longest, len(words) - at)
            length = next((n for n in range(longest, 1, -1) if tuple(stems[at : at + n]) in self._known), 1)
            units.append(_Unit(" ".join(words[at : at + length]), tuple(stems[at : at + length])))
            at += length
        return units

    def _meanings(self, unit: _Unit) -> set[str]:
        """The meanings that a word may have a part in."""
        return self._heads.get(unit.stems, set()) | self._beside.get(unit.stems, set())

    def _single(self, content: Sequence[_Unit]) -> str:
        """The meaning that has a place for every word, and is named by one; empty if there is none."""
        if not content:
            return ""
        shared = set.intersection(*(self._meanings(unit) for unit in content))
        heads = {name: sum(name in self._heads.get(unit.stems, set()) for unit in content) for name in shared}
        found = [name for name in self._facets if heads.get(name)]
        return max(found, key=lambda name: heads[name], default="")

    def _pair(self, units: Sequence[_Unit]) -> str:
        """Two things that are seen together, as captions of pictures with several things have it; or empty."""
        joints = [i for i, unit in enumerate(units) if unit.stems in _JOINT_STEMS]
        if len(joints) != 1:
            return ""
        parts = [units[: joints[0]], units[joints[0] + 1 :]]
        names = [self._single(part) for part in parts]
        captions = [self._say(name, part, False) for name, part in zip(names, parts, strict=True) if name]
        shown = {facets["shown"].caption for facets in self._facets.values() if "shown" in facets}
        return " and ".join(captions) if len(captions) == 2 and shown.issuperset(captions) else ""

    def _parts(self, content: Sequence[_Unit], named: set[str]) -> list[str]:
        """The captions of what a text names, in the order of its words."""
        parts: dict[str, list[_Unit]] = {}
        for unit in content:
            heads = self._heads.get(unit.stems, set())
            among = heads & parts.keys() or self._meanings(unit) & parts.keys() or heads or self._meanings(unit) & named
            parts.setdefault(min(among), []).append(unit)
        return [self._say(name, units, False) for name, units in parts.items()]

    def _say(self, name: str, content: Iterable[_Unit], hearing: bool) -> str:
        """The caption of a meaning: of its sound if the words say so."""
        heard = hearing or any(name in self._heard.get(unit.stems, set()) for unit in content)
        return self._caption(name, "heard" if heard else "")

    def _caption(self, name: str, sense: str = "") -> str:
        facets = self._facets[name]
        return facets[sense if sense in facets else next(iter(facets))].caption

    def _nearest(self, unknown: Sequence[_Unit], content: Sequence[_Unit]) -> tuple[str, ...]:
        """Captions of what the table calls near, of what is spelt alike, and of what else the text names."""
        single = {stems[0]: sorted(found) for stems, found in self._heads.items() if len(stems) == 1}
        captions = [caption for unit in unknown for caption in self._near.get(unit.stems, [])]
        for unit in unknown:
            alike = difflib.get_close_matches(unit.stems[0], single, n=1, cutoff=_ALIKE)
            captions += [self._say(name, [_Unit(like, (like,))], False) for like in alike for name in single[like]]
        for unit in content:
            captions += [self._say(name, [unit], False) for name in sorted(self._heads.get(unit.stems, set()))]
        return tuple(dict.fromkeys(captions))[:_MOST_NEAREST]


def words_beside(weights: Path) -> Path:
    """Return the place of the table of a file of weights."""
    return weights.with_suffix(".words.yaml")


def vocabulary_of(weights: Path) -> Vocabulary | None:
    """The table beside a file of weights; None where there is none. Raises VocabularyError."""
    path = words_beside(weights)
    if not weights.is_file() or not path.is_file():
        return None
    try:
        return Vocabulary(read_yaml(path))
    except (YamlError, VocabularyError) as error:
        where = "" if isinstance(error, YamlError) else f"{path}: "
        raise VocabularyError(f"{where}{error}") from None


def content_words(words: Iterable[str]) -> list[str]:
    """Those of some words that carry meaning."""
    return [word for word in words if (stem(word),) not in _FILLER_STEMS]


def stems_of(words: str) -> Stems:
    """The stems of a word, or of several."""
    return tuple(stem(word) for word in _WORD.findall(words.lower()))


def stem(word: str) -> str:
    """Return what the forms of a word share. Crude on purpose: dogs, barking, barks, running and run must meet."""
    for ending in ("ing", "es", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    word = word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
    return f"{word[:-1]}y" if len(word) > 2 and word[-1] == "i" else word


_FILLER_STEMS: Final = frozenset(map(stems_of, FILLERS))
_HEARING_STEMS: Final = frozenset(map(stems_of, _HEARING))
_JOINT_STEMS: Final = frozenset(map(stems_of, _JOINTS))
