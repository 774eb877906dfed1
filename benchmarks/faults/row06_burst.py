"""A network camera stalls for a second, then sends 300 pictures at once."""

from __future__ import annotations

import http.server
import threading
import time

import cv2
import numpy as np

from agent.clock import RunClock
from benchmarks.faults.measured import Measured
from benchmarks.faults.odd_camera import part
from drivers.camera import Camera, CameraOptions

PICTURES = 300
AFTER_S = 0.1


def run() -> Measured:
    """Read as capture does, and look which picture comes after the burst; a picture's number is its grey."""
    burst, sent = threading.Event(), threading.Event()
    pictures = [part(_picture(k)) for k in range(PICTURES)]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            self.wfile.write(part(_picture(0)))
            burst.wait(30)
            self.wfile.write(b"".join(pictures))
            sent.wait(30)

        def log_message(self, *_words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        with Camera(CameraOptions(url), RunClock.start()) as camera:
            camera.read(10.0)
            time.sleep(1.0)
            burst.set()
            first = camera.read(10.0)
            taken, lost = 1, first.lost
            time.sleep(AFTER_S)
            newest = _number(first.data)
            ended_s = time.monotonic() + 5.0
            began_s = time.monotonic()
            while newest < PICTURES - 1 and time.monotonic() < ended_s:
                sample = camera.read(5.0)
                taken, lost, newest = taken + 1, lost + sample.lost, _number(sample.data)
            late_s = AFTER_S + time.monotonic() - began_s
            sent.set()
        server.shutdown()
    return Measured(
        "the newest picture within a period after 100 ms; every other is counted",
        f"the newest {late_s * 1e3:.0f} ms after the first of the burst; {taken} read, {lost} counted as passed over",
        newest == PICTURES - 1 and late_s <= AFTER_S + 0.1 and taken + lost == PICTURES,
    )


def _picture(number: int) -> bytes:
    """Its number in the grey of its two halves."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, :80], pixels[:, 80:] = 8 * (number // 20), 8 * (number % 20)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def _number(rgb: np.ndarray) -> int:
    return round(rgb[:, 8:72].mean() / 8) * 20 + round(rgb[:, 88:152].mean() / 8)
