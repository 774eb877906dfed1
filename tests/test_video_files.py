"""Videos as people have them: every picture once, at its own time in the file, whatever the container tells."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from real_sources import missing
from recorded_run import replayed

from agent.clock import ManualClock
from agent.exchange.description import NAME, NO_START_NS
from agent.exchange.media import import_folder
from agent.log.format import LogError
from agent.log.reading import facts_of
from agent.log.replay.samples import SampleReplay
from common.media.fault import MediaError
from common.media.video import VideoReader
from drivers.camera import Camera, CameraOptions
from drivers.driver import BadOption, EndOfStream, Sample
from models.interop.media import clip_frames, read_audio, read_clips

NO_FFMPEG = missing("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(NO_FFMPEG is not None, reason=str(NO_FFMPEG))

PICTURES = 50
RATE_HZ = 10.0
STRIPES = 8


def ffmpeg(*words: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *words], check=True)


def picture_of(number: int) -> NDArray[np.uint8]:
    """A picture that tells its number by dark and light stripes, which survive any codec."""
    bits = [40 + 160 * (number >> bit & 1) for bit in range(STRIPES)]
    return np.broadcast_to(np.repeat(np.uint8(bits), 64 // STRIPES)[None, :, None], (48, 64, 3)).copy()


def probed(path: Path) -> str:
    """Lines of the kind of each stream and its first time, by ffprobe."""
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=start_time,codec_type", "-of", "csv=p=0", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def number(image: NDArray[np.uint8]) -> int:
    """Undo `picture_of`."""
    levels = image.reshape(48, STRIPES, -1).mean(axis=(0, 2))
    return sum(1 << bit for bit in range(STRIPES) if levels[bit] > 120)


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fifty pictures at 10 a second that tell their numbers."""
    path = str(tmp_path_factory.mktemp("video") / "source.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), RATE_HZ, (64, 48))
    for k in range(PICTURES):
        writer.write(picture_of(k))
    writer.release()
    return path


H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20")
VARYING = ("-vf", "select='not(mod(n,3))+gt(n,24)'", "-fps_mode", "vfr")  # 0, 3 ... 24, 25, 26 ...
SHOWN = [*range(0, 25, 3), *range(25, PICTURES)]
FILES = {
    "plain.mp4": H264,
    "h264.ts": (*H264, "-f", "mpegts"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-q:v", "2", "-r", "25", "-f", "mpegts"),
    "program.mpg": ("-c:v", "mpeg1video", "-q:v", "2", "-r", "25"),
    "program.vob": ("-c:v", "mpeg2video", "-q:v", "2", "-r", "25", "-f", "vob"),
    "browser.webm": ("-c:v", "libvpx", "-b:v", "400k", "-f", "webm", "-live", "1"),
    "piped.mkv": (*H264, "-f", "matroska"),
    "varying.webm": (*VARYING, "-c:v", "libvpx", "-b:v", "400k"),
    "varying.mkv": (*VARYING, *H264),
    "varying.mp4": (*VARYING, *H264),
}


@pytest.fixture(scope="module")
def videos(lossless: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures in containers that state too little, or seek badly."""
    folder = tmp_path_factory.mktemp("videos")
    for name, words in FILES.items():
        target = "pipe:1" if name == "piped.mkv" else str(folder / name)
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", lossless, *words, target]
        piped = subprocess.run(command, check=True, capture_output=True).stdout
        if piped:
            (folder / name).write_bytes(piped)
    ffmpeg("-ss", "1.3", "-i", str(folder / "plain.mp4"), "-c", "copy", str(folder / "cut.mp4"))
    return folder


def everything(path: Path) -> list[tuple[int, int]]:
    """(time in ms, number) of all pictures, read straight on."""
    with VideoReader(path) as video:
        found = []
        while (picture := video.read()) is not None:
            found.append((round(picture[0] / 1e6), number(picture[1])))
    return found


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("name", [*FILES, "cut.mp4"])
def test_every_picture_comes_once_at_its_time(videos: Path, name: str) -> None:
    found = everything(videos / name)
    if name == "cut.mp4":  # the edit list leaves out what lies before the cut
        expected = list(range(13, PICTURES))
        assert [k for _, k in found] == expected
        assert [t_ms for t_ms, _ in found] == pytest.approx([100 * (k - 13) for k in expected], abs=1)
        return
    if "-r" in FILES[name]:  # of MPEG-1 and -2, which know no rate of 10, each picture comes two or three times
        found = [found[0], *(after for before, after in pairwise(found) if after[1] != before[1])]
    expected = SHOWN if name.startswith("varying") else list(range(PICTURES))
    assert [k for _, k in found] == expected
    assert [t_ms for t_ms, _ in found] == pytest.approx([100 * k for k in expected], abs=21)


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("name", [*FILES, "cut.mp4"])
def test_a_place_in_the_file_shows_the_picture_of_that_time(videos: Path, name: str) -> None:
    expected = everything(videos / name)
    with VideoReader(videos / name) as video:
        for t_ms in (2345, 3100, 40, 4200, 0, 1700):
            wanted = next((found for found in expected if found[0] >= t_ms), None)
            assert video.seek(t_ms * 1_000_000) == (wanted is not None)
            if wanted is not None:
                picture = video.read()
                assert picture is not None
                assert (round(picture[0] / 1e6), number(picture[1])) == wanted
        assert not video.seek(video.length_ns)


def played(camera: Camera, count: int) -> list[Sample]:
    return [camera.read(1.0) for _ in range(count)]


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("name", ["h264.ts", "program.mpg", "browser.webm", "piped.mkv", "varying.mkv", "cut.mp4"])
def test_a_camera_plays_whole_laps_and_is_joined_at_the_right_picture(videos: Path, name: str) -> None:
    path = str(videos / name)
    lap = everything(videos / name)
    with Camera(CameraOptions(path, pace="fast", loop=False), ManualClock()) as camera:
        assert [round(s.t_ns / 1e6) for s in played(camera, len(lap))] == [t_ms for t_ms, _ in lap]
        with pytest.raises(EndOfStream):
            camera.read(0.1)
    with Camera(CameraOptions(path, pace="fast"), ManualClock()) as camera:
        samples = played(camera, 2 * len(lap))
    assert [number(s.data) for s in samples] == [k for _, k in lap] * 2
    second_ms = round(samples[len(lap)].t_ns / 1e6)
    assert lap[-1][0] < second_ms <= lap[-1][0] + 160
    clock = ManualClock()
    clock.sleep_until(round((second_ms + 2350) * 1e6))  # in the second lap
    with Camera(CameraOptions(path), clock) as camera:
        joined = camera.read(1.0)
    wanted = next(found for found in lap if found[0] >= 2350)
    assert (round(joined.t_ns / 1e6) - second_ms, number(joined.data)) == (pytest.approx(wanted[0], abs=1), wanted[1])


def without_default_duration(data: bytes) -> bytes:
    """A Matroska file that states no rate, as other muxers write it: the element becomes an empty one."""
    at = data.index(b"\x23\xe3\x83\x84")
    return data[:at] + b"\xec\x86" + bytes(6) + data[at + 8 :]


@needs_ffmpeg
@pytest.mark.hardware
def test_the_rate_of_a_varying_video_is_that_of_its_pictures(videos: Path, lossless: str, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    jitter = ("-vf", "settb=1/1000,setpts='PTS+70*random(1)'", "-fps_mode", "passthrough", "-enc_time_base", "1:1000")
    ffmpeg("-i", lossless, *jitter, "-c:v", "libvpx", "-b:v", "400k", str(tmp_path / "jitter.webm"))
    (folder / "unstated.webm").write_bytes(without_default_duration((tmp_path / "jitter.webm").read_bytes()))
    (folder / "varying.mkv").write_bytes((videos / "varying.mkv").read_bytes())
    assert cv2.VideoCapture(str(folder / "unstated.webm")).get(cv2.CAP_PROP_FPS) > 5 * RATE_HZ
    report = import_folder(folder, tmp_path / "log.mcap")
    assert {name: sensor.rows for name, sensor in report.sensors.items()} == {"unstated": 50, "varying": len(SHOWN)}
    sensors = facts_of(tmp_path / "log.mcap").sensors
    assert sensors["unstated"].rate_hz == pytest.approx(RATE_HZ, rel=0.03)
    assert sensors["varying"].rate_hz == pytest.approx((len(SHOWN) - 1) / 4.9, rel=0.01)
    clips = read_clips(folder / "unstated.webm", 2)
    with VideoReader(folder / "unstated.webm") as video:
        assert [[number(frame) for frame in clip] for clip in clips] == [
            list(pair) for pair in clip_frames(PICTURES, video.rate_hz, 2)
        ]


def sound_of(video: Path, out: Path) -> tuple[str, ...]:
    """FFmpeg's words for the sound of a video from the beginning of the file on, as docs/log-exchange.md has them."""
    page = (Path(__file__).parents[1] / "docs" / "log-exchange.md").read_text()
    [command] = re.findall(r"`ffmpeg (-i drive\.mp4 .*?)`", page)
    return tuple({"drive.mp4": str(video), "drive.wav": str(out)}.get(word, word) for word in command.split())


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_sound_track_that_begins_late_begins_late_beside_its_pictures(
    lossless: str, suffix: str, tmp_path: Path
) -> None:
    drive, sound = tmp_path / f"drive.{suffix}", tmp_path / "sound.wav"
    tone = ("-itsoffset", "0.6", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000:duration=3")
    ffmpeg("-i", lossless, *tone, "-map", "0:v", "-map", "1:a", *H264, "-c:a", "aac", str(drive))
    ffmpeg(*sound_of(drive, sound))
    rows, rate_hz = read_audio(sound)
    assert np.flatnonzero(np.abs(rows[:, 0]) > 0.01)[0] / rate_hz == pytest.approx(0.6, abs=0.1)


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "m2ts", "mpg"])
def test_a_picture_track_that_begins_late_begins_late_beside_its_sound(
    lossless: str, suffix: str, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    drive, tone = folder / f"drive.{suffix}", ("-f", "lavfi", "-i", "sine=frequency=440:duration=5")
    codecs = ("-vf", "fps=25", "-c:v", "mpeg2video", "-c:a", "mp2") if suffix == "mpg" else (*H264, "-c:a", "aac")
    coded = ("-map", "0:v", "-map", "1:a", "-fps_mode", "passthrough", *codecs)
    ffmpeg("-itsoffset", "0.7", "-i", lossless, *tone, *coded, str(drive))
    ffmpeg(*sound_of(drive, folder / "sound.wav"))
    starts = [sorted(line.split(",")[:2]) for line in probed(drive).split()]
    video_s, sound_s = (next(float(t_s) for t_s, kind in starts if kind == name) for name in ("video", "audio"))
    assert 0.69 < video_s - sound_s < 0.74  # encoders of sound add some of their own in front
    half_period_ns = 5e7 if suffix in ("mp4", "mkv") else 2e6
    wanted_ns = pytest.approx((video_s - sound_s) * 1e9, abs=half_period_ns)
    import_folder(folder, tmp_path / "log.mcap")
    first = {}
    for name, sample in replayed(SampleReplay(tmp_path / "log.mcap")):
        first.setdefault(name, sample.t_ns - NO_START_NS)
    assert first["drive"] == wanted_ns
    assert first["sound"] == 0
    lap = everything(drive)
    with Camera(CameraOptions(str(drive), pace="fast"), ManualClock()) as camera:
        samples = played(camera, len(lap) + 1)
    assert samples[0].t_ns == wanted_ns
    with VideoReader(drive) as video:
        assert samples[-1].t_ns - video.length_ns == wanted_ns  # in the next lap too


def test_a_bare_stream_has_the_rate_that_it_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    path = folder / "bare.mjpeg"
    frames = [cv2.imencode(".jpg", picture_of(k))[1].tobytes() for k in range(20)]
    path.write_bytes(b"".join(frames))
    with Camera(CameraOptions(str(path), rate_hz=8.0, pace="fast"), ManualClock()) as camera:
        samples = played(camera, 25)
    assert [s.t_ns for s in samples] == [k * 125_000_000 for k in range(25)]
    assert [number(s.data) for s in samples] == [*range(20), *range(5)]
    with pytest.raises(BadOption, match=r"bare\.mjpeg: holds no times of its pictures; give rate_hz"):
        Camera(CameraOptions(str(path)), ManualClock()).connect()
    with pytest.raises(LogError, match=r"bare\.mjpeg: holds no times of its pictures; give rate_hz"):
        import_folder(folder, tmp_path / "log.mcap")
    (folder / NAME).write_text("sensors: {camera: {file: bare.mjpeg, rate_hz: 5}}")
    import_folder(folder, tmp_path / "log.mcap")
    found = [sample.t_ns - NO_START_NS for _, sample in replayed(SampleReplay(tmp_path / "log.mcap"))]
    assert found == [k * 200_000_000 for k in range(20)]


@needs_ffmpeg
@pytest.mark.hardware
def test_bare_h264_is_read_at_the_given_rate(lossless: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    ffmpeg("-i", lossless, *H264, str(path))
    with VideoReader(path, 10.0) as video:
        found = []
        while (picture := video.read()) is not None:
            found.append((picture[0], number(picture[1])))
    assert found == [(k * 100_000_000, k) for k in range(PICTURES)]


@pytest.mark.parametrize("text", ["#EXTM3U\nother.ts\n", "ffconcat version 1.0\nfile b.mp4\n", "<?xml version='1.0'?>"])
def test_lists_of_other_files_are_not_videos(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(text)
    for read in (VideoReader, lambda path: read_clips(path, 2)):
        with pytest.raises(MediaError, match=r"list\.mp4: not a video but text"):
            read(path)
    with pytest.raises(BadOption, match=r"list\.mp4: not a video but text"):
        Camera(CameraOptions(str(path)), ManualClock()).connect()
