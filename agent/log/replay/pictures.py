"""Pictures of a log, decoded when their pixels are first asked for: of a fast camera, windows use few frames."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from agent.log import messages as log_messages
from agent.log.format import LoggedSensor
from drivers.driver import BadData, Sample
from drivers.forms import check_form


class StoredPicture:
    """The picture of a log's message: parsed at once, decoded once, when `pixels` are first asked for."""

    def __init__(
        self, schema: str, sensor: LoggedSensor, encoded: bytes, on_fault: Callable[[BadData], None] = lambda _: None
    ) -> None:
        """`on_fault` is called when decoding fails. Raises BadData for a message that is not a picture's."""
        self._sensor, self._on_fault = sensor, on_fault
        message = log_messages.parse(schema, encoded)
        self.body_crc = zlib.crc32(log_messages.picture_body(message))
        """Of the encoded pixels, without stamps."""
        self._message: Message | None = message
        """None once it is decoded."""
        self._pixels: NDArray[Any] | None = None

    def pixels(self) -> NDArray[Any]:
        """The picture as `Sample.data`; one that cannot be decoded has no pixels."""
        if self._message is not None:
            self._pixels, self._message = self._decoded(self._message), None
        assert self._pixels is not None
        return self._pixels

    def _decoded(self, message: Message) -> NDArray[Any]:
        modality = self._sensor.modality
        try:
            sample = log_messages.sample_of(message, self._sensor, 0)
            check_form(sample, modality)
        except BadData as error:
            self._on_fault(error)
            # Nothing to embed, and no depth and no temperature of zero either: their windows are invalid.
            return np.zeros((0, 0, 3), np.uint8) if modality == "vision" else np.zeros((1, 1), np.float32)
        return sample.data


class LoggedPicture(Sample):
    """A sample whose `data` is decoded when it is read. `dataclasses.replace` reads it, unless it is given another."""

    __slots__ = ("_picture",)
    _picture: StoredPicture | NDArray[Any]

    def __init__(self, t_ns: int, data: StoredPicture | NDArray[Any], rate_hz: float = 0.0, lost: int = 0) -> None:
        for name, value in (("t_ns", t_ns), ("_picture", data), ("rate_hz", rate_hz), ("lost", lost)):
            object.__setattr__(self, name, value)  # a sample is frozen

    @property
    def data(self) -> NDArray[Any]:
        """Decoded pixels, as `Sample.data`."""
        return self._picture.pixels() if isinstance(self._picture, StoredPicture) else self._picture

    def seen(self) -> Sample:
        """A stand-in of a few bytes that differs where pictures do, for who only wants to know whether they do."""
        if not isinstance(self._picture, StoredPicture):
            return self
        return Sample(self.t_ns, np.array([[self._picture.body_crc]], np.uint32), lost=self.lost)
