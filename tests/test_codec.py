from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from drivers import codec, image_file
from drivers.driver import BadData, Modality, Sample
from protos.sensors_pb2 import AudioBlock, Image, ImuBlock, SensorSample

RNG = np.random.default_rng(7)
COLOUR = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], (36, 1, 3)) + np.uint8([0, 5, 10])
DEPTH = RNG.uniform(0.3, 9.0, (12, 16)).astype(np.float32)
THERMAL = RNG.uniform(-20.0, 60.0, (12, 16)).astype(np.float32)
AUDIO = RNG.uniform(-1, 1, (160, 4)).astype(np.float32)
IMU = RNG.normal(0, 9.8, (40, 6)).astype(np.float32)
SAMPLES: dict[Modality, Sample] = {
    "vision": Sample(1_700_000_000_123_456_789, COLOUR),
    "depth": Sample(2, DEPTH),
    "thermal": Sample(3, THERMAL),
    "audio": Sample(4, AUDIO, rate_hz=16000.0, lost=3),
    "imu": Sample(5, IMU, rate_hz=400.0),
}


@pytest.mark.parametrize("modality", SAMPLES)
def test_every_modality_comes_back_bit_for_bit(modality: Modality) -> None:
    sample = SAMPLES[modality]
    wire = codec.encode_sample("a_sensor", modality, sample).SerializeToString()
    message = SensorSample.FromString(wire)
    got_modality, got = codec.decode_sample(message)
    assert (message.sensor, got_modality) == ("a_sensor", modality)
    assert (got.t_ns, got.rate_hz, got.lost) == (sample.t_ns, sample.rate_hz, sample.lost)
    assert got.data.dtype == sample.data.dtype
    np.testing.assert_array_equal(got.data, sample.data)


def test_values_that_are_not_finite_are_carried() -> None:
    depth = DEPTH.copy()
    depth[0, 0] = np.nan
    _, got = codec.decode_sample(codec.encode_sample("d", "depth", Sample(1, depth)))
    np.testing.assert_array_equal(got.data, depth)


def test_png_is_lossless_and_jpeg_close() -> None:
    exact = codec.decode_colour(codec.encode_colour(COLOUR, "png"))
    np.testing.assert_array_equal(exact, COLOUR)
    close = codec.decode_colour(codec.encode_colour(COLOUR, "jpeg", 95))
    difference = np.abs(close.astype(int) - COLOUR.astype(int))
    assert difference.mean() < 3


def test_depth_png_counts_are_millimetres() -> None:
    image = codec.encode_plane(DEPTH, "png", scale=0.001)
    assert len(image.data) < DEPTH.nbytes
    np.testing.assert_allclose(codec.decode_plane(image), DEPTH, atol=0.0005001)


def test_thermal_counts_reach_below_zero() -> None:
    image = codec.encode_plane(THERMAL, "png", scale=0.01, offset=-273.15)
    np.testing.assert_allclose(codec.decode_plane(image), THERMAL, atol=0.00502)


def test_mono16_is_scaled() -> None:
    counts = np.array([[0, 1000], [65535, 30000]], "<u2")
    image = Image(encoding=Image.ENCODING_MONO16, width=2, height=2, data=counts.tobytes(), scale=0.001)
    np.testing.assert_allclose(codec.decode_plane(image), [[0, 1.0], [65.535, 30.0]], rtol=1e-6)


def test_s16_full_scale_is_one() -> None:
    pcm = np.array([[0, 16384], [-32768, 32767]], "<i2")
    block = AudioBlock(encoding=AudioBlock.ENCODING_PCM_S16, rate_hz=8000, channels=2, data=pcm.tobytes())
    rows, rate_hz = codec.decode_audio(block)
    assert rate_hz == 8000
    np.testing.assert_allclose(rows, [[0, 0.5], [-1, 32767 / 32768]])


def test_values_without_a_count_are_refused() -> None:
    with pytest.raises(BadData, match="do not fit 16-bit counts"):
        codec.encode_plane(np.full((2, 2), 66.0, np.float32), "png", scale=0.001)
    with pytest.raises(BadData, match="JPEG loses depth"):
        codec.encode_plane(DEPTH, "jpeg")


