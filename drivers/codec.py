"""Samples to protobuf and back: the only place that builds sensor messages.

Sizes are checked against the bytes that came before anything is allocated; what does not fit raises BadData. Values are
carried as they are: whether they are finite is for whoever takes the sample to judge.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from drivers.driver import MODALITIES, BadData, Modality, Sample
from drivers.forms import FORMS, MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from protos.sensors_pb2 import AudioBlock, Image, ImuBlock, SensorSample
from protos.sensors_pb2 import Modality as ModalityValue

_IMU = FORMS["imu"]
_MAX_COUNT = 0xFFFF

PictureEncoding = Literal["raw", "jpeg", "png"]
"""`raw`: RGB8 or float32, lossless. `jpeg`: vision only. `png`: 8-bit RGB, or 16-bit counts of `scale`."""

MODALITY_VALUES: dict[Modality, ModalityValue.ValueType] = {
    "vision": ModalityValue.MODALITY_VISION,
    "audio": ModalityValue.MODALITY_AUDIO,
    "depth": ModalityValue.MODALITY_DEPTH,
    "thermal": ModalityValue.MODALITY_THERMAL,
    "imu": ModalityValue.MODALITY_IMU,
}
MODALITY_NAMES: dict[int, Modality] = {value: name for name, value in MODALITY_VALUES.items()}


def encode_sample(
    sensor: str,
    modality: Modality,
    sample: Sample,
    *,
    encoding: PictureEncoding = "raw",
    jpeg_quality: int = 90,
    scale: float = 1.0,
    offset: float = 0.0,
) -> SensorSample:
    """Build the message of a sample. Pictures go in `encoding`; audio and IMU rows as float32, lossless.

    `scale` and `offset` map the 16-bit counts of a depth or thermal PNG to metres or degrees Celsius:
    value = count * scale + offset.
    """
    message = SensorSample(sensor=sensor, t_ns=sample.t_ns, lost=sample.lost)
    match modality:
        case "vision":
            message.vision.CopyFrom(encode_colour(sample.data, encoding, jpeg_quality))
        case "depth":
            message.depth.CopyFrom(encode_plane(sample.data, encoding, scale, offset))
        case "thermal":
            message.thermal.CopyFrom(encode_plane(sample.data, encoding, scale, offset))
        case "audio":
            message.audio.CopyFrom(encode_audio(sample.data, sample.rate_hz))
        case "imu":
            message.imu.CopyFrom(ImuBlock(rate_hz=sample.rate_hz, data=_little_endian(sample.data, np.float32)))
    return message


def decode_sample(message: SensorSample) -> tuple[Modality, Sample]:
    """Return what a message carries. Raises BadData for one that is not a sample."""
    payload = message.WhichOneof("payload")
    rate_hz = 0.0
    match payload:
        case "vision":
            data: NDArray[Any] = decode_colour(message.vision)
        case "depth":
            data = decode_plane(message.depth)
        case "thermal":
            data = decode_plane(message.thermal)
        case "audio":
            data, rate_hz = decode_audio(message.audio)
        case "imu":
            data, rate_hz = decode_imu(message.imu)
        case _:
            raise BadData(f"sample without a payload; give one of {', '.join(MODALITIES)}")
    return payload, Sample(message.t_ns, data, rate_hz, message.lost)


def encode_colour(data: NDArray[np.uint8], encoding: PictureEncoding = "raw", jpeg_quality: int = 90) -> Image:
    """Build the message of an RGB picture, uint8 [H, W, 3]."""
    height, width = data.shape[:2]
    match encoding:
        case "raw":
            return Image(encoding=Image.ENCODING_RGB8, width=width, height=height, data=data.tobytes())
        case "jpeg":
            body = image_file.write_jpeg(data, jpeg_quality)
            return Image(encoding=Image.ENCODING_JPEG, width=width, height=height, data=body)
        case "png":
            body = image_file.write_png(data)
            return Image(encoding=Image.ENCODING_PNG, width=width, height=height, data=body)


def decode_colour(image: Image) -> NDArray[np.uint8]:
    """Return an RGB picture as uint8 [H, W, 3]. Raises BadData."""
    match image.encoding:
        case Image.ENCODING_RGB8:
            _check_size(image, 3)
            return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        case Image.ENCODING_JPEG:
            return _as_declared(image, image_file.read_jpeg(image.data))
        case Image.ENCODING_PNG:
            pixels = _as_declared(image, image_file.read_png(image.data))
            if pixels.dtype != np.uint8 or pixels.ndim != 3:
                raise BadData(f"PNG of {pixels.dtype} {list(pixels.shape)} came where 8-bit RGB was wanted")
            return pixels
        case _:
            raise BadData(f"vision in encoding {_encoding_name(image)}; send RGB8, JPEG or PNG")


def encode_plane(
    data: NDArray[np.float32], encoding: PictureEncoding = "raw", scale: float = 1.0, offset: float = 0.0
) -> Image:
    """Build the message of a depth map (metres) or thermal picture (degrees Celsius), float32 [H, W].

    As PNG, values are rounded to counts of `scale`; one that no 16-bit count stands for raises BadData.
    """
    height, width = data.shape
    if encoding == "raw":
        body = _little_endian(data, np.float32)
        return Image(encoding=Image.ENCODING_FLOAT32, width=width, height=height, data=body)
    if encoding == "jpeg":
        raise BadData("JPEG loses depth and temperature; use raw or png")
    counts = np.rint((data.astype(np.float64) - offset) / scale)
    if not np.all((counts >= 0) & (counts <= _MAX_COUNT)):
        raise BadData(f"values {data.min()}..{data.max()} do not fit 16-bit counts of {scale} from {offset}")
    body = image_file.write_png(counts.astype(np.uint16))
    return Image(encoding=Image.ENCODING_PNG, width=width, height=height, data=body, scale=scale, offset=offset)


def decode_plane(image: Image) -> NDArray[np.float32]:
    """Return a depth map or thermal picture as float32 [H, W], scaled. Raises BadData."""
    match image.encoding:
        case Image.ENCODING_FLOAT32:
            _check_size(image, 4)
            counts: NDArray[Any] = np.frombuffer(image.data, "<f4").reshape(image.height, image.width)
        case Image.ENCODING_MONO16:
            _check_size(image, 2)
            counts = np.frombuffer(image.data, "<u2").reshape(image.height, image.width)
        case Image.ENCODING_PNG:
            counts = _as_declared(image, image_file.read_png(image.data))
            if counts.dtype != np.uint16 or counts.ndim != 2:
                raise BadData(f"PNG of {counts.dtype} {list(counts.shape)} came where 16-bit grey was wanted")
        case _:
            raise BadData(f"depth or thermal in encoding {_encoding_name(image)}; send FLOAT32, MONO16 or PNG")
    scale = image.scale or 1.0
    if not (math.isfinite(scale) and math.isfinite(image.offset)):
        raise BadData(f"scale {scale} and offset {image.offset} must be finite")
    if scale == 1.0 and image.offset == 0.0:
        return counts.astype(np.float32)
    return (counts * scale + image.offset).astype(np.float32)


def encode_audio(data: NDArray[np.float32], rate_hz: float) -> AudioBlock:
    """Build the message of audio rows, float32 [n, channels] with full scale -1..1."""
    body = _little_endian(data, np.float32)
    return AudioBlock(encoding=AudioBlock.ENCODING_PCM_FLOAT32, rate_hz=rate_hz, channels=data.shape[1], data=body)


def decode_audio(block: AudioBlock) -> tuple[NDArray[np.float32], float]:
    """Return audio rows as float32 [n, channels], full scale -1..1, and their rate. Raises BadData."""
    rate_hz = _checked_rate(block.rate_hz)
    if not 1 <= block.channels <= MAX_CHANNELS:
        raise BadData(f"{block.channels} audio channels; 1 to {MAX_CHANNELS} are possible")
    match block.encoding:
        case AudioBlock.ENCODING_PCM_S16:
            rows = _rows(block.data, 2 * block.channels, "audio")
            pcm = np.frombuffer(block.data, "<i2").reshape(rows, block.channels)
            return pcm.astype(np.float32) / np.float32(32768), rate_hz
        case AudioBlock.ENCODING_PCM_FLOAT32:
            rows = _rows(block.data, 4 * block.channels, "audio")
            return np.frombuffer(block.data, "<f4").reshape(rows, block.channels).astype(np.float32), rate_hz
        case _:
            raise BadData(f"audio in encoding {block.encoding}; send PCM_S16 or PCM_FLOAT32")


def decode_imu(block: ImuBlock) -> tuple[NDArray[np.float32], float]:
    """Return IMU rows as float32 [n, 6] and their rate. Raises BadData."""
    rate_hz = _checked_rate(block.rate_hz)
    rows = _rows(block.data, _IMU.bytes_of(1), "IMU")
    return np.frombuffer(block.data, "<f4").reshape(rows, -1).astype(np.float32), rate_hz


def _little_endian(data: NDArray[Any], dtype: type[np.float32]) -> bytes:
    return data.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()


def _rows(data: bytes, row_bytes: int, what: str) -> int:
    rows, rest = divmod(len(data), row_bytes)
    if rest or not rows:
        raise BadData(f"{what} block of {len(data)} bytes is not one or more rows of {row_bytes} bytes")
    return rows


def _checked_rate(rate_hz: float) -> float:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise BadData(f"rate of {rate_hz} Hz; {MIN_RATE_HZ:g} to {MAX_RATE_HZ:.0f} Hz are possible")
    return rate_hz


def _check_size(image: Image, pixel_bytes: int) -> None:
    image_file.check_pixels(image.width, image.height)
    wanted = image.width * image.height * pixel_bytes
    if len(image.data) != wanted:
        raise BadData(f"picture of {image.width}x{image.height} needs {wanted} bytes but {len(image.data)} came")


def _as_declared(image: Image, pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    if (image.width or width, image.height or height) != (width, height):
        raise BadData(f"picture was declared {image.width}x{image.height} but its file holds {width}x{height}")
    return pixels


def _encoding_name(image: Image) -> str:
    known = image.encoding in Image.Encoding.values()
    return Image.Encoding.Name(image.encoding).removeprefix("ENCODING_") if known else str(image.encoding)
