"""JPEG, PNG and WebP bytes to arrays and back, distrusting the bytes.

A picture's size is read from its header, and its end looked for, before the decoder sees it: a decode bomb or a
truncated file is refused instead of allocating for it or returning a picture that is half grey.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BadData

MAX_PIXELS = 7680 * 4320
"""Pixels of 8K UHD."""

MAX_DECODED_BYTES = 4 * MAX_PIXELS
"""133 MB: OpenCV decodes a PNG to one or four channels, of 8 or 16 bits."""

MAX_SCANS = 64
MAX_MARKERS = 4096
"""Real JPEG files have at most some dozens of each. A decoder goes over the whole picture once for every scan."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = 0
_WEBP_HEAD_BYTES = 30
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
# Start-of-frame markers hold the size; C4, C8 and CC in their range are other things (ITU-T T.81, table B.1).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}


def check_pixels(width: int, height: int) -> None:
    """Raise BadData for a picture without pixels, or with more than MAX_PIXELS."""
    if width < 1 or height < 1:
        raise BadData(f"picture of {width}x{height} pixels has none")
    if width * height > MAX_PIXELS:
        raise BadData(f"picture of {width}x{height} pixels is larger than the {MAX_PIXELS} pixels allowed")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a JPEG's frame header.

    Raises BadData, also when the end marker is missing, or when there are more pixels or scans than allowed.
    """
    if data[:2] != _SOI:
        raise BadData("not a JPEG file: it does not begin with FF D8")
    at = 2
    for _ in range(MAX_MARKERS):
        if at + 4 > len(data):
            break
        if data[at] != 0xFF:
            raise BadData(f"damaged JPEG: no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in _JPEG_FRAMES and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            check_pixels(width, height)
            # Cameras pad after the end marker, so it is looked for rather than expected last.
            if data.rfind(_EOI, at) < 0:
                raise BadData(f"truncated JPEG of {width}x{height}: no end marker in {len(data)} bytes")
            if (scans := data.count(_SOS, at)) > MAX_SCANS:
                raise BadData(f"JPEG of {width}x{height} in {scans} scans; at most {MAX_SCANS} are allowed")
            return width, height
        elif marker == _SOS[1]:
            break
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise BadData(f"damaged JPEG: no frame header in {min(at, len(data))} of {len(data)} bytes")


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a PNG whose every chunk is whole (length and CRC).

    Raises BadData, also when it holds more pixels or bytes than allowed.
    """
    if data[:8] != _PNG_SIGNATURE:
        raise BadData("not a PNG file: it does not begin with the PNG signature")
    size: tuple[int, int] | None = None
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BadData(f"damaged PNG: wrong checksum of chunk {kind!r} at byte {at}")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise BadData("damaged PNG: it does not begin with its header chunk")
            width, height, depth, colour = struct.unpack_from(">IIBB", data, at + 8)
            check_pixels(width, height)
            decoded = width * height * max(1, depth // 8) * (1 if colour == _PNG_GREY else 4)
            if decoded > MAX_DECODED_BYTES:
                raise BadData(
                    f"PNG of {width}x{height} pixels of {depth} bits needs {decoded} bytes once decoded, "
                    f"more than the {MAX_DECODED_BYTES} allowed"
                )
            size = width, height
        elif kind == b"IEND":
            return size
        at = end
    raise BadData(f"truncated PNG: it ends inside a chunk, after {len(data)} bytes")


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WebP picture that is whole by its own length.

    Raises BadData, also when it has more pixels than allowed. Source: RFC 9649, section 2.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < _WEBP_HEAD_BYTES:
        raise BadData("not a WebP file: it does not begin as one")
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise BadData(f"truncated WebP: it ends after {len(data)} bytes")
    match data[12:16]:
        case b"VP8X":
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
        case kind:
            raise BadData(f"WebP of the unknown kind {kind!r}")
    check_pixels(width, height)
    return width, height


def read_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG to RGB, uint8 [H, W, 3]; an orientation tag is not applied. Raises BadData."""
    import cv2

    return _read(data, jpeg_size(data), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def read_png(data: bytes) -> NDArray[Any]:
    """Decode a PNG to what it holds: uint8 or uint16, [H, W] grey or [H, W, 3] RGB. Raises BadData."""
    import cv2

    pixels = _read(data, png_size(data), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels[:, :, 2::-1])  # BGR or BGRA
    return pixels


def read_webp(data: bytes) -> NDArray[np.uint8]:
    """Decode a WebP picture, without its transparency, to RGB, uint8 [H, W, 3]. Raises BadData."""
    import cv2

    return _read(data, webp_size(data), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def write_jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encode RGB, uint8 [H, W, 3]."""
    import cv2

    return _write(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])


def write_png(pixels: NDArray[Any]) -> bytes:
    """Encode RGB uint8 [H, W, 3], or grey uint8 or uint16 [H, W]; lossless."""
    return _write(".png", pixels, [])


def _read(data: bytes, size: tuple[int, int], flags: int) -> NDArray[Any]:
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadData(f"picture of {size[0]}x{size[1]} cannot be decoded: {error.err}") from None
    if pixels is None or (pixels.shape[1], pixels.shape[0]) != size:
        raise BadData(f"picture of {size[0]}x{size[1]} cannot be decoded from its {len(data)} bytes")
    return pixels


def _write(extension: str, pixels: NDArray[Any], parameters: list[int]) -> bytes:
    import cv2

    check_pixels(pixels.shape[1], pixels.shape[0])
    done, data = cv2.imencode(extension, pixels[:, :, ::-1] if pixels.ndim == 3 else pixels, parameters)
    if not done:
        raise BadData(f"pixels of {pixels.dtype} {list(pixels.shape)} cannot be written as {extension}")
    return bytes(data)
