"""HTTP cameras: parts and their quirks, single pictures, passwords, and what is not a camera."""

from __future__ import annotations

import base64
import hashlib
import http.server
import itertools
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_camera import Web, comes_back, jpeg, live, multipart

from agent.clock import RunClock
from drivers.camera import Camera, CameraOptions
from drivers.driver import (
    BadData,
    DeviceNotFound,
    Disconnected,
    FormatMismatch,
)
from drivers.http_camera import open_http_camera
from drivers.image_file import read_jpeg
from drivers.mjpeg import MAX_PART_BYTES, PartParser

DIGEST = 'Digest realm="camera", nonce="n1", algorithm={}, qop="auth-int, auth"'


def digest_fits(given: str, algorithm: str) -> bool:
    """Whether an answer to DIGEST is anna's, by RFC 7616 (3.4.1)."""
    fields = urllib.request.parse_keqv_list(urllib.request.parse_http_list(given.removeprefix("Digest ")))

    def h(*parts: str) -> str:
        return hashlib.new(algorithm.replace("-", ""), ":".join(parts).encode()).hexdigest()

    owner, request = h("anna", "camera", "p\u00e4ss"), h("GET", "/")
    wanted = h(owner, "n1", fields["nc"], fields["cnonce"], "auth", request)
    return fields["algorithm"] == algorithm and fields["response"] == wanted


def part(body: bytes, length: int | None = None, end: bytes = b"\r\n", before: bytes = b"") -> bytes:
    told = b"" if length is None else b"Content-Length: %d" % length + end
    return b"--b" + end + b"Content-Type: image/jpeg" + end + told + end + before + body + end


QUIRKS: dict[str, Callable[[bytes], bytes]] = {
    "line feeds only": lambda j: part(j, len(j), b"\n"),
    "line feeds only, no length": lambda j: part(j, None, b"\n"),
    "an empty line before the picture": lambda j: part(j, None, before=b"\r\n"),
    "an empty line that counts": lambda j: part(j, len(j) + 2, before=b"\r\n"),
    "an empty line that does not count": lambda j: part(j, len(j), before=b"\r\n"),
    "a length of 0": lambda j: part(j, 0),
    "a length below 0": lambda j: part(j, -2),
    "a length without the end marker": lambda j: part(j, len(j) - 2),
    "a length that is too large": lambda j: part(j, len(j) + 300),
    "no end marker": lambda j: part(j[:-2], len(j) - 2),
    "no end marker, no length": lambda j: part(j[:-2]),
    "half an end marker": lambda j: part(j[:-1], len(j) - 1),
    "zeros behind the end marker": lambda j: part(j + bytes(64), len(j) + 64),
    "other bytes behind the end marker": lambda j: part(j + b"abc" * 20, len(j) + 60),
    "blanks behind the boundary": lambda j: part(j, len(j)).replace(b"--b\r\n", b"--b  \r\n", 1),
    "the boundary twice": lambda j: b"--b\r\n" + part(j),
}


