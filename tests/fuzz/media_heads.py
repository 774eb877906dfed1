"""Heads of media files. The first byte says whose: WAV, MPEG audio, Ogg, FLAC or a video; decoders see none of it."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import soundfile

from common.media import aiff, container, flac, mpeg_audio, ogg, wav
from common.media.span import Span, SpanFile

TOKENS = (
    b"RIFF",
    b"RF64",
    b"ds64",
    b"fmt ",
    b"data",
    b"ID3\4\0\0",
    b"Xing",
    b"Info",
    b"\xff\xfb\x90\x64",
    b"OggS",
    b"\xff\xf8",
)


def one(data: bytes) -> None:
    """Look at a file of that kind, and read what is found through its span."""
    kind, body = (data[0] if data else 0) % 5, data[1:]
    spans: list[Span] = []
    match kind:
        case 0:
            head = wav.look(body)
            assert head is None or head.missing_bytes >= 0
            spans = [head.span] if head and head.span else []
        case 1:
            mpeg_audio.begins(body)
            spans = mpeg_audio.look(body)
            assert all(a.end <= b.begin for a, b in pairwise(spans))
            assert all(span.rows is None or 0 < span.rows <= 1152 * len(body) for span in spans)
            assert aiff.missing_rows(body) >= 0
        case 2:
            spans = ogg.look(body)
        case 3:
            spans = [span] if (span := flac.look(body)) else []
        case 4:
            found = container.look(body)
            assert all(0 <= found.first_time_s <= time_s for time_s in found.picture_times_s)
    for span in spans:
        assert 0 <= span.begin <= span.end <= len(body)
        whole = SpanFile(io.BytesIO(body), replace(span, zeros=min(span.zeros, 64)))
        size = whole.seek(0, io.SEEK_END)
        whole.seek(0)
        assert len(whole.read(size + 1)) == size


def timed(stream: int, count: int) -> bytes:
    """Head of a packet of an elementary stream, with its time in 1/90000 s."""
    stamp = bytes(
        [0x21 | count >> 29 & 14, count >> 22 & 255, 1 | count >> 14 & 254, count >> 7 & 255, 1 | count << 1 & 254]
    )
    return b"\0\0\1" + bytes([stream]) + b"\0\0\x80\x80\5" + stamp + bytes(32)


def transport_packet(pid: int, stream: int, count: int) -> bytes:
    """A packet of a transport stream that begins one of an elementary stream."""
    return (b"\x47" + bytes([0x40 | pid >> 8, pid & 255, 0x10]) + timed(stream, count)).ljust(188, b"\xff")


def seeds() -> list[bytes]:
    """A short sound in each form, and WAVs that do not state their sizes."""
    sound = np.sin(np.arange(4000) / 20) * 0.4

    def encoded(form: str) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 16_000, format=form)
        return buffer.getvalue()

    plain = encoded("WAV")
    at = plain.index(b"data") + 4
    unsized = plain[:at] + bytes(4) + plain[at + 4 :]
    mp3 = encoded("MP3")
    wavs = [plain, unsized, encoded("RF64"), plain[:at] + struct.pack("<I", 2**32 - 1) + plain[at + 4 :]]
    return [
        *(b"\0" + body for body in wavs),
        b"\1" + mp3,
        b"\1" + mp3[200:] + mp3,
        *(b"\2" + encoded("OGG") * n for n in (1, 2)),
        b"\3" + encoded("FLAC"),
        b"\4" + b"".join(transport_packet(pid, stream, 90_000 + 900 * pid) for pid, stream in ((80, 0xE0), (81, 0xC0))),
        b"\4\0\0\1\xba" + bytes(10) + timed(0xE0, 4500) + timed(0xC0, 900),
    ]