RGB8, JPEG, PNG = Image.ENCODING_RGB8, Image.ENCODING_JPEG, Image.ENCODING_PNG
FLOAT32, MONO16 = Image.ENCODING_FLOAT32, Image.ENCODING_MONO16
GOOD_JPEG = image_file.write_jpeg(COLOUR)
GOOD_PNG = image_file.write_png(COLOUR)
GREY_PNG = image_file.write_png(np.zeros((4, 4), np.uint8))
PCM = AudioBlock.ENCODING_PCM_S16


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (SensorSample(), "without a payload"),
        (SensorSample(vision=Image(encoding=RGB8, width=2, height=2, data=b"123")), "needs 12 bytes but 3 came"),
        (SensorSample(vision=Image(encoding=RGB8, width=0, height=2)), "0x2 pixels has none"),
        (SensorSample(vision=Image(encoding=RGB8, width=4000000000, height=4000000000)), "larger than"),
        (SensorSample(vision=Image(encoding=MONO16, width=1, height=1, data=b"12")), "vision in encoding MONO16"),
        (SensorSample(vision=Image(encoding=99, width=1, height=1)), "vision in encoding 99"),  # type: ignore[arg-type]
        (SensorSample(vision=Image(encoding=JPEG)), "not a JPEG"),
        (SensorSample(vision=Image(encoding=JPEG, data=GOOD_JPEG[:-40])), "truncated JPEG of 48x36"),
        (SensorSample(vision=Image(encoding=JPEG, data=GOOD_JPEG[:100])), "damaged JPEG: no frame header"),
        (SensorSample(vision=Image(encoding=JPEG, data=GOOD_JPEG, width=47)), "declared 47x0 but its file holds 48x36"),
        (SensorSample(vision=Image(encoding=PNG, data=b"")), "not a PNG"),
        (SensorSample(vision=Image(encoding=PNG, data=GOOD_PNG[:-5])), "truncated PNG"),
        (SensorSample(vision=Image(encoding=PNG, data=GREY_PNG)), "8-bit RGB was wanted"),
        (SensorSample(depth=Image(encoding=PNG, data=GREY_PNG)), "16-bit grey was wanted"),
        (SensorSample(depth=Image(encoding=JPEG, data=GOOD_JPEG)), "encoding JPEG; send FLOAT32, MONO16 or PNG"),
        (SensorSample(thermal=Image(encoding=FLOAT32, width=2, height=1, data=b"1234567")), "needs 8 bytes"),
        (
            SensorSample(thermal=Image(encoding=MONO16, width=1, height=1, data=b"12", scale=float("inf"))),
            "must be finite",
        ),
        (SensorSample(audio=AudioBlock(encoding=PCM, rate_hz=8000, channels=0, data=b"12")), "0 audio channels"),
        (SensorSample(audio=AudioBlock(encoding=PCM, rate_hz=8000, channels=2, data=b"123")), "rows of 4 bytes"),
        (SensorSample(audio=AudioBlock(encoding=PCM, rate_hz=8000, channels=2)), "audio block of 0 bytes"),
        (SensorSample(audio=AudioBlock(encoding=PCM, rate_hz=float("nan"), channels=1, data=b"12")), "rate of nan"),
        (SensorSample(audio=AudioBlock(rate_hz=8000, channels=1, data=b"12")), "audio in encoding 0"),
        (SensorSample(imu=ImuBlock(rate_hz=400, data=b"1" * 25)), "rows of 24 bytes"),
        (SensorSample(imu=ImuBlock(rate_hz=0, data=b"1" * 24)), "rate of 0.0 Hz"),
        (SensorSample(imu=ImuBlock(rate_hz=1e-310, data=b"1" * 24)), "rate of 1e-310 Hz"),  # rows of endless seconds
    ],
)
def test_what_is_not_a_sample_is_refused(message: SensorSample, words: str) -> None:
    with pytest.raises(BadData, match=words) as refused:
        codec.decode_sample(message)
    assert "\n" not in str(refused.value)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_decode_bombs_are_refused_from_their_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    def decoder(*_: object) -> None:
        raise AssertionError("the decoder saw the bomb")

    monkeypatch.setattr(cv2, "imdecode", decoder)
    with pytest.raises(BadData, match="30000x30000 pixels is larger"):
        image_file.read_png(png_header(30000, 30000))
    at = GOOD_JPEG.index(b"\xff\xc0")
    bomb = GOOD_JPEG[: at + 5] + struct.pack(">HH", 60000, 60000) + GOOD_JPEG[at + 9 :]
    with pytest.raises(BadData, match="60000x60000 pixels is larger"):
        image_file.read_jpeg(bomb)


