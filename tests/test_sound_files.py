"""Sound files whose heads state no length, or a wrong one: every row is handed out, once, at its place."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from real_sources import missing
from recorded_run import replayed

from agent.clock import ManualClock
from agent.exchange.media import import_folder
from agent.log.replay.samples import SampleReplay
from common.media.fault import MediaError
from common.media.sound import SoundReader, read_sound
from drivers.audio_file import AudioFile, AudioFileOptions
from drivers.driver import BadData

NO_FFMPEG = missing("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(NO_FFMPEG is not None, reason=str(NO_FFMPEG))
RATE_HZ = 44_100
MP3_FRAME = 1152
DELAY = 1105
"""Rows that an MP3 decoder gives before the first row of the sound: 576 of LAME, 529 of the decoder."""


def speech(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """Quiet and loud passages in turn, so that a varying bit rate varies."""
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(3).normal(0, 0.15, len(t_s))
    return (0.3 * np.sin(2 * np.pi * 440 * t_s) + noise * (t_s % 2 > 1)).astype(np.float32)


def encoded(sound: NDArray[np.float32], form: str, rate_hz: int = RATE_HZ, **options: object) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate_hz, format=form, **options)
    return buffer.getvalue()


def mp3(seconds: float = 6.0) -> bytes:
    return encoded(speech(seconds), "MP3", bitrate_mode="VARIABLE", compression_level=0.4)


def without_information(data: bytes) -> bytes:
    """An MP3 as an encoder writes it to a pipe: its first frame, which tells the length, is not there."""
    mark = max(data.find(b"Xing", 0, 200), data.find(b"Info", 0, 200))
    assert mark > 0
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    return data[144_000 * kbps // RATE_HZ + (data[2] >> 1 & 1) :]


def read_in_blocks(path: Path, rows: int = 3000) -> NDArray[np.float32]:
    with SoundReader(path) as reader:
        blocks = [reader.read(rows)]
        while len(blocks[-1]):
            blocks.append(reader.read(rows))
        sound = np.concatenate(blocks)
        assert len(sound) == reader.rows == reader.at
    return sound


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    whole = soundfile.read(io.BytesIO(mp3()), dtype="float32", always_2d=True)[0]
    path = written(tmp_path, "pipe.mp3", without_information(mp3()))
    assert soundfile.info(path).frames < 0.7 * len(whole)  # libsndfile's estimate, by the size of the first frame
    sound = read_in_blocks(path)
    assert len(sound) % MP3_FRAME == 0
    assert 0 <= len(sound) - DELAY - len(whole) < 2 * MP3_FRAME
    assert np.abs(sound[DELAY : DELAY + len(whole)] - whole).max() < 1e-5
    assert np.array_equal(read_sound(path, 2**24)[0], sound)


def test_blocks_of_an_mp3_are_those_of_the_whole(tmp_path: Path) -> None:
    path = written(tmp_path, "sound.mp3", mp3())
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert np.array_equal(read_in_blocks(path, 700), whole)


@needs_ffmpeg
@pytest.mark.hardware
@pytest.mark.parametrize("coding", [["-b:a", "96k"], ["-q:a", "5"], ["-q:a", "5", "-ar", "16000"], ["-c:a", "mp2"]])
def test_mpeg_sound_from_a_pipe_is_what_ffmpeg_decodes(coding: list[str], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "sound.wav", speech(4.0), RATE_HZ)
    form = "mp2" if "mp2" in coding else "mp3"
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "sound.wav"), *coding, "-f", form, "pipe:1"]
    path = written(tmp_path, "pipe", subprocess.run(command, check=True, capture_output=True).stdout)
    decode = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "pipe:1"]
    expected = np.frombuffer(subprocess.run(decode, check=True, capture_output=True).stdout, np.float32)
    sound = read_in_blocks(path)[:, 0]
    assert len(sound) == len(expected)
    assert np.abs(sound - expected).max() < 1e-4


def test_joined_mp3_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    tag = b"ID3\4\0\0\0\0\x10\0" + bytes(2048)  # a cover, which the second file begins with
    one = soundfile.read(io.BytesIO(mp3()), dtype="float32", always_2d=True)[0]
    for between in (b"", tag, b"\0junk" * 400):
        path = written(tmp_path, "two.mp3", mp3() + between + mp3())
        assert np.array_equal(read_in_blocks(path), np.concatenate([one, one]))


def test_a_length_that_is_too_small_is_not_believed(tmp_path: Path) -> None:
    data = bytearray(mp3())
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    data[mark + 8 : mark + 12] = struct.pack(">I", 40)
    whole = soundfile.read(io.BytesIO(mp3()), dtype="float32", always_2d=True)[0]
    sound = read_in_blocks(written(tmp_path, "sound.mp3", bytes(data)))
    assert 0 <= len(sound) - len(whole) < MP3_FRAME
    assert np.array_equal(sound[: len(whole)], whole)


def test_a_cut_mp3_is_truncated(tmp_path: Path) -> None:
    path = written(tmp_path, "cut.mp3", mp3()[:30_000])
    with pytest.raises(MediaError, match=r"cut\.mp3: ends after \d+ of 264600 samples, truncated"):
        read_sound(path, 2**24)


def test_an_mp3_without_a_length_loops_as_a_whole(tmp_path: Path) -> None:
    path = written(tmp_path, "pipe.mp3", without_information(mp3(2.5)))
    lap = read_in_blocks(path)
    options = AudioFileOptions(str(path), rate_hz=RATE_HZ, pace="fast", block_ms=130.0)
    with AudioFile(options, ManualClock()) as file:
        blocks = [file.read(0.1) for _ in range(60)]
    rows = np.concatenate([block.data for block in blocks])
    assert len(rows) > 2 * len(lap)
    assert np.array_equal(rows, np.resize(lap, rows.shape))


def test_a_late_place_in_ogg_vorbis_is_the_right_one(tmp_path: Path) -> None:
    path = written(tmp_path, "sound.ogg", encoded(speech(6.0, 48_000), "OGG", 48_000, subtype="VORBIS"))
    whole = read_in_blocks(path)
    with SoundReader(path) as reader:
        for row in (250_000, 270_000, 100, 200_000, 287_900):
            reader.seek(row)
            assert np.array_equal(reader.read(1000), whole[row : row + 1000])
    clock = ManualClock()
    clock.sleep_until(5_500_000_000)
    with AudioFile(AudioFileOptions(str(path), rate_hz=48_000, loop=False), clock) as file:
        assert np.array_equal(file.read(1.0).data, whole[264_000:266_400])


def test_joined_ogg_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    parts = [encoded(speech(seconds, 16_000), "OGG", 16_000, subtype="VORBIS") for seconds in (1.0, 1.7)]
    path = written(tmp_path, "joined.ogg", b"".join(parts))
    sound = read_in_blocks(path, 7000)
    each = [soundfile.read(io.BytesIO(part), dtype="float32", always_2d=True)[0] for part in parts]
    assert np.array_equal(sound, np.concatenate(each))
    with SoundReader(path) as reader:
        reader.seek(15_990)
        assert np.array_equal(reader.read(30), sound[15_990:16_020])
    path.write_bytes(parts[0] + encoded(speech(1.0, 8000), "OGG", 8000, subtype="VORBIS"))
    with pytest.raises(MediaError, match="changes from 16000 Hz and 1 channels to 8000 Hz and 1; split it there"):
        SoundReader(path)


def flac_of_unknown_length(rows: int) -> bytes:
    data = bytearray(encoded(speech(rows / 16_000, 16_000), "FLAC", 16_000, subtype="PCM_16"))
    data[21] &= 0xF0  # the 36 bits of the length, of which 0 is "unknown"
    data[22:26] = bytes(4)
    return bytes(data)


def test_the_last_frame_tells_the_length_of_a_flac_that_states_none(tmp_path: Path) -> None:
    whole = soundfile.read(io.BytesIO(encoded(speech(4.0, 16_000), "FLAC", 16_000, subtype="PCM_16")))[0]
    path = written(tmp_path, "pipe.flac", flac_of_unknown_length(64_000))
    sound = read_in_blocks(path)
    assert np.allclose(sound[:, 0], whole, atol=1e-6)
    path.write_bytes(path.read_bytes()[:-300])  # as of a recorder that was killed
    cut = read_in_blocks(path)
    assert 64_000 - 4096 <= len(cut) < 64_000
    assert np.array_equal(cut, sound[: len(cut)])


def wav(riff: int, data: int, body: bytes, behind: bytes = b"") -> bytes:
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    return struct.pack("<4sI8s", b"RIFF", riff, b"WAVEfmt ") + form + struct.pack("<4sI", b"data", data) + body + behind


PCM = np.rint(speech(1.5, 16_000) * 20_000).astype("<i2")
BODY = PCM.tobytes()


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),  # a recorder that was killed, GStreamer into a pipe
        (36 + len(BODY), 0),
        (2**32 - 1, 2**32 - 1),  # ffmpeg into a pipe
        (0x7FFF_F024, 0x7FFF_F000),  # sox
        (2**31 + 36, 2**31),  # arecord
        (36 + len(BODY), len(BODY)),
    ],
)
def test_a_wav_is_read_to_its_end_whatever_sizes_it_states(riff: int, data: int, tmp_path: Path) -> None:
    path = written(tmp_path, "sound.wav", wav(riff, data, BODY))
    samples, rate_hz = read_sound(path, 2**24)
    assert rate_hz == 16_000
    assert np.array_equal(samples[:, 0] * 32_768, PCM)
    with AudioFile(AudioFileOptions(str(path), pace="fast", loop=False, block_ms=400.0), ManualClock()) as file:
        assert sum(len(file.read(0.1).data) for _ in range(4)) == len(PCM)


def test_an_rf64_without_sizes_is_read_to_its_end(tmp_path: Path) -> None:
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    head = (
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + bytes(28) + b"fmt " + form + b"data\xff\xff\xff\xff"
    )
    samples, _ = read_sound(written(tmp_path, "sound.wav", head + BODY), 2**24)
    assert np.array_equal(samples[:, 0] * 32_768, PCM)


def test_a_wav_whose_size_ran_over_is_read_to_its_end(tmp_path: Path) -> None:
    rows = 2**31 + 500  # of 2 bytes; the file takes no room on the disk
    path = written(tmp_path, "long.wav", wav(36 + 1000, 1000, b""))
    with path.open("r+b") as file:
        file.seek(44 + 2 * rows - len(BODY))
        file.write(BODY)
    with SoundReader(path) as reader:
        assert reader.rows == reader.stated_rows == rows
        reader.seek(rows - len(PCM))
        assert np.array_equal(reader.read(10**6)[:, 0] * 32_768, PCM)


def test_an_empty_wav_is_empty_whatever_follows(tmp_path: Path) -> None:
    for behind in (b"", b"LIST\6\0\0\0INFO\0\0", b"bext\3\0\0\0abc\0note\0\0\0\0"):
        path = written(tmp_path, "empty.wav", wav(36 + len(behind), 0, b"", behind))
        with pytest.raises(MediaError, match="the recording is empty"):
            read_sound(path, 2**24)


def test_a_cut_aiff_is_truncated(tmp_path: Path) -> None:
    whole = encoded(speech(1.5, 16_000), "AIFF", 16_000, subtype="PCM_24")
    assert len(read_sound(written(tmp_path, "whole.aiff", whole), 2**24)[0]) == 24_000
    path = written(tmp_path, "cut.aiff", whole[: len(whole) - 3 * 5000])
    with pytest.raises(MediaError, match=r"cut\.aiff: ends after 19000 of 24000 samples, truncated"):
        read_sound(path, 2**24)


def test_a_cut_wav_is_told_by_all_who_read_it(tmp_path: Path) -> None:
    path = written(tmp_path, "cut.wav", wav(36 + len(BODY), len(BODY), BODY[:20_000]))
    with pytest.raises(MediaError, match=r"cut\.wav: ends after 10000 of 24000 samples, truncated"):
        read_sound(path, 2**24)

    with AudioFile(AudioFileOptions(str(path), pace="fast", block_ms=625.0), ManualClock()) as file:
        assert np.array_equal(file.read(0.1).data[:, 0] * 32_768, PCM[:10_000])
        with pytest.raises(BadData, match="the file ends 14000 rows before the length it states"):
            file.read(0.1)
        again = [file.read(0.1) for _ in range(3)]  # told once; the laps are those of the sound that is there
    assert [block.t_ns for block in again] == [625_000_000, 1_250_000_000, 1_875_000_000]

    report = import_folder(tmp_path, tmp_path / "log.mcap")
    assert report.sensors["cut"].rows == 10_000
    assert report.sensors["cut"].faults == {"rows that the file states and does not hold": 14_000}
    imported = [sample.data for _, sample in replayed(SampleReplay(tmp_path / "log.mcap"))]
    assert np.array_equal(np.concatenate(imported)[:, 0] * 32_768, PCM[:10_000])
