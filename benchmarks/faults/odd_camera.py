"""A network camera (HTTP Motion JPEG) in this process that can be told to misbehave."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np

Mode = Literal["live", "silent", "frozen", "cut", "bomb", "garbage", "endless", "other size"]
WIDTH, HEIGHT = 320, 240


class OddCamera:
    """Noise of 320x240 at 10 Hz, or what `mode` says, for any number of clients."""

    rate_hz = 10.0

    def __init__(self) -> None:
        self.mode: Mode = "live"
        self._stopping = threading.Event()
        self._rng = np.random.default_rng(1)
        self._frozen = self.picture()
        parts, stopping = self._parts, self._stopping

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for part in parts():
                        if stopping.is_set():
                            return
                        self.wfile.write(part)
                except OSError:
                    return

            def log_message(self, *_words: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def picture(self, width: int = WIDTH, height: int = HEIGHT) -> bytes:
        """A JPEG of a grey scene with the noise of a sensor."""
        pixels = 120 + self._rng.normal(0, 6, (height, width, 3))
        return bytes(cv2.imencode(".jpg", pixels.clip(0, 255).astype(np.uint8))[1])

    def _parts(self) -> Iterator[bytes]:
        due_s = time.monotonic()
        while not self._stopping.is_set():
            due_s += 1 / self.rate_hz
            self._stopping.wait(max(0.0, due_s - time.monotonic()))
            match self.mode:
                case "live":
                    yield part(self.picture())
                case "silent":
                    continue
                case "frozen":
                    yield part(self._frozen)
                case "cut":
                    picture = self.picture()
                    yield part(picture[: len(picture) // 2])
                case "bomb":
                    picture = bytearray(self.picture())
                    at = picture.find(b"\xff\xc0")
                    picture[at + 5 : at + 9] = (30_000).to_bytes(2, "big") * 2
                    yield part(bytes(picture))
                case "garbage":
                    yield self._rng.bytes(20_000)
                case "endless":
                    yield b"--frame\r\n\r\n" + bytes(8 * 2**20)
                case "other size":
                    yield part(self.picture(WIDTH // 2, HEIGHT // 2))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


def part(body: bytes) -> bytes:
    """A part of the answer."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body)
