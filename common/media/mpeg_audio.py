"""Frames of an MPEG audio file (MP3), counted: most such files do not state their length.

libsndfile takes the length from the Xing or Info frame that encoders put in front when they can come back to it. Of a
stream or a pipe it estimates the length by the first frame's size, and hands out no more than that: of a varying bit
rate perhaps a quarter. Frames say their size, so counting them is exact and decodes nothing.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache

from common.media.span import Data, Span

_KBPS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(MPEG version, layer) -> kbit/s by the header's index (ISO 11172-3, 13818-3); 0, "free format", is not counted."""
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Version bits -> rates; 2.5 (bits 0) is the encoders' own extension."""
_SAME = 0xFFFE_0C00
"""Bits of a header that every frame of one stream shares: sync, version, layer, rate."""
_ID3_BYTES = 10
_MARK = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]|ID3", re.DOTALL)
"""Bytes that can begin a frame or a tag."""


@dataclass(frozen=True, slots=True)
class _Form:
    key: int
    """Bits under _SAME."""
    rows: int
    """Rows a frame."""
    sizes: tuple[int, ...]
    """Bytes of a frame by its index of bit rates; 0 where that cannot be."""
    padding: int
    tag_at: int
    """Offset of Xing's mark in a frame without a checksum: after the side information."""
    mono_tag_at: int

    @classmethod
    def of(cls, header: int) -> _Form | None:
        return cls._of(header & _SAME)

    @classmethod
    @cache
    def _of(cls, header: int) -> _Form | None:
        version, layer, rate_index = header >> 19 & 3, 4 - (header >> 17 & 3), header >> 10 & 3
        if header >> 21 != 0x7FF or version == 1 or layer == 4 or rate_index == 3:
            return None
        rate_hz = _RATES_HZ[version][rate_index]
        generation = 1 if version == 3 else 2
        rows = 384 if layer == 1 else 576 if (layer, generation) == (3, 2) else 1152
        slot = 4 if layer == 1 else 1
        sizes = tuple(rows // 8 * kbps * 1000 // rate_hz // slot * slot for kbps in _KBPS[generation, layer])
        side, mono_side = (32, 17) if generation == 1 else (17, 9)
        return cls(header & _SAME, rows, (*sizes, 0), slot, 4 + side, 4 + mono_side)

    def size(self, header: int) -> int:
        """Bytes of the frame with this header; 0 if it is not one of this stream."""
        if header & _SAME != self.key:
            return 0
        plain = self.sizes[header >> 12 & 15]
        return plain + self.padding * (header >> 9 & 1) if plain else 0


@dataclass(slots=True)
class _Run:
    """Frames that follow each other without a gap."""

    form: _Form
    begin: int
    end: int = 0
    frames: int = 0
    largest: int = 0
    info_at: int = 0
    """Offset of the Xing or Info mark in its first frame; 0 without one."""


def begins(data: Data) -> bool:
    """Return whether a file may be MPEG audio; one with a tag in front may be another's."""
    if data[:3] == b"ID3":
        return _next_start(data, 0)[1] is not None and data.find(b"fLaC", tag := _behind_tag(data, 0), tag + 4) < 0
    return len(data) >= 4 and _Form.of(int.from_bytes(data[:4], "big")) is not None


def look(data: Data) -> list[Span]:
    """Return the stretches of whole frames, each to be decoded on its own; none if there are no frames.

    A stretch ends where something else than a frame comes, or the information frame of another file: what was cut out
    of a stream, or joined from files, is read to its end.
    """
    return [span for run in _runs(data) if (span := _span(data, run)) is not None]


def _runs(data: Data) -> list[_Run]:
    runs: list[_Run] = []
    at, run = 0, None
    while at + 4 <= len(data):
        header = int.from_bytes(data[at : at + 4], "big")
        size = run.form.size(header) if run else 0
        if run is not None and size and at + size <= len(data):
            mark = _info_at(data, at, run.form)
            if mark and run.frames:
                run = None
                continue
            run.info_at = run.info_at or mark
            at += size
            run.end, run.frames, run.largest = at, run.frames + 1, max(run.largest, size)
            continue
        if run is not None:
            run = None
        at, form = _next_start(data, at)
        if form is None:
            break
        run = _Run(form, at)
        runs.append(run)
    return [run for run in runs if run.frames]


def _next_start(data: Data, at: int) -> tuple[int, _Form | None]:
    """Offset and form of the next frame that another one follows, or the end of the data."""
    while True:
        at = _behind_tag(data, at)
        if at + 4 > len(data):
            return at, None
        header = int.from_bytes(data[at : at + 4], "big")
        form = _Form.of(header)
        size = form.size(header) if form else 0
        if form and size and _follows(data, at + size, form):
            return at, form
        at = _next_mark(data, at + 1)


def _behind_tag(data: Data, at: int) -> int:
    """Offset behind an ID3 tag, if one is here."""
    if data[at : at + 3] != b"ID3" or at + _ID3_BYTES > len(data):
        return at
    a, b, c, d = data[at + 6 : at + _ID3_BYTES]
    return at + _ID3_BYTES + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)


def _follows(data: Data, at: int, form: _Form) -> bool:
    return at == len(data) or (at + 4 <= len(data) and form.size(int.from_bytes(data[at : at + 4], "big")) > 0)


def _next_mark(data: Data, at: int) -> int:
    """Offset of the next byte that can begin a frame or a tag."""
    found = _MARK.search(data, at)
    return len(data) if found is None else found.start()


def _info_at(data: Data, at: int, form: _Form) -> int:
    """Offset of the mark of a Xing or Info frame, 0 if it is a frame of sound."""
    mono = data[at + 3] >> 6 == 3
    mark = at + (form.mono_tag_at if mono else form.tag_at)
    return mark if data[mark : mark + 4] in (b"Xing", b"Info") else 0


def _span(data: Data, run: _Run) -> Span | None:
    sound = run.frames - 1 if run.info_at else run.frames
    if run.info_at:
        flags, stated = struct.unpack_from(">II", data, run.info_at + 4)
        if flags & 1:
            # The encoder's delay and padding stand in this frame, so it stays, with the right count.
            patches = ((run.info_at + 8, struct.pack(">I", sound)),) if stated < sound else ()
            return Span(run.begin, run.end, patches)
    if not sound:
        return None
    begin = run.begin + (run.form.size(int.from_bytes(data[run.begin : run.begin + 4], "big")) if run.info_at else 0)
    return Span(begin, run.end, zeros=(sound + 2) * run.largest, rows=sound * run.form.rows)
