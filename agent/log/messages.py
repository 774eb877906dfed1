"""Samples as the messages of a log, and back. Pure.

Pictures and audio are in Foxglove's schemas, so that viewers show them: vision as JPEG, PNG or raw RGB, depth and
thermal as 16-bit PNG or raw float32, audio as 16-bit PCM. IMU rows are in ours, lossless. So is what those schemas
cannot hold (a value beyond 16 bits or not finite, audio beyond full scale or at a broken rate): on the topic
`/sensors_raw/<name>`, as float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from agent.config.recording import PictureFormat
from agent.log.format import RAW_TOPIC, SENSORS_TOPIC, LoggedSensor
from drivers import codec
from drivers.driver import BadData, Sample
from drivers.forms import FORMS, MAX_RATE_HZ, MIN_RATE_HZ
from protos.sensors_pb2 import AudioBlock, Image, ImuBlock, SensorSample

IMAGE_SCHEMA: str = CompressedImage.DESCRIPTOR.full_name
RAW_IMAGE_SCHEMA: str = RawImage.DESCRIPTOR.full_name
AUDIO_SCHEMA: str = RawAudio.DESCRIPTOR.full_name
SAMPLE_SCHEMA: str = SensorSample.DESCRIPTOR.full_name

_CLASSES: dict[str, type[Message]] = {
    IMAGE_SCHEMA: CompressedImage,
    RAW_IMAGE_SCHEMA: RawImage,
    AUDIO_SCHEMA: RawAudio,
    SAMPLE_SCHEMA: SensorSample,
}
_PCM_S16 = "pcm-s16"
_FULL_SCALE = 32768
_IMU_ROW_BYTES = FORMS["imu"].bytes_of(1)
_RGB, _FLOAT32 = "rgb8", "32FC1"
_AS_USUAL = PictureFormat()


def encode(name: str, sensor: LoggedSensor, sample: Sample, pictures: PictureFormat = _AS_USUAL) -> tuple[str, Message]:
    """Return the topic and the message of a sample. Raises BadData for a time before 1970."""
    if sample.t_ns < 0:
        raise BadData(f"a capture time of {sample.t_ns} ns cannot be stored; it must not be before 1970")
    if sensor.modality == "imu":
        return SENSORS_TOPIC + name, codec.encode_sample(name, "imu", sample)
    try:
        return SENSORS_TOPIC + name, _encode_foxglove(name, sensor, sample, pictures)
    except BadData:
        return RAW_TOPIC + name, codec.encode_sample(name, sensor.modality, sample)


def decode(schema: str, sensor: LoggedSensor, t_ns: int, data: bytes) -> Sample:
    """Return the sample that a message of a sensor carries, with nothing `lost`. Raises BadData."""
    return sample_of(parse(schema, data), sensor, t_ns)


def parse(schema: str, data: bytes) -> Message:
    """Return the message of a sample, its picture or rows still encoded. Raises BadData."""
    if schema not in _CLASSES:
        raise BadData(f"a message of {schema}; wanted {', '.join([*_CLASSES][:-1])} or {[*_CLASSES][-1]}")
    try:
        return _CLASSES[schema].FromString(data)
    except DecodeError as error:
        raise BadData(f"not a message of {schema}: {error}") from None


def sample_of(message: Message, sensor: LoggedSensor, t_ns: int) -> Sample:
    """Return the sample that a parsed message of a sensor carries, with nothing `lost`. Raises BadData."""
    match message:
        case SensorSample():
            _, sample = codec.decode_sample(message)
            return Sample(t_ns, sample.data, sample.rate_hz)
        case RawAudio():
            rows, rate_hz = decode_audio(message)
            return Sample(t_ns, rows, rate_hz)
        case CompressedImage():
            return Sample(t_ns, _decode_picture(message, sensor))
        case RawImage():
            return Sample(t_ns, _decode_raw(message, sensor))
        case _:
            raise TypeError(f"{type(message).__name__} is not a message of `parse`")


def end_ns(schema: str, t_ns: int, data: bytes) -> int:
    """Return the time at which a sample exists: that of its last row; `t_ns` for a picture and what is not a sample."""
    if schema not in (AUDIO_SCHEMA, SAMPLE_SCHEMA):
        return t_ns
    try:
        message = parse(schema, data)
    except BadData:
        return t_ns
    row_bytes, rate_hz, block = 1, 0.0, b""
    match message:
        case RawAudio():
            row_bytes, rate_hz, block = 2 * message.number_of_channels, float(message.sample_rate), message.data
        case SensorSample(imu=ImuBlock() as imu) if message.HasField("imu"):
            row_bytes, rate_hz, block = _IMU_ROW_BYTES, imu.rate_hz, imu.data
        case SensorSample(audio=AudioBlock() as audio) if message.HasField("audio"):
            value_bytes = 2 if audio.encoding == AudioBlock.ENCODING_PCM_S16 else 4
            row_bytes, rate_hz, block = value_bytes * audio.channels, audio.rate_hz, audio.data
    known = row_bytes and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ
    return t_ns + round(len(block) // row_bytes * 1e9 / rate_hz) if known else t_ns


def picture_body(message: Message) -> bytes:
    """Return the encoded pixels of a parsed message, without stamps. Raises BadData for what is not a picture."""
    body: bytes
    if isinstance(message, CompressedImage | RawImage):
        body = message.data
        return body
    payload = message.WhichOneof("payload") if isinstance(message, SensorSample) else None
    if payload not in FORMS or not FORMS[payload].image_like:
        raise BadData(f"a message of {message.DESCRIPTOR.full_name} where a picture was wanted")
    body = getattr(message, payload).data
    return body


def _encode_foxglove(name: str, sensor: LoggedSensor, sample: Sample, pictures: PictureFormat) -> Message:
    """Raises BadData when the schema cannot hold the values."""
    stamp = Timestamp()
    stamp.FromNanoseconds(sample.t_ns)
    if sensor.modality == "audio":
        return _encode_audio(stamp, sample)
    colour = sensor.modality == "vision"
    form = pictures.colour if colour else pictures.plane
    if form == "raw":
        return _encode_raw(stamp, name, sample.data, _RGB if colour else _FLOAT32)
    if colour:
        picture = codec.encode_colour(sample.data, form, pictures.jpeg_quality)
    else:
        picture = codec.encode_plane(sample.data, form, sensor.scale, sensor.offset)
    return CompressedImage(timestamp=stamp, frame_id=name, data=picture.data, format=form)


def _encode_raw(stamp: Timestamp, name: str, data: NDArray[Any], encoding: str) -> RawImage:
    height, width = data.shape[:2]
    little = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    return RawImage(
        timestamp=stamp,
        frame_id=name,
        width=width,
        height=height,
        encoding=encoding,
        step=little.strides[0],
        data=little.tobytes(),
    )


def _encode_audio(stamp: Timestamp, sample: Sample) -> RawAudio:
    if not sample.rate_hz.is_integer() or not np.all(np.abs(sample.data) <= 1):
        raise BadData("not 16-bit audio at a whole rate")
    counts = np.clip(np.rint(sample.data * np.float32(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1)
    return RawAudio(
        timestamp=stamp,
        data=counts.astype("<i2").tobytes(),
        format=_PCM_S16,
        sample_rate=int(sample.rate_hz),
        number_of_channels=sample.data.shape[1],
    )


def decode_audio(message: RawAudio) -> tuple[NDArray[np.float32], float]:
    """Return audio rows, float32 [n, channels], and their rate. Raises BadData."""
    if message.format != _PCM_S16:
        raise BadData(f"audio in format {message.format!r}; only {_PCM_S16!r} is known")
    return codec.decode_audio(
        AudioBlock(
            encoding=AudioBlock.ENCODING_PCM_S16,
            rate_hz=message.sample_rate,
            channels=message.number_of_channels,
            data=message.data,
        )
    )


def _decode_picture(message: CompressedImage, sensor: LoggedSensor) -> NDArray[Any]:
    match sensor.modality, message.format:
        case "vision", "jpeg":
            return codec.decode_colour(Image(encoding=Image.ENCODING_JPEG, data=message.data))
        case "vision", "png":
            return codec.decode_colour(Image(encoding=Image.ENCODING_PNG, data=message.data))
        case "depth" | "thermal", "png":
            png = Image(encoding=Image.ENCODING_PNG, data=message.data, scale=sensor.scale, offset=sensor.offset)
            return codec.decode_plane(png)
        case _:
            raise BadData(f"{sensor.modality} in format {message.format!r}; vision is jpeg or png, the others png")


def _decode_raw(message: RawImage, sensor: LoggedSensor) -> NDArray[Any]:
    image = Image(width=message.width, height=message.height, data=message.data)
    match sensor.modality, message.encoding:
        case "vision", "rgb8":
            image.encoding = Image.ENCODING_RGB8
            return codec.decode_colour(image)
        case "depth" | "thermal", "32FC1":
            image.encoding = Image.ENCODING_FLOAT32
            return codec.decode_plane(image)
        case _:
            raise BadData(f"{sensor.modality} as {message.encoding!r}; vision is {_RGB}, depth and thermal {_FLOAT32}")
