"""HTTP cameras of one answer, for tests, and reading a live camera until something comes."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from drivers.driver import (
    Driver,
    DriverError,
    ReadTimeout,
    Sample,
)


def jpeg(value: int = 90, width: int = 64, height: int = 48) -> bytes:
    """A picture whose red channel has this value."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = value
    return cv2.imencode(".jpg", image)[1].tobytes()


def multipart(*bodies: bytes, length: bool = True) -> bytes:
    """An HTTP body as network cameras send it."""
    header = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n"
    return b"".join(
        header + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body for body in bodies
    )


def live(camera: Driver, wanted: int, deadline_s: float = 20.0) -> list[Sample]:
    """The next samples of a live camera, reading on over time-outs."""
    samples: list[Sample] = []
    end = time.monotonic() + deadline_s
    while len(samples) < wanted and time.monotonic() < end:
        try:
            samples.append(camera.read(0.5))
        except ReadTimeout:
            continue
    assert len(samples) == wanted
    return samples


def comes_back(camera: Driver, error: type[DriverError], deadline_s: float = 20.0) -> DriverError:
    """Read until this error is raised."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            camera.read(0.5)
        except ReadTimeout:
            continue
        except error as raised:
            return raised
    raise AssertionError(f"no {error.__name__} within {deadline_s} s")


class Web:
    """An HTTP server of one answer; with a `challenge` a line it asks for a password, and keeps what it was given."""

    def __init__(
        self,
        kind: str,
        chunks: Callable[[], Iterator[bytes]],
        challenge: str = "",
        accepts: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.credentials: list[str | None] = []
        credentials = self.credentials

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                credentials.append(self.headers.get("Authorization"))
                if challenge and (credentials[-1] is None or not accepts(credentials[-1])):
                    self.send_response(401)
                    for line in challenge.splitlines():
                        self.send_header("WWW-Authenticate", line)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                try:
                    for chunk in chunks():
                        self.wfile.write(chunk)
                except OSError:
                    return

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server; nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()
