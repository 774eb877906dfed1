"""Files to arrays: what they hold, which frames make clips, and what is refused in one line."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from common.media.fault import MediaError
from common.media.picture import read_picture
from models.interop import media
from models.interop.media import clip_frames, read_audio, read_clips

MEDIA = Path(__file__).parent / "data" / "media"
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def one_line(call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(MediaError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP", "GIF", "JPEG", "JPEG2000", "AVIF"])
def test_pictures_of_every_format(form: str, tmp_path: Path) -> None:
    columns = np.linspace(0, 255, 60).astype(np.uint8)
    ramp = np.stack(np.broadcast_arrays(columns, columns[::-1], 128), axis=-1)[None].repeat(40, axis=0).astype(np.uint8)
    path = tmp_path / "picture"  # the content counts, not the name
    Image.fromarray(ramp).save(path, form)
    pixels = read_picture(path)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - ramp).mean() < 4


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_every_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 9), 200, np.uint8)).convert(mode, dither=0)
    path = tmp_path / f"picture.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path)
    pixels = read_picture(path)
    assert pixels.shape == (8, 9, 3)
    assert np.abs(pixels.astype(int) - (255 if mode == "1" else 200)).max() <= 2


def test_grey_of_more_than_eight_bits_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    deep = levels.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "16.png")
    Image.fromarray(deep).save(tmp_path / "16.tif")
    Image.frombytes("I;16B", (32, 8), deep.astype(">u2").tobytes()).save(tmp_path / "big_endian.tif")
    Image.fromarray(levels.astype(np.float32) / 255).save(tmp_path / "float.tif")
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([deep] * 3 + [np.full_like(deep, 65_535)]))
    (tmp_path / "16.pgm").write_bytes(b"P5\n32 8\n65535\n" + deep.astype(">u2").tobytes())
    tens = np.rint(levels / 255 * 1023).astype(">u2").tobytes()
    (tmp_path / "10.pgm").write_bytes(b"P5\n32 8\n1023\n" + tens)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 7
    for path in paths:
        pixels = read_picture(path)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.repeat(levels[..., None], 3, axis=-1)), path.name


@pytest.mark.parametrize("values", [np.float32([[0, 330]]), np.float32([[np.nan, 0.5]]), np.int32([[0, 70_000]])])
def test_grey_whose_white_is_not_known_is_refused(values: NDArray[np.float32], tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "grey.tif")
    one_line(lambda: read_picture(tmp_path / "grey.tif"), "grey.tif: grey ", "save it as 8 or 16 bits")


def test_a_palette_with_transparency_needs_no_warning(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("P").save(tmp_path / "p.png", transparency=b"\1\2\3")
    assert read_picture(tmp_path / "p.png").shape == PIXELS.shape


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not a picture that can be read; use one of JPEG, PNG"),
        (b"GIF89a nonsense", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (bomb(10_000, 10_000), "more than 89478485 pixels; scale it down"),  # Pillow warns
        (bomb(50_000, 50_000), "more than 89478485 pixels; scale it down"),  # Pillow refuses
        (bomb(100, 100), "damaged or truncated picture"),
        (encoded("PNG")[:2000], "damaged or truncated picture"),
        (encoded("JPEG")[:1500], "damaged or truncated picture"),
    ],
)
def test_pictures_that_cannot_be_used(data: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    one_line(lambda: read_picture(path), f"{path}: ", part)


ENCODED = [encoded(form) for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "TGA")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ENCODED), st.integers(0, 9000), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255))))
def test_damaged_pictures_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, end: int, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data[:end])
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        pixels = read_picture(path)
    except MediaError as error:
        assert "\n" not in str(error)  # noqa: PT017 (being read is fine too)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


READERS = [read_picture, read_audio, lambda path: read_clips(path, 5)]


@pytest.mark.parametrize("read", READERS, ids=["image", "audio", "video"])
def test_files_that_are_not_there(read: Callable[[Path], object], tmp_path: Path) -> None:
    one_line(lambda: read(tmp_path / "none"), f"{tmp_path / 'none'}: no such file")
    one_line(lambda: read(tmp_path), f"{tmp_path}: not a file")
    one_line(lambda: read(tmp_path / ("x" * 300)), ": no such file")  # longer than names can be
    (tmp_path / "notes").write_text("some words, no medium\n" * 50)
    one_line(lambda: read(tmp_path / "notes"), f"{tmp_path / 'notes'}: ", "read")
    (tmp_path / "empty").touch()
    one_line(lambda: read(tmp_path / "empty"), f"{tmp_path / 'empty'}: ")


def wave(rows: int, channels: int) -> NDArray[np.float32]:
    t = np.arange(rows)[:, None] * np.arange(1, channels + 1)
    return (0.4 * np.sin(t / 20)).astype(np.float32)


@pytest.mark.parametrize(
    ("form", "subtype", "rate_hz", "channels", "error"),
    [
        ("WAV", "PCM_16", 16000, 1, 1e-4),
        ("WAV", "PCM_24", 96000, 8, 1e-6),
        ("WAV", "FLOAT", 44100, 2, 0.0),
        ("WAV", "PCM_U8", 8000, 1, 1e-2),
        ("FLAC", "PCM_16", 48000, 2, 1e-4),
        ("OGG", "VORBIS", 44100, 1, 0.1),
        ("MP3", "MPEG_LAYER_III", 44100, 2, 0.1),
    ],
)
def test_recordings(form: str, subtype: str, rate_hz: int, channels: int, error: float, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    soundfile.write(path, wave(30_000, channels), rate_hz, subtype, format=form)
    samples, rate = read_audio(path)
    assert rate == rate_hz
    assert samples.dtype == np.float32
    assert samples.shape == (30_000, channels)
    assert np.abs(samples - wave(30_000, channels)).max() <= error


def test_recordings_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recording.flac"
    soundfile.write(path, RNG.normal(0, 0.1, 200_000), 16000, "PCM_16", format="FLAC")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    one_line(lambda: read_audio(path), f"{path}: ")
    path.write_bytes(whole[:20])
    one_line(lambda: read_audio(path), f"{path}: cannot be read as audio (", "convert it to WAV or FLAC")
    soundfile.write(path, np.zeros(0), 16000, "PCM_16", format="WAV")
    one_line(lambda: read_audio(path), f"{path}: the recording is empty")
    raw = tmp_path / "recording.raw"
    raw.write_bytes(bytes(999))
    one_line(lambda: read_audio(raw), f"{raw}: cannot be read as audio")
    monkeypatch.setattr(media, "AUDIO_VALUES_MAX", 50_000)
    soundfile.write(path, wave(60_000, 1), 16000, "PCM_16", format="WAV")
    one_line(lambda: read_audio(path), f"{path}: is 4 s long", "cut it into parts")


@pytest.mark.parametrize(
    ("count", "rate_hz", "clips", "expected"),
    [
        (300, 30.0, 5, [(0, 59), (48, 107), (96, 155), (144, 203), (192, 251)]),
        (60, 30.0, 5, [(0, 59)] * 5),  # exactly 2 s
        (39, 29.97, 5, [(0, 38)] * 5),  # less
        (1, 25.0, 3, [(0, 0)] * 3),
        (300, 30.0, 1, [(0, 59)]),
        (2, 0.2, 5, [(0, 0)] + [(1, 1)] * 4),  # a frame every 5 s: clips in which none begins take the next
    ],
)
def test_clip_frames(count: int, rate_hz: float, clips: int, expected: list[tuple[int, int]]) -> None:
    assert clip_frames(count, rate_hz, clips) == expected


@given(st.integers(1, 5000), st.integers(1, 240), st.integers(1, 12))
def test_clips_hold_the_frames_of_their_two_seconds(count: int, rate_hz: int, clips: int) -> None:
    pairs = clip_frames(count, float(rate_hz), clips)
    assert len(pairs) == clips
    room_s = max(Fraction(count, rate_hz) - 2, Fraction(0))
    for i, (first, last) in enumerate(pairs):
        assert 0 <= first <= last < count
        start_s = room_s * i / clips
        # The published arithmetic is in floats: a frame that lies on the edge exactly may fall to either side.
        edge_s = Fraction(1, 10**6)
        assert Fraction(first, rate_hz) >= start_s - edge_s
        assert Fraction(first - 1, rate_hz) < start_s + edge_s
        assert Fraction(last, rate_hz) < start_s + 2 + edge_s
        assert last == count - 1 or Fraction(last + 1, rate_hz) >= start_s + 2 - edge_s


def grey(number: int) -> NDArray[np.uint8]:
    """An even picture that says its number: 3 levels each."""
    return np.full((48, 64, 3), 3 * number + 10, np.uint8)


def numbers(clips: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Undo `grey` for each clip and frame."""
    levels = clips.reshape(*clips.shape[:2], -1).mean(axis=-1)
    return [tuple(round((level - 10) / 3) for level in clip) for clip in levels]


