"""ROS 2 messages as samples. Pure; knows no bag.

Sources: https://docs.ros.org/en/rolling/p/sensor_msgs (Image, CompressedImage, Imu and the names of encodings),
https://ros.org/reps/rep-0118.html (depth images), https://github.com/ros-perception/image_transport_plugins (the head
of a compressed depth image), https://github.com/ros-drivers/audio_common (AudioData).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.depth import depth_m
from drivers.driver import BadData, Modality
from drivers.image_file import check_pixels, read_jpeg, read_png
from drivers.imu.rows import Row, possible
from drivers.thermal import temperature_c

Picture = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

# Which channels of a pixel are red, green and blue.
_COLOURS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
}
_PLANES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_DEPTH_HEAD = struct.Struct("<iff")
"""Format, and A and B of depth_m = A / (count - B)."""


def picture(message: Any) -> Picture:
    """The picture of a sensor_msgs/Image: uint8 [H, W, 3] RGB, or uint16 or float32 [H, W]. Raises BadData."""
    encoding, height, width = message.encoding, message.height, message.width
    check_pixels(width, height)
    if encoding in _COLOURS:
        channels, order = _COLOURS[encoding]
        pixels = _rows(message, channels).reshape(height, width, channels)
        return np.ascontiguousarray(pixels[..., list(order)])
    if encoding in _PLANES:
        dtype = np.dtype(_PLANES[encoding]).newbyteorder(">" if message.is_bigendian else "<")
        plane: NDArray[Any] = _rows(message, dtype.itemsize).view(dtype)
        return plane.astype(dtype.newbyteorder("="))
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


def inertial_row(message: Any) -> Row:
    """Acceleration in m/s2 and rotation in rad/s of a sensor_msgs/Imu. Raises BadData when it has only one of them."""
    # Where a sensor has none, the first covariance is -1 by the definition of the message, and the value means nothing.
    for name in ("linear_acceleration", "angular_velocity"):
        if getattr(message, f"{name}_covariance")[0] == -1:
            raise BadData(f"no {name.replace('_', ' ')}")
    accel, gyro = message.linear_acceleration, message.angular_velocity
    row = (accel.x, accel.y, accel.z, gyro.x, gyro.y, gyro.z)
    if not possible(row):
        raise BadData("values that no inertial unit measures")
    return row


def sound(message: Any, channels: int) -> NDArray[np.float32]:
    """The rows, float32 [n, channels], of an AudioData of 16-bit little-endian samples. Raises BadData."""
    data = bytes(message.data)
    if not data or len(data) % (2 * channels):
        raise BadData(f"{len(data)} bytes, which are not whole rows of {channels} channels of 16 bits")
    pcm = np.frombuffer(data, "<i2").reshape(-1, channels)
    return pcm.astype(np.float32) / np.float32(32768)


def _rows(message: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """The bytes of the pixels, uint8 [H, W * pixel_bytes], without what pads the rows. Raises BadData."""
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if step < width * pixel_bytes or data.size != height * step:
        raise BadData(f"{data.size} bytes for {width}x{height} pixels of {message.encoding} in rows of {step} bytes")
    return np.ascontiguousarray(data.reshape(height, step)[:, : width * pixel_bytes])


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
