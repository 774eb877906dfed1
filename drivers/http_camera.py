"""Cameras behind HTTP: an endless answer of Motion JPEG, or an address that answers with one picture at a time."""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol

from drivers.driver import BadData, BadOption, DeviceNotFound, Disconnected
from drivers.http_access import UnknownChallenge, opener_of, without_password
from drivers.mjpeg import MAX_PART_BYTES, PartParser

_CHUNK_BYTES = 64 * 2**10


class HttpCamera(Protocol):
    """An open connection that yields JPEG files."""

    def receive(self) -> bytes:
        """Block until the next picture is here. Raises BadData for an endless one, Disconnected when no more comes."""
        ...

    def release(self) -> None:
        """Close the connection to the camera."""
        ...


class MjpegStream:
    """An open HTTP response of Motion JPEG."""

    def __init__(self, name: str, response: http.client.HTTPResponse, first: bytes) -> None:
        self._name = name
        self._response = response
        self._parser = PartParser()
        self._bodies = self._parser.feed(first)

    def receive(self) -> bytes:
        """Block until the next part is here. Raises BadData for an endless one, Disconnected when no more comes."""
        while not self._bodies:
            self._bodies = self._parser.feed(self._receive_some())
        return self._bodies.pop(0)

    def release(self) -> None:
        """Close the connection to the camera."""
        self._response.close()

    def _receive_some(self) -> bytes:
        try:
            data = self._response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Disconnected(f"{self._name}: the camera went away: {error}") from None
        if not data:
            raise Disconnected(f"{self._name}: the camera ended the stream")
        return data


class Snapshots:
    """An address that answers with one picture, asked again and again."""

    def __init__(self, name: str, ask: Callable[[], Any], first: bytes, period_s: float) -> None:
        """`ask` opens a response; the `first` picture has arrived already. Questions are `period_s` apart or more."""
        self._name = name
        self._ask = ask
        self._first = first
        self._period_s = period_s
        self._next_s = time.monotonic() + period_s
        self._released = threading.Event()

    def receive(self) -> bytes:
        """Block until the next picture is here. Raises BadData for an endless one, Disconnected when none comes."""
        if self._first:
            picture, self._first = self._first, b""
            return picture
        self._released.wait(max(0.0, self._next_s - time.monotonic()))
        self._next_s = max(self._next_s + self._period_s, time.monotonic())
        try:
            with self._ask() as response:
                return _whole_body(response)
        except (OSError, http.client.HTTPException, UnknownChallenge) as error:
            raise Disconnected(f"{self._name}: the camera went away: {error}") from None

    def release(self) -> None:
        """Let a waiting `receive` return."""
        self._released.set()


def open_http_camera(url: str, timeout_s: float, period_s: float) -> HttpCamera | None:
    """Connect to `url` (user:password@host is understood); None when what it serves is neither kind of camera.

    A camera of single pictures is asked every `period_s`. Raises DeviceNotFound when nobody answers or the answer is an
    error, BadOption for a malformed address.
    """
    name = without_password(url)
    response: Any = None
    try:
        opener, address = opener_of(url)
        response = opener.open(address, timeout=timeout_s)
        kind = response.headers.get("Content-Type", "").lower()
        if kind.startswith(("image/jpeg", "image/jpg")):
            with response:
                picture = _whole_body(response)
            return Snapshots(name, lambda: opener.open(address, timeout=timeout_s), picture, period_s)
        first = b"" if kind.startswith("multipart/x-mixed-replace") else response.read1(_CHUNK_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        advice = "check the address"
        if error.code == 401:
            advice = "check user and password" if address != url else "give it as http://user:password@host/..."
        raise DeviceNotFound(f"{name}: the camera answers {error.code} {error.reason}; {advice}") from None
    except UnknownChallenge as error:
        raise DeviceNotFound(
            f"{name}: the camera asks for a password in a way that cannot be understood: {error}"
        ) from None
    except ValueError as error:
        raise BadOption(f"source is {name!r}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        if response is not None:
            response.close()
        reason = getattr(error, "reason", error)
        raise DeviceNotFound(f"{name}: no camera answers: {reason}; check the address and that it is on") from None
    if first and not re.match(rb"\s*--", first):
        response.close()
        return None
    return MjpegStream(name, response, first)


def _whole_body(response: Any) -> bytes:
    body = bytes(response.read(MAX_PART_BYTES + 1))
    if len(body) > MAX_PART_BYTES:
        raise BadData(f"a picture of more than {MAX_PART_BYTES} bytes")
    return body
