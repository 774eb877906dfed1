"""Pictures. The first byte says what: JPEG, PNG with the checksums of its chunks made right, or a raw frame."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from drivers.driver import BadData
from drivers.image_file import read_jpeg, read_png, write_jpeg, write_png
from drivers.png import read_png16
from drivers.raw16 import counts16
from fuzz import scratch

TOKENS = (
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda\x00\x0c",
    b"\xff\xc2\x00\x11",
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"acTL",
    b"PLTE",
)
PEAK_MB = 500.0
"""A picture of 8K, which is allowed, has 100 MB once decoded, and the decoder works on it."""

cv2.setNumThreads(1)


def one(data: bytes) -> None:
    """Decode."""
    kind, body = (data[0] if data else 0) % 5, data[1:]
    try:
        match kind:
            case 0:
                pixels = read_jpeg(body)
                assert pixels.dtype == np.uint8
                assert pixels.ndim == 3
            case 1:
                read_png(body)
            case 2:
                pixels = read_png(with_checksums(body))
                assert pixels.dtype in (np.uint8, np.uint16)
                assert pixels.ndim == 2 or pixels.shape[2] == 3
            case 3:
                read_png16(str(scratch.file("picture.png", with_checksums(body))))
            case 4 if len(body) > 2:
                frame = np.frombuffer(body[2:], np.uint8)
                counts = counts16(frame if len(frame) % 2 else frame.reshape(-1, 2), body[0], body[1])
                assert counts.shape == (body[1], body[0])
    except BadData:
        pass


def with_checksums(data: bytes) -> bytes:
    """The chunks of a PNG with right checksums; lengths are cut to what is there."""
    out, at = bytearray(data[:8]), 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        length = min(length, max(0, len(data) - at - 12))
        named = data[at + 4 : at + 8 + length]
        out += struct.pack(">I", length) + named + struct.pack(">I", zlib.crc32(named))
        at += 12 + length
    return bytes(out)


def seeds() -> list[bytes]:
    """Small pictures of each kind."""
    y, x = np.mgrid[0:12, 0:16]
    colour = np.stack([x * 16, y * 20, x + y], axis=2).astype(np.uint8)
    grey = (x * 4000 + y).astype(np.uint16)
    progressive = bytes(cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    png, png16 = write_png(colour), write_png(grey)
    alpha = bytes(cv2.imencode(".png", np.dstack([colour, colour[:, :, 0]]))[1])
    pictures = [b"\x00" + write_jpeg(colour), b"\x00" + progressive, b"\x01" + png, b"\x02" + png, b"\x02" + alpha]
    return [*pictures, b"\x02" + png16, b"\x03" + png16, b"\x04\x04\x02" + bytes(range(16))]