def test_a_png_is_measured_in_bytes_too() -> None:
    """16 bits of red, green, blue and alpha are eight times the bytes of a grey picture."""
    assert image_file.png_size(png_header(7680, 4320)) == (7680, 4320)
    assert image_file.png_size(png_header(7680, 4320, depth=16, colour=0)) == (7680, 4320)
    with pytest.raises(BadData, match="7680x4320 pixels of 16 bits needs 265420800 bytes once decoded"):
        image_file.png_size(png_header(7680, 4320, depth=16, colour=6))


def test_scans_and_markers_of_a_jpeg_are_bounded() -> None:
    """Every scan of a progressive file makes the decoder go over the whole picture."""
    at = GOOD_JPEG.index(b"\xff\xda")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert image_file.jpeg_size(GOOD_JPEG[:at] + 60 * scan + GOOD_JPEG[at:]) == (48, 36)
    with pytest.raises(BadData, match="JPEG of 48x36 in 501 scans; at most 64"):
        image_file.jpeg_size(GOOD_JPEG[:at] + 500 * scan + GOOD_JPEG[at:])
    assert image_file.jpeg_size(GOOD_JPEG[:2] + 100 * b"\xff" + GOOD_JPEG[2:]) == (48, 36)
    with pytest.raises(BadData, match="no frame header in 4098 of"):
        image_file.jpeg_size(GOOD_JPEG[:2] + 100_000 * b"\xff" + GOOD_JPEG[2:])


def test_a_flipped_bit_in_a_png_is_found() -> None:
    for at in range(8, len(GOOD_PNG), 7):
        damaged = bytearray(GOOD_PNG)
        damaged[at] ^= 0x10
        with pytest.raises(BadData):
            image_file.read_png(bytes(damaged))


def test_padding_after_a_jpeg_is_allowed() -> None:
    np.testing.assert_array_equal(image_file.read_jpeg(GOOD_JPEG + bytes(100)), image_file.read_jpeg(GOOD_JPEG))


def noisy_jpeg(*settings: int) -> bytes:
    import cv2

    picture = np.random.default_rng(6).integers(0, 256, (36, 48, 3), np.uint8)
    return cv2.imencode(".jpg", picture, settings)[1].tobytes()


def test_a_jpeg_without_its_end_marker_is_read_if_all_of_its_rows_came(capfd: pytest.CaptureFixture[str]) -> None:
    import cv2

    for settings in ((), (cv2.IMWRITE_JPEG_RST_INTERVAL, 3)):
        whole = noisy_jpeg(*settings)
        for end in (2, 1):
            np.testing.assert_array_equal(image_file.read_jpeg(whole[:-end]), image_file.read_jpeg(whole))
    assert capfd.readouterr().err == ""
    for missing in (*range(4, 40), len(whole) // 2):
        with pytest.raises(BadData, match="truncated JPEG of 48x36: no end marker in"):
            image_file.read_jpeg(whole[:-missing])
    with pytest.raises(BadData, match="truncated JPEG"):
        image_file.read_jpeg(noisy_jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)[:-2])


def test_mutated_messages_decode_or_are_bad_data() -> None:
    rng = np.random.default_rng(3)
    bodies = [codec.encode_sample("s", m, sample).SerializeToString() for m, sample in SAMPLES.items()]
    bodies += [codec.encode_sample("s", "vision", SAMPLES["vision"], encoding="jpeg").SerializeToString()]
    decoded = refused = 0
    for _ in range(300):
        body = bytearray(bodies[rng.integers(len(bodies))])
        for at in rng.integers(len(body), size=3):
            body[at] = rng.integers(256)
        message = SensorSample()
        try:
            message.ParseFromString(bytes(body[: rng.choice([len(body), len(body) // 2])]))
            codec.decode_sample(message)
            decoded += 1
        except (BadData, DecodeError):
            refused += 1
    assert decoded
    assert refused


def test_importing_the_codec_does_not_import_cv2() -> None:
    code = "import sys, drivers.codec; sys.exit('cv2' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
