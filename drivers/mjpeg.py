"""Motion JPEG over HTTP (multipart/x-mixed-replace): what network cameras and ffmpeg's mpjpeg muxer send.

FFmpeg's own reader paints over a truncated picture with the one before and says nothing, so the parts are taken
apart here, and a picture that is not whole can be refused. The pure half needs no socket.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from drivers.driver import BadData, BadOption, DeviceNotFound, Disconnected

MAX_PART_BYTES = 32 * 2**20
_CHUNK_BYTES = 64 * 2**10

# Every repetition is bounded, and the possessive `{0,32}+` is never tried again with fewer lines: the time to search is
# proportional to the bytes, whatever they are.
_PART_HEADERS = re.compile(rb"(?:^|\r\n)(--[^\r\n]{0,256})\r\n((?:[^\r\n]{1,1024}\r\n){0,32}+)\r\n")
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d{1,10})\s*$")
_MAX_HEADER_BYTES = 8 * 2**10


class PartParser:
    """Cuts a multipart body into its parts' bodies; buffers at most one part.

    Cameras differ in the boundary they announce and the one they send, so any line that begins with two dashes and
    is followed by headers and an empty line begins a part. With Content-Length the body is that long; without, it
    goes up to the next boundary line.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_at: int | None = None
        self._length: int | None = None
        self._boundary = b""
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the bodies that are complete; raises BadData on a part beyond the bound."""
        self._buffer += data
        bodies = []
        while (body := self._next()) is not None:
            bodies.append(body)
        if len(self._buffer) > MAX_PART_BYTES:
            self._drop(len(self._buffer))
            raise BadData(f"a part of more than {MAX_PART_BYTES} bytes")
        return bodies

    def _next(self) -> bytes | None:
        if self._body_at is None:
            self._body_at = self._take_headers()
        if self._body_at is None:
            return None
        end = self._find_end(self._body_at) if self._length is None else self._body_at + self._length
        if end < 0 or end > len(self._buffer):
            return None
        body = bytes(self._buffer[self._body_at : end])
        self._drop(end)
        return body

    def _find_end(self, begin: int) -> int:
        """Find the next boundary, in what was not searched before: time is proportional to the bytes of a part."""
        wanted = b"\r\n" + self._boundary
        end = self._buffer.find(wanted, max(begin, self._searched))
        self._searched = max(0, len(self._buffer) - len(wanted) + 1)
        return end

    def _take_headers(self) -> int | None:
        """Find the next part and return where its body begins; None when its headers are not complete yet."""
        headers = _PART_HEADERS.search(self._buffer)
        if headers is None:
            self._drop(max(0, len(self._buffer) - _MAX_HEADER_BYTES))
            return None
        self._boundary = headers[1]
        length = _LENGTH.search(headers[2].replace(b"\r\n", b"\n"))
        self._length = int(length[1]) if length else None
        return headers.end()

    def _drop(self, end: int) -> None:
        del self._buffer[:end]
        self._body_at = self._length = None
        self._searched = 0


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


def open_mjpeg(url: str, timeout_s: float) -> MjpegStream | None:
    """Connect to `url` (user:password@host is understood); None when what it serves is not Motion JPEG.

    Raises DeviceNotFound when nobody answers or the answer is an error, BadOption for a malformed address.
    """
    name = without_password(url)
    response: Any = None
    try:
        opener, address = _opener(url)
        response = opener.open(address, timeout=timeout_s)
        declared = response.headers.get("Content-Type", "").startswith("multipart/x-mixed-replace")
        first = b"" if declared else response.read1(_CHUNK_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        raise DeviceNotFound(f"{name}: the camera answers {error.code} {error.reason}; check the address") from None
    except ValueError as error:
        raise BadOption(f"source is {name!r}: {error}") from None
    except LookupError:  # urllib takes the challenge of a 401 apart without checking it
        raise DeviceNotFound(f"{name}: the camera asks for a password in a way that cannot be understood") from None
    except (OSError, http.client.HTTPException) as error:
        if response is not None:
            response.close()
        reason = getattr(error, "reason", error)
        raise DeviceNotFound(f"{name}: no camera answers: {reason}; check the address and that it is on") from None
    if first and not first.lstrip().startswith(b"--"):
        response.close()
        return None
    return MjpegStream(name, response, first)


def without_password(url: str) -> str:
    """The address as it may be shown and logged."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _opener(url: str) -> tuple[urllib.request.OpenerDirector, str]:
    """Take user and password out of the address; proxies of the environment are for browsers, not for cameras."""
    parts = urllib.parse.urlsplit(url)
    address = without_password(url)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if parts.username:
        keys = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        keys.add_password(None, address, user, password)
        handlers += [urllib.request.HTTPBasicAuthHandler(keys), urllib.request.HTTPDigestAuthHandler(keys)]
    return urllib.request.build_opener(*handlers), address