def test_the_chosen_frames_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "counted.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for i in range(75):
        writer.write(grey(i))
    writer.release()
    clips = read_clips(path, 5)
    assert clips.dtype == np.uint8
    assert clips.shape == (5, 2, 48, 64, 3)
    assert numbers(clips) == clip_frames(75, 20.0, 5)


def test_colours_are_rgb(tmp_path: Path) -> None:
    path = str(tmp_path / "red.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # BGR
    writer.release()
    assert read_clips(path, 1).reshape(-1, 3).mean(axis=0) == pytest.approx((255, 0, 0), abs=4)


def test_a_video_that_does_not_say_how_many_frames_it_has(tmp_path: Path) -> None:
    path = tmp_path / "stream.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", grey(i))[1].tobytes() for i in range(75)))
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT) < 0
    assert numbers(read_clips(path, 5)) == clip_frames(75, 25.0, 5)  # FFmpeg's rate where none is stated


def test_a_rate_that_varies_is_taken_as_even(caplog: pytest.LogCaptureFixture) -> None:
    path = MEDIA / "portrait_varying_rate.mkv"
    with caplog.at_level(logging.WARNING):
        assert read_clips(path, 5).shape == (5, 2, 96, 64, 3)
    assert caplog.messages == []  # it has fewer frames than its length and rate suggest, but reaches its end


