"""Images as PIL makes them, and the way back from the model's crop to their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models import preprocess
from models.preprocess import RGB_MEAN, RGB_STD, CropMap
from models.preprocess.crop import centre_levels, centre_levels_in_float

REFERENCE = Path(__file__).parent / "data" / "reference"


def rgb(name: str) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(REFERENCE / name))[..., ::-1], np.uint8)


def normalised(levels: Tensor) -> Tensor:
    """[3, H, W]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB_MEAN, RGB_STD))
    return (levels.float() / 255 - mean) / std


REFERENCES = [("landscape", "landscape_224"), ("portrait", "portrait_224"), ("tiny", "tiny_224"), ("square", "square")]


@pytest.mark.parametrize(("name", "expected"), REFERENCES)
def test_vision_is_the_published_image(name: str, expected: str) -> None:
    frames = preprocess.vision(rgb(f"{name}.png")[None, None])[0]
    assert torch.equal(frames[:, 0], frames[:, 1])
    difference = (frames[:, 0] - normalised(torch.from_numpy(rgb(f"{expected}.png").copy()).permute(2, 0, 1))).abs()
    assert difference.mean() <= 0.01
    assert difference.max() <= 0.15


@pytest.mark.parametrize(("name", "expected"), REFERENCES)
def test_the_gpus_arithmetic_gives_the_published_image(name: str, expected: str) -> None:
    image = torch.from_numpy(rgb(f"{name}.png").copy()).permute(2, 0, 1)
    target = torch.from_numpy(rgb(f"{expected}.png").copy()).permute(2, 0, 1)
    difference = (normalised(centre_levels_in_float(image[None])[0]) - normalised(target)).abs()
    assert difference.mean() <= 0.01
    assert difference.max() <= 0.15


@pytest.mark.parametrize("resize", [centre_levels, centre_levels_in_float])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (90, 161), (30, 200), (300, 231), (1, 1), (1, 16)])
def test_noise_is_resized_as_pil_does_to_two_levels(
    resize: Callable[[Tensor], Tensor], height: int, width: int
) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    crop = CropMap(height, width)
    (top, left), size = crop.corner, crop.resized
    whole = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    target = np.asarray(whole, np.int32)[top : top + 224, left : left + 224]
    levels = resize(torch.from_numpy(image)[None].permute(0, 3, 1, 2))[0].permute(1, 2, 0).numpy()
    assert np.abs(levels - target).max() <= 2
    assert np.abs(levels - target).mean() <= 0.02


def test_large_images_are_resized_a_few_at_a_time_alike() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 2300, 2400), np.uint8))
    together = centre_levels_in_float(images)
    assert torch.equal(together[2:], centre_levels_in_float(images[2:]))


def test_vision_keeps_the_order_of_frames() -> None:
    frames = np.stack([np.full((240, 320, 3), level, np.uint8) for level in (0, 255)])
    out = preprocess.vision(frames[None])[0]
    assert out[0, 0].max() == pytest.approx(-RGB_MEAN[0] / RGB_STD[0], abs=1e-5)
    assert out[0, 1].min() == pytest.approx((1 - RGB_MEAN[0]) / RGB_STD[0], abs=1e-5)


def test_video_is_vision_of_every_clip() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 60, 80, 3), np.uint8)
    out = preprocess.video(clips)
    assert torch.equal(out[1, 2], preprocess.vision(clips[1])[2])
    still = preprocess.video(clips[:, :, :1])
    assert torch.equal(still[0, 1, :, 0], out[0, 1, :, 0])
    assert torch.equal(still[0, 1, :, 1], out[0, 1, :, 0])


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (224, 224), (50, 70), (1080, 1920)])
@pytest.mark.parametrize(("grid", "patch"), [(16, (0, 0)), (16, (5, 12)), (16, (15, 15)), (7, (2, 6)), (14, (13, 0))])
def test_patches_lie_where_the_model_looks(height: int, width: int, grid: int, patch: tuple[int, int]) -> None:
    crop, patch_px = CropMap(height, width), 224 // grid
    row, column = patch
    x0, y0 = crop.to_image(column * patch_px, row * patch_px)
    x1, y1 = crop.to_image((column + 1) * patch_px, (row + 1) * patch_px)
    image = np.zeros((1, 1, height, width, 3), np.uint8)
    image[..., max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1), :] = 255
    seen = preprocess.vision(image)[0, :, 0].mean(dim=0)  # [224, 224]
    per_patch = seen.reshape(grid, patch_px, grid, patch_px).mean(dim=(1, 3))
    assert divmod(int(per_patch.argmax()), grid) == patch


@given(st.integers(20, 2000), st.integers(20, 2000), st.floats(0, 224), st.floats(0, 224))
def test_crop_map_goes_there_and_back(height: int, width: int, x: float, y: float) -> None:
    crop = CropMap(height, width)
    image_x, image_y = crop.to_image(x, y)
    assert -1.0 <= image_x <= width + 1.0
    assert -1.0 <= image_y <= height + 1.0
    assert crop.to_crop(image_x, image_y) == pytest.approx((x, y), abs=1e-6)


def test_half_a_pixel_is_rounded_as_the_published_crop_does() -> None:
    assert [CropMap(height, 224).corner for height in (225, 227, 229)] == [(0, 0), (2, 0), (2, 0)]
    assert [CropMap(224, width).corner for width in (225, 227, 229)] == [(0, 0), (0, 2), (0, 2)]


def test_crop_map_loses_the_sides_of_a_wide_image() -> None:
    crop = CropMap(240, 320)
    assert crop.to_image(0, 0) == pytest.approx((40, 0), abs=1.0)
    assert crop.to_image(224, 224) == pytest.approx((280, 240), abs=1.0)
