"""Pictures of a log, decoded when their pixels are first asked for: of a fast camera, windows use few frames."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from agent.log import messages as log_messages
from agent.log.format import LoggedSensor
from drivers.driver import BadData, Sample
from drivers.forms import check_form
from protos.sensors_pb2 import SensorSample


class LoggedPicture(Sample):
    """A sample whose `data` is decoded once, when it is read; a picture that cannot be decoded has no pixels."""

    __slots__ = ("_body_crc", "_encoded", "_on_fault", "_pixels")
    _body_crc: int
    _encoded: tuple[str, LoggedSensor, bytes] | None
    """Schema and message; None once it is decoded."""
    _on_fault: Callable[[BadData], None]
    _pixels: NDArray[Any] | None

    def __init__(
        self,
        schema: str,
        sensor: LoggedSensor,
        t_ns: int,
        encoded: bytes,
        lost: int = 0,
        on_fault: Callable[[BadData], None] = lambda _: None,
    ) -> None:
        """Take the message of a picture from a log. `on_fault` is called when decoding fails. Raises BadData for
        another message.
        """
        for name, value in (
            ("t_ns", t_ns),
            ("rate_hz", 0.0),
            ("lost", lost),
            ("_body_crc", zlib.crc32(_body(schema, encoded))),
            ("_encoded", (schema, sensor, encoded)),
            ("_on_fault", on_fault),
            ("_pixels", None),
        ):
            object.__setattr__(self, name, value)  # a sample is frozen

    @property
    def data(self) -> NDArray[Any]:
        """Decoded pixels, as `Sample.data`."""
        if self._pixels is None:
            object.__setattr__(self, "_pixels", self._decoded())
            object.__setattr__(self, "_encoded", None)
            assert self._pixels is not None
        return self._pixels

    def seen(self) -> Sample:
        """A stand-in of a few bytes that differs where pictures do, for who only wants to know whether they do."""
        return Sample(self.t_ns, np.array([[self._body_crc]], np.uint32), lost=self.lost)

    def _decoded(self) -> NDArray[Any]:
        assert self._encoded is not None
        schema, sensor, encoded = self._encoded
        try:
            sample = log_messages.decode(schema, sensor, self.t_ns, encoded)
            check_form(sample, sensor.modality)
        except BadData as error:
            self._on_fault(error)
            # Nothing to embed, and no depth and no temperature of zero either: their windows are invalid.
            return np.zeros((0, 0, 3), np.uint8) if sensor.modality == "vision" else np.zeros((1, 1), np.float32)
        return sample.data


def _body(schema: str, encoded: bytes) -> bytes:
    """The picture itself, without stamps. Raises BadData."""
    try:
        if schema == log_messages.IMAGE_SCHEMA:
            return CompressedImage.FromString(encoded).data
        if schema == log_messages.RAW_IMAGE_SCHEMA:
            return RawImage.FromString(encoded).data
        if schema == log_messages.SAMPLE_SCHEMA:
            message = SensorSample.FromString(encoded)
            payload = message.WhichOneof("payload")
            if payload in ("vision", "depth", "thermal"):
                body: bytes = getattr(message, payload).data
                return body
    except DecodeError as error:
        raise BadData(f"not a message of {schema}: {error}") from None
    raise BadData(f"a message of {schema} where a picture was wanted")
