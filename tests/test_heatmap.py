"""A thing of known place on a synthetic map is found there, in patches and in pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.perceiving.localization.heatmap import Box, Map, best_mean, find_box, find_peak, heat_map, to_pixels

WHOLE = Box(40.0, 0.0, 280.0, 240.0)  # the middle of a 320 x 240 image: 15 pixels a patch


def bump(row: float, column: float, width: float = 1.5, height: float = 0.4, noise: float = 0.01, seed: int = 0) -> Map:
    """A map of noise around 0.1 with a smooth bump, its top at a patch coordinate."""
    r, c = np.mgrid[0:16, 0:16] + 0.5
    top = height * np.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * width**2))
    return (0.1 + top + np.random.default_rng(seed).normal(0, noise, (16, 16))).astype(np.float32)


def box_of(heat: Map, level: float = 0.5) -> tuple[float, float, float, float]:
    """The box of what reaches some of the peak's height over the median."""
    peak = find_peak(heat)
    return find_box(heat, peak.patch, peak.similarity - (1 - level) * peak.contrast)


def test_similarity_is_the_cosine_of_every_patch() -> None:
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(16, 16, 8))
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    heat = heat_map(patches.astype(np.float32), patches[3, 9].astype(np.float32))
    assert heat.shape == (16, 16)
    assert heat[3, 9] == pytest.approx(1.0, abs=1e-6)
    assert heat[0, 0] == pytest.approx(float(patches[0, 0] @ patches[3, 9]), abs=1e-6)
    assert np.abs(heat).max() <= 1.0


@settings(deadline=None)
@given(st.floats(1.5, 14.5), st.floats(1.5, 14.5), st.integers(0, 1000))
def test_the_peak_is_found_to_half_a_patch(row: float, column: float, seed: int) -> None:
    peak = find_peak(bump(row, column, seed=seed))
    assert abs(peak.row - row) < 0.5
    assert abs(peak.column - column) < 0.5
    assert 0.3 < peak.contrast < 0.45
    assert peak.sigmas > 10


def test_noise_has_no_peak_that_stands_out() -> None:
    sigmas = [find_peak(bump(8, 8, height=0.0, seed=seed)).sigmas for seed in range(200)]
    # The expected highest of 256 normal values is 2.8 standard deviations.
    assert 2.4 < float(np.median(sigmas)) < 3.2
    assert np.quantile(sigmas, 0.95) < 4.0


def test_a_flat_map_has_no_peak() -> None:
    peak = find_peak(np.full((16, 16), 0.3, np.float32))
    assert peak.contrast == 0.0
    assert peak.sigmas == 0.0


def test_the_peak_is_looked_for_in_the_allowed_columns_only() -> None:
    heat = np.maximum(bump(4, 3, height=0.5), bump(10, 12, height=0.3))
    assert abs(find_peak(heat).column - 3) < 0.5
    peak = find_peak(heat, np.arange(16) >= 8)
    assert abs(peak.column - 12) < 0.5
    assert abs(peak.row - 10) < 0.5
    assert peak.contrast == pytest.approx(peak.similarity - float(np.median(heat)))


def test_the_box_holds_the_thing_and_not_its_neighbour() -> None:
    heat = np.full((16, 16), 0.1, np.float32)
    heat[4:8, 2:5] = 0.5
    heat[5, 3] = 0.6
    heat[10:14, 9:15] = 0.55  # as high, but apart
    # Its level is 0.35, which a slope from 0.5 to 0.1 between two patches' middles crosses after 0.375 of a patch.
    assert box_of(heat) == pytest.approx((4.125, 2.125, 7.875, 4.875), abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "columns"), [((3.0, 8.0), (5.0, 11.0)), ((2.4, 9.1), (4.7, 8.3)), ((6.8, 11.5), (0, 16))]
)
def test_an_edge_between_patches_is_found_between_them(rows: tuple[float, float], columns: tuple[float, float]) -> None:
    """A patch that a thing covers in part is like it in part."""
    covered = [
        np.clip(np.minimum(b, np.arange(16) + 1) - np.maximum(a, np.arange(16)), 0, 1) for a, b in (rows, columns)
    ]
    heat = (0.1 + 0.4 * np.outer(*covered)).astype(np.float32)
    top, left, bottom, right = box_of(heat)
    assert (top, bottom) == pytest.approx(rows, abs=0.15)
    assert (left, right) == pytest.approx(columns, abs=0.15)


def test_the_mean_of_the_best_patches_is_of_allowed_columns() -> None:
    heat = np.zeros((16, 16), np.float32)
    heat[3, :6] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert best_mean(heat) == pytest.approx(0.45)
    assert best_mean(heat, patches=2) == pytest.approx(0.55)
    assert best_mean(heat, np.arange(16) < 3) == pytest.approx(0.15)
    assert best_mean(heat[:1, :3]) == 0.0


def test_the_box_of_a_single_patch_is_that_patch() -> None:
    heat = np.zeros((16, 16), np.float32)
    heat[0, 15] = 0.5
    assert box_of(heat) == pytest.approx((0, 15, 1, 16))
    assert box_of(np.zeros((16, 16), np.float32)) == (0, 0, 16, 16)


@settings(deadline=None)
@given(st.floats(0.1, 0.9), st.integers(0, 1000))
def test_a_higher_level_never_widens_the_box(level: float, seed: int) -> None:
    heat = bump(7, 9, width=3.0, seed=seed)
    peak = find_peak(heat)
    outer, inner = box_of(heat, level), box_of(heat, level + 0.1)
    assert outer[0] <= inner[0] <= peak.patch[0] + 0.5 <= inner[2] <= outer[2]
    assert outer[1] <= inner[1] <= peak.patch[1] + 0.5 <= inner[3] <= outer[3]


def test_patches_map_to_the_pixels_that_they_cover() -> None:
    assert to_pixels(WHOLE, (16, 16), 0.0, 0.0) == (40.0, 0.0)
    assert to_pixels(WHOLE, (16, 16), 16.0, 16.0) == (280.0, 240.0)
    assert to_pixels(WHOLE, (16, 16), 2.5, 0.5) == (47.5, 37.5)