class TestMjpeg:
    KIND = "multipart/x-mixed-replace; boundary=frame"

    def test_a_truncated_picture_is_bad_data_and_the_next_is_read(self) -> None:
        whole = jpeg(200)
        step = threading.Semaphore(0)

        def chunks() -> Iterator[bytes]:
            while True:
                step.acquire(timeout=10)
                yield multipart(whole[: len(whole) // 2], whole)

        with Web(self.KIND, chunks) as web, Camera(CameraOptions(web.url), RunClock.start()) as camera:
            for _ in range(3):
                step.release()
                error = comes_back(camera, BadData)
                assert "truncated JPEG" in str(error)
                [sample] = live(camera, 1)
                assert float(sample.data[..., 0].mean()) == pytest.approx(200, abs=6)

    def test_a_size_that_was_not_asked(self) -> None:
        pictures = itertools.repeat(multipart(jpeg()))
        with Web(self.KIND, lambda: pictures) as web:
            camera = Camera(CameraOptions(web.url, width=64, height=50), RunClock.start())
            camera.connect()
            error = comes_back(camera, FormatMismatch)
            camera.close()
        assert "height was asked as 50 but the device gives 48" in str(error)

    def test_a_picture_of_another_size_than_the_first_is_bad_data(self) -> None:
        bodies = [jpeg(10), jpeg(20, width=32, height=24), *[jpeg(30)] * 3]
        with (
            Web(self.KIND, lambda: iter([multipart(*bodies)])) as web,
            Camera(CameraOptions(web.url), RunClock.start()) as camera,
        ):
            error = comes_back(camera, BadData)
            assert "a picture of 32x24 pixels came among those of 64x48" in str(error)
            assert web.url in str(error)
            [sample] = live(camera, 1)
            assert sample.data.shape == (48, 64, 3)

    def test_a_camera_that_was_set_to_another_size_is_read_once_connected_again(self) -> None:
        sizes = iter([(32, 24), (16, 12)])
        with Web(self.KIND, lambda: iter([multipart(*[jpeg(5, *next(sizes))] * 3)])) as web:
            camera = Camera(CameraOptions(web.url), RunClock.start())
            for height in (24, 12):
                with camera:
                    [sample] = live(camera, 1)
                    assert sample.data.shape[0] == height

    def test_what_is_no_motion_jpeg(self) -> None:
        with Web("text/html", lambda: iter([b"<html>hello</html>"])) as web:
            camera = Camera(CameraOptions(web.url), RunClock.start())
            with pytest.raises(DeviceNotFound, match="no camera answers, or not with video"):
                camera.connect()

    def test_an_error_answer_is_told(self) -> None:
        class Absent(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Absent) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with pytest.raises(DeviceNotFound, match="404"):
                Camera(CameraOptions(f"http://127.0.0.1:{server.server_port}/"), RunClock.start()).connect()
            thread.join()

    def test_a_wrong_password_is_told(self) -> None:
        with Web(self.KIND, lambda: iter([]), DIGEST.format("MD5"), lambda _: False) as web:
            address = web.url.replace("//", "//anna:wrong@")
            with pytest.raises(DeviceNotFound, match="answers 401 Unauthorized; check user and password"):
                open_http_camera(address, 5.0, 1.0)
            assert len(web.credentials) == 2, "asked once, answered once"
            with pytest.raises(DeviceNotFound, match=r"401 Unauthorized; give it as http://user:password@host"):
                open_http_camera(web.url, 5.0, 1.0)

    @pytest.mark.parametrize(
        ("offers", "algorithm"),
        [
            (["SHA-256", "MD5"], "SHA-256"),
            (["MD5-sess", "SHA-512-256", "md5"], "MD5"),
            ([None, "SHA-256-sess", "SHA-256"], "SHA-256"),
        ],
    )
    def test_the_first_challenge_that_can_be_answered_is(self, offers: list[str | None], algorithm: str) -> None:
        """RFC 7616, 3.7. A password is not sent in clear where it need not be: basic access comes last."""
        challenges = "\n".join('Basic realm="camera"' if offer is None else DIGEST.format(offer) for offer in offers)
        accepts = partial(digest_fits, algorithm=algorithm)
        with Web(self.KIND, lambda: iter([multipart(jpeg())]), challenges, accepts) as web:
            stream = open_http_camera(web.url.replace("//", "//anna:p%C3%A4ss@"), 5.0, 1.0)
            assert stream is not None
            assert stream.receive() == jpeg()
            stream.release()
        assert web.credentials[0] is None
        assert str(web.credentials[1]).startswith("Digest ")

    def test_no_challenge_that_can_be_answered(self) -> None:
        with Web(self.KIND, lambda: iter([]), DIGEST.format("SHA-512-256")) as web:
            address = web.url.replace("//", "//anna:pass@")
            with pytest.raises(DeviceNotFound, match=r"cannot be understood: Digest .*algorithm=SHA-512-256"):
                open_http_camera(address, 5.0, 1.0)

    def test_a_password_that_holds_an_at_sign_is_given_to_the_camera(self) -> None:
        with Web(self.KIND, lambda: iter([multipart(jpeg())]), 'Basic realm="camera"') as web:
            stream = open_http_camera(web.url.replace("//", "//anna:p@ss@"), 5.0, 1.0)
            assert stream is not None
            assert stream.receive() == jpeg()
            stream.release()
        assert web.credentials == [None, "Basic " + base64.b64encode(b"anna:p@ss").decode()]

    def test_a_challenge_that_makes_no_sense(self) -> None:
        with Web(self.KIND, lambda: iter([]), "Digest realm=") as web:
            address = web.url.replace("//", "//anna:pass@")
            with pytest.raises(DeviceNotFound, match="asks for a password in a way"):
                open_http_camera(address, 5.0, 1.0)

    @pytest.mark.parametrize("name", QUIRKS)
    def test_quirks_of_cheap_cameras(self, name: str) -> None:
        """Every picture comes out as it was made, in whatever pieces the bytes arrive."""
        bodies = [jpeg(60 * k) for k in range(4)]
        stream = b"".join(map(QUIRKS[name], bodies)) + b"\r\n--b\r\n"
        for step in (1, 7, 1000, len(stream)):
            parser = PartParser()
            found = [part for at in range(0, len(stream), step) for part in parser.feed(stream[at : at + step])]
            assert len(found) == len(bodies), step
            for body, part in zip(bodies, found, strict=True):
                np.testing.assert_array_equal(read_jpeg(part), read_jpeg(body))

    def test_a_picture_without_a_length_need_not_wait_for_the_next(self) -> None:
        """Nor does the end marker of a thumbnail, which stands before the frame header, end it."""
        small, body = jpeg(1, 16, 16), jpeg(2)
        exif = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
        whole = body[:2] + exif + body[2:]
        parser = PartParser()
        thumbnail_ends = 2 + len(exif)
        assert parser.feed(b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + whole[:thumbnail_ends]) == []
        assert parser.feed(whole[thumbnail_ends:-1]) == []
        assert parser.feed(whole[-1:]) == [whole]

    def test_parts_of_text_are_passed_over(self) -> None:
        told = b"\r\n--frame\r\nContent-Type: text/plain\r\n\r\nmotion: none"
        assert PartParser().feed(told + multipart(jpeg(3)) + told) == [jpeg(3)]

    @pytest.mark.parametrize("kind", ["image/jpeg", "Image/JPG; charset=binary"])
    def test_an_address_of_one_picture_is_asked_again_and_again(self, kind: str) -> None:
        values = itertools.count(20, 20)
        with (
            Web(kind, lambda: iter([jpeg(next(values))])) as web,
            Camera(CameraOptions(web.url, rate_hz=50.0), RunClock.start()) as camera,
        ):
            levels = [float(sample.data[..., 0].mean()) for sample in live(camera, 4)]
        assert np.all(np.diff(levels) > 10)

    def test_a_camera_of_single_pictures_that_goes_away(self) -> None:
        answers = iter([jpeg(9), jpeg(9)])
        with Web("image/jpeg", lambda: answers) as web:
            camera = Camera(CameraOptions(web.url, rate_hz=50.0), RunClock.start())
            with camera:
                live(camera, 1)
                web.close()
                assert "the camera went away" in str(comes_back(camera, Disconnected))

    def test_more_than_headers_are_is_no_part(self) -> None:
        parser = PartParser()
        many = b"--other\r\n" + b"a: b\r\n" * 33 + b"\r\n"
        assert parser.feed(many + multipart(jpeg(3))) == [jpeg(3)]
        assert PartParser().feed(b"--frame\r\n" + b"a: b\r\n" * 32 + b"\r\nbody\r\n--frame\r\n\r\n") == [b"body"]

    @pytest.mark.parametrize("unit", [b"\r\n--a", b"--", b"\r\n--" + b"x" * 300, b"\r\n" + b"y" * 1024])
    def test_a_part_is_found_after_hostile_bytes(self, unit: bytes) -> None:
        stream = unit * (64 * 2**10 // len(unit)) + multipart(jpeg(5), jpeg(6))
        assert PartParser().feed(stream)[-1] == jpeg(6)

    @pytest.mark.parametrize("length", [True, False])
    @given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
    def test_parts_do_not_depend_on_how_they_arrive(self, length: bool, cuts: list[int]) -> None:
        bodies = [jpeg(k, 16, 16) for k in (0, 100, 255)]
        stream = multipart(*bodies, length=length) + b"\r\n--frame\r\n\r\n"
        edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
        parser = PartParser()
        found = [body for a, b in itertools.pairwise(edges) for body in parser.feed(stream[a:b])]
        assert found == bodies

    @given(junk=st.binary(max_size=2000))
    def test_junk_before_a_part_costs_nothing_else(self, junk: bytes) -> None:
        parser = PartParser()
        good = [jpeg(k, 16, 16) for k in (1, 2, 3, 4)]
        stream = junk.replace(b"--", b"") + multipart(*good)
        assert parser.feed(stream)[-3:] == good[-3:]

    def test_time_is_proportional_to_the_bytes_of_a_part(self) -> None:
        """Four times as long a part takes about four times as long: not sixteen, as when all is searched each time."""

        def cpu_s(megabytes: int) -> float:
            parser, chunk = PartParser(), bytes(4096)
            began_s = time.process_time()
            parser.feed(b"--frame\r\nX: y\r\n\r\n")
            for _ in range(megabytes * 256):
                assert parser.feed(chunk) == []
            assert parser.feed(b"\r\n--frame\r\n") == [bytes(megabytes * 2**20)]
            return time.process_time() - began_s

        shorter_s, longer_s = (min(cpu_s(megabytes) for _ in range(4)) for megabytes in (2, 8))
        assert longer_s < 9 * shorter_s

    def test_a_part_without_end_is_bounded(self) -> None:
        parser = PartParser()
        parser.feed(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
        for _ in range(MAX_PART_BYTES // 2**20 - 1):
            assert parser.feed(bytes(2**20)) == []
        with pytest.raises(BadData, match="a part of more than"):
            parser.feed(bytes(2**20))
        assert parser.feed(multipart(jpeg(7))) == [jpeg(7)]
