"""Pictures and sounds of moments as parts of the page, as far as there is room for them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from agent.backtest.page.moments import Picture, moment
from agent.backtest.report import Found

PICTURES_BYTES = 8_000_000
SOUNDS_BYTES = 8_000_000
"""Room in a page, so that a phone opens it: about a hundred and fifty pictures, some dozens of sounds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A moment's media as addresses that hold their contents; None if there are none, or no room for them."""

    picture: Picture | None
    picture_uri: str | None
    sound_uri: str | None


def media(
    queries: Sequence[Sequence[Found]], pictures_bytes: int = PICTURES_BYTES, sounds_bytes: int = SOUNDS_BYTES
) -> dict[Found, Shown]:
    """Look up hits in turn, the best of each query first, until there is no more room. Raises ReplayError."""
    shown = {}
    pictures, sounds = _Room(pictures_bytes), _Room(sounds_bytes)
    for found in _in_turn(queries):
        if pictures.full and sounds.full:
            break
        at = moment(found.recording.timeline, found.recording.config, found.peak_ns)
        picture = at.picture and pictures.take("image/jpeg", at.picture.jpeg)
        sound = at.sound and sounds.take("audio/flac", at.sound)
        shown[found] = Shown(at.picture if picture else None, picture or None, sound or None)
    return shown


class _Room:
    def __init__(self, left_bytes: int) -> None:
        self._left_bytes = left_bytes
        self.full = False

    def take(self, kind: str, contents: bytes) -> str | None:
        """Return contents as an address; None from the first on for which there is no room."""
        uri = f"data:{kind};base64,{base64.b64encode(contents).decode()}"
        self.full = self.full or len(uri) > self._left_bytes
        if self.full:
            return None
        self._left_bytes -= len(uri)
        return uri


def _in_turn(queries: Sequence[Sequence[Found]]) -> Iterator[Found]:
    for same_rank in zip_longest(*queries):
        yield from (found for found in same_rank if found is not None)
