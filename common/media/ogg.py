"""Links of an Ogg file: streams that were joined one after the other, of which libsndfile reads the first."""

from __future__ import annotations

from common.media.span import Data, Span

_MARK = b"OggS\0"
"""With the only version there is."""
_HEAD_BYTES = 27
_FIRST_PAGE = 2
"""Flag of a page that begins a stream (RFC 3533)."""


def look(data: Data) -> list[Span]:
    """Return the links; a file of one stream, or of several side by side, is one link."""
    begins: list[int] = []
    at = data.find(_MARK)
    only_first_pages = False
    while at >= 0 and at + _HEAD_BYTES <= len(data):
        first = bool(data[at + 5] & _FIRST_PAGE)
        if first and not only_first_pages:
            begins.append(at)
        only_first_pages = first
        segments = data[at + 26]
        body = at + _HEAD_BYTES + segments
        end = body + sum(data[at + _HEAD_BYTES : body])
        at = end if data[end : end + len(_MARK)] == _MARK else data.find(_MARK, at + len(_MARK))
    return [Span(begin, end) for begin, end in zip(begins, [*begins[1:], len(data)], strict=False)]
