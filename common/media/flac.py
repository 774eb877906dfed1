"""Length of a FLAC file that does not state it, from the number of its last frame."""

from __future__ import annotations

from common.media.span import Data, Span

_STREAMINFO_AT = 8
_TOTAL_AT = _STREAMINFO_AT + 13
"""The low 4 bits of this byte and the next 4 bytes hold the number of rows; 0 is "unknown" (RFC 9639, 8.2)."""
_MAX_FRAME_BYTES = 2**20
_BLOCK_ROWS = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}


def look(data: Data) -> Span | None:
    """Return how to read a file that states no length; None if it states one, or none of its frames can be found."""
    first = _first_frame(data)
    if first is None or data[_TOTAL_AT] & 15 or any(data[_TOTAL_AT + 1 : _TOTAL_AT + 5]):
        return None
    sync, at = data[first : first + 2], len(data)
    while (at := data.rfind(sync, first, at)) >= 0:
        total = _rows_up_to(data, at)
        if total is not None:
            field = bytes([data[_TOTAL_AT] & 0xF0 | total >> 32 & 15]) + (total & 2**32 - 1).to_bytes(4, "big")
            return Span(0, len(data), ((_TOTAL_AT, field),))
    return None


def _first_frame(data: Data) -> int | None:
    """Offset behind the blocks of metadata."""
    if len(data) < _TOTAL_AT + 5 or data[:4] != b"fLaC":
        return None
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 128)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at if last and at + 2 <= len(data) else None


def _rows_up_to(data: Data, at: int) -> int | None:
    """Rows up to the end of the frame here, or up to its beginning if it was cut; None if there is no frame here."""
    head = data[at : at + 16]
    if len(head) < 16:
        return None
    size_code, n = head[2] >> 4, 4
    if size_code == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    number, used = _coded_number(head[n:])
    if not used:
        return None
    n += used
    if size_code in (6, 7):
        width = size_code - 5
        rows = int.from_bytes(head[n : n + width], "big") + 1
        n += width
    else:
        rows = _BLOCK_ROWS[size_code]
    n += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if n >= len(head) or _remainder(head[:n], 8, 0x07) != head[n]:
        return None
    usual = int.from_bytes(data[_STREAMINFO_AT + 2 : _STREAMINFO_AT + 4], "big")
    first_row = number if data[at + 1] & 1 else number * usual
    whole = len(data) - at <= _MAX_FRAME_BYTES and _remainder(data[at:], 16, 0x8005) == 0
    return first_row + rows if whole else first_row


def _coded_number(head: bytes) -> tuple[int, int]:
    """A number coded as UTF-8 codes characters, and its bytes; (0, 0) if it is not one."""
    lead = head[0]
    if lead < 0x80:
        return lead, 1
    count = 8 - (lead ^ 0xFF).bit_length()
    if not 2 <= count <= 7:
        return 0, 0
    value = lead & (0x7F >> count)
    for byte in head[1:count]:
        if byte >> 6 != 2:
            return 0, 0
        value = value << 6 | byte & 63
    return value, count


def _remainder(data: bytes, bits: int, polynomial: int) -> int:
    """The checksum of FLAC's frames: 8 bits over a header, 16 over a frame."""
    top, mask, value = 1 << (bits - 1), (1 << bits) - 1, 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
