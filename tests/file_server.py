"""An HTTP server with one file on loopback, which can be told to behave as badly as servers and networks do."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

OLD_DATE = formatdate(1_600_000_000, usegmt=True)


class FileServer:
    """Serves `content` under every path; the attributes are read at every request."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"one"'
        self.last_modified: str | None = None
        self.ranges = True
        self.guards_ranges = True
        """Whether If-Range is heeded."""
        self.cuts: list[int] = []
        """Of the next answers, how many bytes of the body come before the connection ends."""
        self.statuses: list[int] = []
        """What the next requests are answered with, instead of the file."""
        self.location: str | None = None
        self.extra: dict[str, str | None] = {}
        """Headers to replace, or with None to leave out."""
        self.requests: list[Message] = []
        """The headers of all of them."""
        self.paths: list[str] = []
        self.stalls_at: int | None = None
        """From this byte of a body on nothing comes until `release` is set."""
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self._server.server_port}/weights.pth"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append(self.headers)
            server.paths.append(self.path)
            self.close_connection = True
            if server.statuses:
                return self._answer(server.statuses.pop(0), b"no", {"Location": server.location})
            given = {"ETag": server.etag, "Last-Modified": server.last_modified}
            validators = [value for value in given.values() if value is not None]
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            current = not server.guards_ranges or self.headers.get("If-Range") in validators
            if not (span and server.ranges and current):
                return self._answer(200, server.content, given)
            start, size = int(span[1]), len(server.content)
            if start >= size:
                return self._answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return self._answer(
                206, server.content[start:], {**given, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
            )

        def _answer(self, status: int, body: bytes, headers: dict[str, str | None]) -> None:
            self.send_response_only(status)
            usual = {"Content-Length": str(len(body)), "Date": self.date_time_string()}
            for name, value in {**usual, **headers, **server.extra}.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            if status < 300 and server.cuts:
                body = body[: server.cuts.pop(0)]
            with suppress(ConnectionError):  # the client need not stay
                if status >= 300 or server.stalls_at is None:
                    self.wfile.write(body)
                else:
                    self.wfile.write(body[: server.stalls_at])
                    server.release.wait()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: tests read `requests`."""

    return Handler
