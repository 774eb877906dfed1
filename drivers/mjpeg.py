"""Motion JPEG (multipart/x-mixed-replace): the body that network cameras and ffmpeg's mpjpeg muxer send, part by part.

FFmpeg's own reader paints over a truncated picture with the one before and says nothing, so the parts are taken
apart here, and a picture that is not whole can be refused.
"""

from __future__ import annotations

import re

from drivers.driver import BadData
from drivers.image_file import JPEG_END, has_jpeg_frame

MAX_PART_BYTES = 32 * 2**20

# Every repetition is bounded, and the possessive `{0,32}+` is never tried again with fewer lines: the time to search is
# proportional to the bytes, whatever they are. RFC 2046 wants CRLF; cameras send line feeds alone, too.
_PART_HEADERS = re.compile(rb"(?:^|\n)(--[^\r\n]{0,256})\r?\n((?:[^\r\n]{1,1024}\r?\n){0,32}+)\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length:\s*0*([1-9]\d{0,9})\s*$")
_TEXT = re.compile(rb"(?im)^content-type:\s*text/")
_LINE_END = re.compile(rb"(?:--)?[ \t]{0,8}\r?\n")
_MAX_HEADER_BYTES = 8 * 2**10
_MAX_LINE_END_BYTES = 12
_MAX_PADDING_BYTES = 256
_MAX_JPEG_HEADER_BYTES = 128 * 2**10
"""Up to the frame header, with a thumbnail."""


class PartParser:
    """Cuts a multipart body into its parts' bodies; buffers at most one part.

    Cameras differ in the boundary they announce and the one they send, so any line that begins with two dashes and
    is followed by headers and an empty line begins a part. A body is the picture of the stated length, if one ends
    there: the length is a hint, which cameras get wrong. Else it goes up to the next boundary line. A picture without a
    stated length is handed out as soon as what has arrived ends as one. Parts of text are passed over.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_at: int | None = None
        self._length: int | None = None
        self._is_text = False
        self._boundary = b""
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the bodies that are complete; raises BadData on a part beyond the bound."""
        self._buffer += data
        bodies = []
        while (body := self._next()) is not None:
            bodies += [body] if body else []
        if len(self._buffer) > MAX_PART_BYTES:
            self._drop(len(self._buffer))
            raise BadData(f"a part of more than {MAX_PART_BYTES} bytes")
        return bodies

    def _next(self) -> bytes | None:
        """Return the next body, empty if it is not a picture's; None when it is not complete yet."""
        if self._body_at is None:
            self._body_at = self._take_headers()
        if self._body_at is None:
            return None
        end = self._find_end(self._body_at)
        if end is None:
            return None
        # No picture begins with a line end; some cameras send an empty line too many.
        body = b"" if self._is_text else bytes(self._buffer[self._body_at : end]).lstrip(b"\r\n")
        self._drop(end)
        return body

    def _find_end(self, begin: int) -> int | None:
        boundary_at = self._find_boundary(begin)
        stated = len(self._buffer) if self._length is None else begin + self._length
        if stated > (len(self._buffer) if boundary_at is None else boundary_at):
            return boundary_at
        end = self._end_of_picture(begin, stated)
        return boundary_at if end is None else end

    def _find_boundary(self, begin: int) -> int | None:
        """Find the next boundary line, in what was not searched before: time is proportional to the bytes of a part."""
        wanted = b"\n" + self._boundary
        at = max(begin, self._searched)
        while (at := self._buffer.find(wanted, at)) >= 0:
            if _LINE_END.match(self._buffer, at + len(wanted)):
                return at - (at > begin and self._buffer[at - 1] == ord("\r"))
            if at + len(wanted) + _MAX_LINE_END_BYTES > len(self._buffer):
                self._searched = at
                return None
            at += 1
        self._searched = max(0, len(self._buffer) - len(wanted) + 1)
        return None

    def _end_of_picture(self, begin: int, end: int) -> int | None:
        """Return where a picture ends that ends before `end`, padding aside; None if none does.

        The end marker of a thumbnail, which stands before the frame header, is not meant.
        """
        tail = self._buffer[max(begin, end - _MAX_PADDING_BYTES) : end]
        picture = tail.rstrip(b"\0\r\n")
        head = self._buffer[begin : min(end, begin + _MAX_JPEG_HEADER_BYTES)]
        if picture.endswith(JPEG_END) and has_jpeg_frame(bytes(head).lstrip(b"\r\n")):
            return end - len(tail) + len(picture)
        return None

    def _take_headers(self) -> int | None:
        """Find the next part and return where its body begins; None when its headers are not complete yet."""
        headers = _PART_HEADERS.search(self._buffer)
        if headers is None:
            self._drop(max(0, len(self._buffer) - _MAX_HEADER_BYTES))
            return None
        lines = headers[2].replace(b"\r\n", b"\n")
        length = _LENGTH.search(lines)
        self._boundary = headers[1].rstrip(b" \t")
        self._length = int(length[1]) if length else None
        self._is_text = _TEXT.search(lines) is not None
        return headers.end()

    def _drop(self, end: int) -> None:
        del self._buffer[:end]
        self._body_at = self._length = None
        self._searched = 0
