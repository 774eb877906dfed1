"""ROS 2 messages as samples, and those of Foxglove that have the same fields. Pure; knows no bag.

Sources: https://docs.ros.org/en/rolling/p/sensor_msgs (Image, CompressedImage, Imu and the names of encodings),
https://ros.org/reps/rep-0118.html (depth images), https://github.com/ros-perception/image_transport_plugins (the head
of a compressed depth image), https://github.com/ros-drivers/audio_common (AudioData).
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.printable import shortened
from drivers.depth import depth_m
from drivers.driver import BadData, Modality
from drivers.image_file import check_pixels, read_jpeg, read_png, read_webp
from drivers.imu.rows import possible
from drivers.thermal import temperature_c

Vector = tuple[float, float, float]
Picture = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

# Type and number of the values of a pixel, and which are red, green and blue.
_COLOURS = {
    "rgb8": ("u1", 3, (0, 1, 2)),
    "bgr8": ("u1", 3, (2, 1, 0)),
    "8UC3": ("u1", 3, (2, 1, 0)),  # as OpenCV has them
    "rgba8": ("u1", 4, (0, 1, 2)),
    "bgra8": ("u1", 4, (2, 1, 0)),
    "8UC4": ("u1", 4, (2, 1, 0)),
    "mono8": ("u1", 1, (0, 0, 0)),
    "8UC1": ("u1", 1, (0, 0, 0)),
    "rgb16": ("u2", 3, (0, 1, 2)),
    "bgr16": ("u2", 3, (2, 1, 0)),
}
_PLANES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
# Bytes of a pixel in a row, rows in all per row of pixels, and the name of OpenCV's conversion.
_SUBSAMPLED = {
    "yuv422": (2, 1.0, "COLOR_YUV2RGB_UYVY"),
    "uyvy": (2, 1.0, "COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": (2, 1.0, "COLOR_YUV2RGB_YUY2"),
    "yuyv": (2, 1.0, "COLOR_YUV2RGB_YUY2"),
    "nv12": (1, 1.5, "COLOR_YUV2RGB_NV12"),
    "nv21": (1, 1.5, "COLOR_YUV2RGB_NV21"),
}
_BAYER = re.compile("bayer_(rggb|bggr|gbrg|grbg)(8|16)")
_FULL_16_BITS = 65535 // 255

_JPEG, _PNG, _WEBP = b"\xff\xd8", b"\x89PNG", b"RIFF"
_ZEROS = (0.0, 0.0, 0.0)
_DEPTH_HEAD = struct.Struct("<iff")
"""Format, and A and B of depth_m = A / (count - B)."""


class Inertial(NamedTuple):
    """Acceleration in m/s2 and rotation in rad/s; None for what was not measured."""

    accel: Vector | None
    gyro: Vector | None


def picture(message: Any) -> Picture:
    """The picture of a sensor_msgs/Image or foxglove.RawImage: uint8 [H, W, 3] RGB, or uint16 or float32 [H, W].

    Raises BadData.
    """
    encoding, height, width = message.encoding, message.height, message.width
    check_pixels(width, height)
    if encoding in _COLOURS:
        kind, channels, order = _COLOURS[encoding]
        pixels = _values(message, kind, channels).reshape(height, width, channels)
        return _as_8_bits(np.ascontiguousarray(pixels[..., list(order)]))
    if encoding in _PLANES:
        return _values(message, _PLANES[encoding])
    if encoding in _SUBSAMPLED:
        pixel_bytes, share, conversion = _SUBSAMPLED[encoding]
        if width % 2 or (share != 1 and height % 2):
            raise BadData(f"encoding {encoding!r} of {width}x{height} pixels; whole pairs were wanted")
        coded = _rows(message, pixel_bytes, round(height * share))
        return _converted(coded.reshape(len(coded), width, pixel_bytes), conversion)
    if mosaic := _BAYER.fullmatch(encoding):
        values = _values(message, "u1" if mosaic[2] == "8" else "u2")
        return _as_8_bits(_converted(values, f"COLOR_Bayer{mosaic[1].upper()}2RGB"))
    raise BadData(f"encoding {encoding!r}")


def compressed_picture(message: Any) -> Picture:
    """The picture of a sensor_msgs/CompressedImage, also of compressed depth; as `picture`. Raises BadData."""
    data = bytes(message.data)
    if "compressedDepth" in message.format:
        return _compressed_depth(message.format, data)
    if data.startswith(_JPEG):
        return read_jpeg(data)
    if data.startswith(_PNG):
        pixels = read_png(data)
        if pixels.ndim == 2 and pixels.dtype == np.uint8:
            colours: NDArray[np.uint8] = np.repeat(pixels[..., None], 3, axis=2)
            return colours
        if pixels.dtype == (np.uint16 if pixels.ndim == 2 else np.uint8):
            return pixels
    if data.startswith(_WEBP):
        return read_webp(data)
    raise BadData(f"format {message.format!r}")


def data_of(pixels: Picture, modality: Modality) -> NDArray[Any]:
    """Return a picture in the form of a sample of a modality. Raises BadData.

    Counts are millimetres, or hundredths of a kelvin. Depth that is not finite becomes 0, a missing reading.
    """
    if (modality == "vision") != (pixels.ndim == 3):
        raise BadData(f"a picture of {pixels.dtype} {list(pixels.shape)} where {modality} was wanted")
    if modality == "vision":
        return pixels
    if pixels.dtype == np.uint16:
        counts = pixels.astype(np.uint16, copy=False)
        if modality == "depth":
            return depth_m(counts)
        return temperature_c(counts)
    values = pixels.astype(np.float32, copy=False)
    return np.where(np.isfinite(values) & (values > 0), values, np.float32(0)) if modality == "depth" else values


def inertial(message: Any) -> Inertial:
    """Acceleration in m/s2 and rotation in rad/s of a sensor_msgs/Imu. Raises BadData for impossible values."""
    # Where a sensor has none, the first covariance is -1 by the definition of the message, and the value means nothing.
    accel, gyro = (
        None if getattr(message, f"{name}_covariance")[0] == -1 else (vector.x, vector.y, vector.z)
        for name, vector in (
            ("linear_acceleration", message.linear_acceleration),
            ("angular_velocity", message.angular_velocity),
        )
    )
    if not possible((*(accel or _ZEROS), *(gyro or _ZEROS))):
        raise BadData("values that no inertial unit measures")
    return Inertial(accel, gyro)


def pcm_bytes(data: Any) -> bytes:
    """The 16-bit values of an AudioData. Raises BadData for none, or for half of one."""
    found = bytes(data)
    if not found or len(found) % 2:
        raise BadData(f"{len(found)} bytes, which are not values of 16 bits")
    return found


def sound(data: bytes, channels: int) -> NDArray[np.float32]:
    """The rows, float32 [n, channels], of 16-bit little-endian samples. Raises BadData."""
    if not data or len(data) % (2 * channels):
        raise BadData(f"{len(data)} bytes, which are not whole rows of {channels} channels of 16 bits")
    pcm = np.frombuffer(data, "<i2").reshape(-1, channels)
    return pcm.astype(np.float32) / np.float32(32768)


def _values(message: Any, kind: str, channels: int = 1) -> NDArray[Any]:
    """The values of the pixels in the machine's byte order, [H, W * channels]. Raises BadData."""
    # Foxglove's pictures are little-endian by definition.
    dtype = np.dtype(kind).newbyteorder(">" if getattr(message, "is_bigendian", False) else "<")
    values: NDArray[Any] = _rows(message, dtype.itemsize * channels).view(dtype)
    return values.astype(dtype.newbyteorder("="))