def test_a_video_that_was_cut_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cut.mkv"
    data = (MEDIA / "portrait_varying_rate.mkv").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        clips = read_clips(path, 2)
    assert clips.shape == (2, 2, 96, 64, 3)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{path}: ends after ")


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    names = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + end)) for end in (b".png", b".wav", b".mp4")]
    Image.fromarray(PIXELS).save(names[0])
    assert read_picture(names[0]).shape == PIXELS.shape
    soundfile.write(os.fsencode(names[1]), wave(300, 1), 16000)
    assert read_audio(names[1])[0].shape == (300, 1)
    names[2].touch()
    one_line(lambda: read_clips(names[2], 5), f"'{tmp_path}/\\udcff.mp4': a name that is not UTF-8", "rename the file")


def test_videos_that_cannot_be_used(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, wave(30_000, 1), 16000)
    one_line(lambda: read_clips(sound, 5), f"{sound}: not a video that FFmpeg can read")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((MEDIA / "landscape.mp4").read_bytes()[:3000])  # without its index, which is at the end
    one_line(lambda: read_clips(cut, 5), f"{cut}: not a video that FFmpeg can read")
    header = tmp_path / "header.mkv"
    header.write_bytes((MEDIA / "portrait_varying_rate.mkv").read_bytes()[:700])
    one_line(lambda: read_clips(header, 5), f"{header}: ")
