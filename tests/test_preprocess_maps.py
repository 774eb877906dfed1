"""Depth as disparity, and temperatures between cold and hot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import preprocess

NANO = load_file(Path(__file__).parent / "data" / "preprocess" / "nano.safetensors")


def test_maps_are_those_that_the_shipped_weights_were_trained_with() -> None:
    outputs = {
        "depth": preprocess.depth(NANO["depth.input"][None]),
        "thermal": preprocess.thermal(NANO["thermal.input"][None]),
        "thermal_range": preprocess.thermal(NANO["thermal.input"][None], 15.0, 40.0),
    }
    for name, x in outputs.items():
        torch.testing.assert_close(x[0, :, ::8, ::8], NANO[f"{name}.output"], atol=1e-6, rtol=0)


def test_nearer_is_larger_disparity() -> None:
    near, mean, far = (
        float(preprocess.depth(np.full((1, 240, 320), depth_m, np.float32)).mean()) for depth_m in (0.8, 1.55, 8.0)
    )
    assert near > 1.0
    assert mean == pytest.approx(0.0, abs=0.05)
    assert -1.42 < far < -1.0


def test_disparity_is_that_of_the_kinect() -> None:
    flat = np.full((1, 24, 32), 2.0, np.float32)
    disparity_px = 518.86 * 0.075 / 2.0
    wanted = (disparity_px / 8 / 75 - 0.0418) / 0.0295
    torch.testing.assert_close(preprocess.depth(flat), torch.full((1, 1, 224, 224), wanted))


def test_disparity_ends_at_75_px() -> None:
    nearest = preprocess.depth(np.full((1, 24, 32), 0.01, np.float32), guess_units=False)
    torch.testing.assert_close(nearest, torch.full((1, 1, 224, 224), (1 - 0.0418) / 0.0295))


def test_invalid_depth_takes_its_neighbours_depth() -> None:
    depth_m = np.full((1, 240, 320), 1.0, np.float32)
    depth_m[..., 160:] = 4.0
    holes = depth_m.copy()
    holes[:, 100:140, 80:120] = 0.0
    holes[:, 50:60, 200:240] = np.nan
    holes[:, 200:, 250:270] = np.inf
    torch.testing.assert_close(preprocess.depth(holes), preprocess.depth(depth_m), atol=0.05, rtol=0)
    one_pixel = np.zeros((1, 240, 320), np.float32)
    one_pixel[0, 120, 160] = 1.0
    whole = preprocess.depth(np.ones((1, 240, 320), np.float32))
    torch.testing.assert_close(preprocess.depth(one_pixel), whole, atol=1e-3, rtol=1e-3)
    of_millions = np.zeros((1, 3000, 4000), np.float32)
    of_millions[0, 1500, 2000] = 1.0
    torch.testing.assert_close(preprocess.depth(of_millions), whole, atol=1e-3, rtol=1e-3)
    together = preprocess.depth(np.concatenate([depth_m, one_pixel, holes]))
    torch.testing.assert_close(together[1:2], preprocess.depth(one_pixel), atol=1e-6, rtol=0)


def test_depth_that_is_valid_only_where_it_is_cut_off_is_refused() -> None:
    edges = np.zeros((2, 240, 320), np.float32)
    edges[1, :, :38] = 2.0  # the middle square begins at column 40
    with pytest.raises(
        preprocess.PreprocessError, match="item 0 of 2: depth_m: no valid pixel in the middle"
    ) as caught:
        preprocess.depth(edges)
    assert caught.value.items.keys() == {0, 1}
    edges[:, :, 41] = 2.0
    assert preprocess.depth(edges).std() < 1e-3


def test_thermal_is_a_fixed_scale() -> None:
    ramp = np.tile(np.linspace(-30.0, 90.0, 240, dtype=np.float32)[:, None], (1, 1, 240))
    out = preprocess.thermal(ramp)
    assert out.min() == 0.0
    assert out.max() == 1.0
    warm = preprocess.thermal(np.full((1, 120, 160), 30.0, np.float32))
    torch.testing.assert_close(warm, torch.full((1, 1, 224, 224), 0.5))


def test_a_broken_pixel_stays_one() -> None:
    room_c = np.full((1, 224, 224), 30.0, np.float32)
    room_c[0, 100, 100] = -1e30
    spot = preprocess.thermal(np.tile(room_c, (1, 2, 2)))[0, 0, 40:70, 40:70]  # halved, around the pixel
    assert spot.min() == 0.0
    assert spot.max() < 0.8


def test_radiometric_counts_are_their_temperatures() -> None:
    temperature_c = np.random.default_rng(0).uniform(-10, 70, (2, 60, 80)).astype(np.float32)
    for kelvin in (0.01, 0.1):
        counts = np.round((temperature_c + 273.15) / kelvin).astype(np.uint16)
        exact = (counts * kelvin - 273.15).astype(np.float32)
        out = preprocess.thermal_counts(counts, kelvin_per_count=kelvin)
        torch.testing.assert_close(out, preprocess.thermal(exact), atol=2e-5, rtol=0)


def test_counts_without_a_unit_are_stretched_picture_by_picture() -> None:
    picture = np.random.default_rng(1).integers(7000, 9000, (60, 80)).astype(np.uint16)
    picture[3, 3], picture[9, 70] = 0, 65535  # dead pixels
    drifted = np.where(picture == 65535, 65535, picture + np.uint16(500))
    out = preprocess.thermal_counts(np.stack([picture, drifted]))
    assert 0.4 < out[0].mean() < 0.6
    assert 0.2 < out[0].std() < 0.4
    torch.testing.assert_close(out[0], out[1], atol=0.02, rtol=0)
    low, high = (float(np.percentile(picture, q)) for q in (1, 99))
    fixed = preprocess.thermal_counts(picture[None], low_count=low, high_count=high)
    torch.testing.assert_close(fixed, out[:1], atol=1e-3, rtol=0)


def test_the_noise_of_a_flat_picture_is_not_stretched_to_a_scene() -> None:
    flat = (8000 + np.random.default_rng(2).integers(-1, 2, (1, 60, 80))).astype(np.uint16)
    assert preprocess.thermal_counts(flat).std() < 0.03
    same = preprocess.thermal_counts(np.full((1, 1, 1), 8000, np.uint16))
    torch.testing.assert_close(same, torch.full((1, 1, 224, 224), 0.5))
