"""Depth images: PNG sequences and the raw frames of 16-bit devices."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from real_sources import PngSequence

from agent.clock import ManualClock
from drivers.depth import DepthPng, DepthPngOptions, DepthV4l2, DepthV4l2Options
from drivers.driver import BadData, BadOption, DeviceNotFound, Disconnected, EndOfStream, FormatMismatch, ReadTimeout
from drivers.png import png_files
from drivers.raw16 import counts16


def write_png(path: Path, image: NDArray[np.generic]) -> None:
    assert cv2.imwrite(str(path), image)


NOISE = np.random.default_rng(1).integers(0, 65536, (40, 50)).astype(np.uint16)


class TestPng:
    def test_metres_in_order_at_the_rate(self, tmp_path: Path) -> None:
        with PngSequence(tmp_path / "depth", first=1000, step=100, count=12) as source:
            options = DepthPngOptions(str(source.directory), rate_hz=5.0, pace="fast", loop=False)
            with DepthPng(options, ManualClock(start_ns=10**10)) as depth:
                samples = [depth.read(0.1) for _ in range(12)]
                with pytest.raises(EndOfStream):
                    depth.read(0.1)
        assert all(s.data.dtype == np.float32 and s.data.shape == (120, 160) for s in samples)
        assert [s.data[0, 0] for s in samples] == pytest.approx([1.0 + 0.1 * k for k in range(12)])
        assert all(np.allclose(s.data[60:], 1.0) for s in samples)
        assert [s.t_ns for s in samples] == [10**10 + k * 200_000_000 for k in range(12)]

    def test_no_reading_stays_zero_and_the_scale_counts(self, tmp_path: Path) -> None:
        image = np.full((4, 5), 5000, np.uint16)
        image[0] = 0
        write_png(tmp_path / "0.png", image)
        with DepthPng(DepthPngOptions(str(tmp_path), scale_m=0.0002, pace="fast"), ManualClock()) as depth:
            metres = depth.read(0.1).data
        assert (metres[0] == 0).all()
        assert np.allclose(metres[1:], 1.0)

    def test_real_pace_loops_on_the_clock(self, tmp_path: Path) -> None:
        clock = ManualClock()
        source = PngSequence(tmp_path / "depth", first=1000, step=100, count=3)
        with source, DepthPng(DepthPngOptions(str(source.directory), rate_hz=10.0), clock) as depth:
            near = [depth.read(1.0).data[0, 0] for _ in range(7)]
            assert clock.now_ns() == 600_000_000
            with pytest.raises(ReadTimeout):
                depth.read(0.05)
        assert near == pytest.approx([1.0, 1.1, 1.2, 1.0, 1.1, 1.2, 1.0])

    def test_files_go_by_the_numbers_in_their_names(self, tmp_path: Path) -> None:
        for name in ("frame_10.png", "frame_9.png", "frame_100.png", "other_1.png", "frame_9.txt"):
            (tmp_path / name).touch()
        names = [Path(f).name for f in png_files(str(tmp_path / "frame_*.png"))]
        assert names == ["frame_9.png", "frame_10.png", "frame_100.png"]
        assert len(png_files(str(tmp_path))) == 4

    def test_a_directory_that_goes_away_and_comes_back(self, tmp_path: Path) -> None:
        source = PngSequence(tmp_path / "depth", first=1000, step=0)
        depth = DepthPng(DepthPngOptions(str(source.directory), pace="fast"), ManualClock())
        with pytest.raises(DeviceNotFound, match="no PNG files; wanted a directory"):
            depth.connect()
        with source, depth:
            depth.read(0.1)
            source.stop()
            with pytest.raises(Disconnected, match=r"1\.png"):
                depth.read(0.1)
            source.start()
            depth.connect()
            assert depth.read(0.1).data[0, 0] == pytest.approx(1.0)


class TestBadPng:
    @pytest.mark.parametrize(
        ("image", "found"),
        [(np.zeros((4, 4), np.uint8), "8-bit grey"), (np.zeros((4, 4, 3), np.uint16), "16-bit colour")],
    )
    def test_the_wrong_kind_is_named_with_its_file(
        self, tmp_path: Path, image: NDArray[np.generic], found: str
    ) -> None:
        write_png(tmp_path / "5.png", image)
        with pytest.raises(BadOption, match=rf"5\.png: a PNG image of {found}, wanted 16-bit grey"):
            DepthPng(DepthPngOptions(str(tmp_path)), ManualClock()).connect()

    def test_a_bad_file_among_good_ones_costs_only_itself(self, tmp_path: Path) -> None:
        for k in range(3):
            write_png(tmp_path / f"{k}.png", NOISE)
        whole = (tmp_path / "1.png").read_bytes()
        (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
        with DepthPng(DepthPngOptions(str(tmp_path), pace="fast"), ManualClock()) as depth:
            assert depth.read(0.1).t_ns == 0
            with pytest.raises(BadData, match=r"1\.png: truncated PNG"):
                depth.read(0.1)
            assert depth.read(0.1).t_ns == 200_000_000

    def test_a_file_of_another_size_than_the_first_costs_only_itself(self, tmp_path: Path) -> None:
        for k, image in enumerate((NOISE, NOISE[:20], NOISE)):
            write_png(tmp_path / f"{k}.png", image)
        with DepthPng(DepthPngOptions(str(tmp_path), pace="fast"), ManualClock()) as depth:
            depth.read(0.1)
            with pytest.raises(BadData, match=r"1\.png: a picture of 50x20 pixels came among those of 50x40"):
                depth.read(0.1)
            assert depth.read(0.1).data.shape == (40, 50)

    def test_another_size_is_refused(self, tmp_path: Path) -> None:
        write_png(tmp_path / "0.png", NOISE)
        with pytest.raises(FormatMismatch, match=r"0\.png: width was asked as 640 but the device gives 50"):
            DepthPng(DepthPngOptions(str(tmp_path), width=640), ManualClock()).connect()


@pytest.mark.parametrize(
    "bad",
    [
        {"scale_m": 0.0},
        {"scale_m": 1.0},
        {"scale_m": 1e-6},
        {"latency_ms": 5e7},
        {"rate_hz": -1.0},
        {"path": ""},
        {"latency_ms": float("nan")},
    ],
)
def test_impossible_options(bad: dict[str, object]) -> None:
    with pytest.raises(BadOption, match=next(iter(bad))):
        DepthPng(DepthPngOptions(**{"path": "x", **bad}), ManualClock())  # type: ignore[arg-type]


class TestRaw16:
    @pytest.mark.parametrize("shape", [(40, 50), (40, 50, 2), (1, 4000), (40, 100)])
    def test_every_layout_of_the_same_bytes(self, shape: tuple[int, ...]) -> None:
        raw = NOISE.reshape(shape) if shape == (40, 50) else NOISE.view(np.uint8).reshape(shape)
        counts = counts16(raw, 50, 40)
        assert counts.dtype == np.uint16
        assert np.array_equal(counts, NOISE)

    def test_too_few_bytes_and_pixels_of_another_size(self) -> None:
        with pytest.raises(BadData, match="a frame of 3998 bytes, wanted 50x40 pixels of 16 bits"):
            counts16(np.zeros(3998, np.uint8), 50, 40)
        with pytest.raises(BadData):
            counts16(np.zeros((40, 25), np.float32), 50, 40)

    def test_a_missing_device(self) -> None:
        with pytest.raises(DeviceNotFound, match="/dev/video98"):
            DepthV4l2(DepthV4l2Options("/dev/video98"), ManualClock()).connect()
        with pytest.raises(BadOption, match="device is 'video0'"):
            DepthV4l2(DepthV4l2Options("video0"), ManualClock())
