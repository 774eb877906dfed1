"""What the first bytes of a video say of its container. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

LOOKED_AT_BYTES: Final = 2**21
_TEXT_BYTES: Final = 64
_PROGRAM_STREAM: Final = b"\0\0\1\xba"
_BARE_HEADS: Final = (b"\xff\xd8\xff", b"\0\0\0\1", b"\0\0\1\x09", b"\0\0\1\x67", b"\0\0\1\x40")
"""Motion JPEG; H.264 and H.265 by their first NAL units."""
_SYNC: Final = 0x47
_PACKETS: Final = ((188, 0), (192, 4), (204, 0))
"""Sizes of a transport stream's packets (plain, M2TS, with error correction), and the offset of the sync byte."""
_PACKET_BYTES: Final = 188
_CLOCK_HZ: Final = 90_000
_VIDEO_IDS: Final = frozenset((*range(0xE0, 0xF0), 0xFD))
_SOUND_IDS: Final = frozenset((*range(0xC0, 0xE0), 0xBD))
"""Stream ids of MPEG sound, and of private streams, which carry AC-3 (ISO 13818-1, table 2-22)."""


@dataclass(frozen=True, slots=True)
class Container:
    """Facts from the first LOOKED_AT_BYTES of a file."""

    is_text: bool
    """Whatever it is called, FFmpeg takes a list of other files for a video."""
    is_bare: bool
    """A stream of pictures without times."""
    is_program_stream: bool
    """MPEG-1 or -2 program stream."""
    has_clock: bool
    """Times are those of a clock that runs, as in transport and program streams: its zero says nothing."""
    picture_times_s: tuple[float, ...] = field(default=())
    """First times of pictures on that clock."""
    first_time_s: float = 0.0
    """The earliest time on that clock, of pictures or sound: the beginning of the file."""


def look(head: bytes) -> Container:
    """Tell the container of a file by its first bytes."""
    program = head.startswith(_PROGRAM_STREAM)
    packets = next(
        ((size, at) for size, at in _PACKETS if len(head) > at + size and head[at] == head[at + size] == _SYNC), None
    )
    times: list[tuple[bool, float]] = []
    if packets is not None:
        times = [time for at in _transport_starts(head, *packets) if (time := _time(head, at)) is not None]
    elif program:
        times = [time for at in _starts(head) if (time := _time(head, at)) is not None]
    return Container(
        is_text=_is_text(head[:_TEXT_BYTES]),
        is_bare=head.startswith(_BARE_HEADS),
        is_program_stream=program,
        has_clock=program or packets is not None,
        picture_times_s=tuple(time_s for is_picture, time_s in times if is_picture),
        first_time_s=min((time_s for _, time_s in times), default=0.0),
    )


def _is_text(head: bytes) -> bool:
    head = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((b"#EXTM3U", b"ffconcat", b"<")) or (
        bool(head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    )


def _transport_starts(head: bytes, size: int, sync_at: int) -> Iterator[int]:
    """Offsets in a transport stream where a packet of an elementary stream begins."""
    for packet in range(sync_at, len(head) - _PACKET_BYTES + 1, size):
        begins, has_payload = head[packet + 1] & 0x40, head[packet + 3] & 0x10
        if head[packet] == _SYNC and begins and has_payload:
            adaptation = 1 + head[packet + 4] if head[packet + 3] & 0x20 else 0
            yield packet + 4 + adaptation


def _starts(head: bytes) -> Iterator[int]:
    at = head.find(b"\0\0\1")
    while at >= 0:
        yield at
        at = head.find(b"\0\0\1", at + 3)


def _time(head: bytes, at: int) -> tuple[bool, float] | None:
    """(whether it is of a picture, presentation time in seconds) of the packet here; None if it has none."""
    packet = head[at : at + 32]
    if len(packet) < 32 or packet[:3] != b"\0\0\1" or packet[3] not in _VIDEO_IDS | _SOUND_IDS:
        return None
    if packet[6] >> 6 == 2:  # MPEG-2: flags, length of the header, time
        stamp = packet[9:14] if packet[7] & 0x80 else b""
    else:  # MPEG-1: stuffing, size of a buffer, time
        rest = packet[6:].lstrip(b"\xff")
        rest = rest[2:] if rest[:1] and rest[0] >> 6 == 1 else rest
        stamp = rest[:5] if rest[:1] and rest[0] >> 5 == 1 else b""
    if len(stamp) < 5:
        return None
    count = (stamp[0] >> 1 & 7) << 30 | stamp[1] << 22 | stamp[2] >> 1 << 15 | stamp[3] << 7 | stamp[4] >> 1
    return packet[3] in _VIDEO_IDS, count / _CLOCK_HZ