def _rows(message: Any, pixel_bytes: int, height: int | None = None) -> NDArray[np.uint8]:
    """The bytes of the pixels, uint8 [H, W * pixel_bytes], without what pads the rows; `height` counts the rows that
    are stored. Raises BadData.
    """
    width, step, height = message.width, message.step, message.height if height is None else height
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if step < width * pixel_bytes or data.size != height * step:
        size = f"{width}x{message.height}"
        raise BadData(f"{data.size} bytes for {size} pixels of {message.encoding} in rows of {step} bytes")
    return np.ascontiguousarray(data.reshape(height, step)[:, : width * pixel_bytes])


def _converted(pixels: NDArray[Any], conversion: str) -> NDArray[Any]:
    """By OpenCV, whose name of the conversion is given. Raises BadData."""
    import cv2

    try:
        return np.asarray(cv2.cvtColor(pixels, getattr(cv2, conversion)))
    except cv2.error as error:
        raise BadData(f"a picture that cannot be converted: {shortened(str(error.err))}") from None


def _as_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        return np.rint(pixels / _FULL_16_BITS).astype(np.uint8)
    return pixels


def _compressed_depth(form: str, data: bytes) -> Picture:
    """A PNG of millimetres, or of inverse depth that the head tells the scale of."""
    if len(data) < _DEPTH_HEAD.size or not data.startswith(_PNG, _DEPTH_HEAD.size):
        raise BadData(f"format {form!r}, but no PNG")
    _, a, b = _DEPTH_HEAD.unpack_from(data)
    counts = read_png(data[_DEPTH_HEAD.size :])
    if counts.dtype != np.uint16 or counts.ndim != 2:
        raise BadData(f"format {form!r} in a PNG of {counts.dtype}")
    if form.startswith("16UC1"):
        return counts
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = a / (counts.astype(np.float64) - b)
    return np.where(counts > 0, inverse, 0.0).astype(np.float32)
