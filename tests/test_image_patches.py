"""Patches as training sees them: the right ones, and what the model makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import SIZES, write_moments

from models.datasets.pairs import load
from models.encoders import PatchEncoder
from models.imagebind import ImageBind
from models.training.image_patches import (
    Views,
    kept_patches,
    moved_images,
    recoloured_patches,
    trunk_output,
    whiten_stem,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moments(tmp_path_factory.mktemp("shards"))


def test_moved_boxes_still_hold_the_thing(shards: Path) -> None:
    examples = load(shards, ["vision"])
    rows = np.array([0, 4, 8, 12])  # squares of the first colour, which is mostly red
    views = moved_images(examples, rows, np.random.default_rng(1))
    assert any(views.mirrored)
    assert not all(views.mirrored)
    for levels, held in zip(views.levels, views.boxes, strict=True):
        (x0, y0, x1, y1) = held["fire"][0]
        red = (levels[0, 1].int() - levels[2, 1].int()) > 100  # [224, 224]
        rows_in, columns_in = np.nonzero(red.numpy())
        inside = (columns_in >= x0 - 2) & (columns_in <= x1 + 2) & (rows_in >= y0 - 2) & (rows_in <= y1 + 2)
        assert inside.mean() > 0.8  # the rest is reflected where the picture ended
        centre_x, centre_y = int(np.clip((x0 + x1) / 2, 0, 223)), int(np.clip((y0 + y1) / 2, 0, 223))
        assert red[centre_y, centre_x]


def test_focus_keeps_the_patches_of_the_thing(shards: Path) -> None:
    examples = load(shards, ["vision"])
    views = moved_images(examples, np.array([0, 0]), np.random.default_rng(0))
    kept = kept_patches(views, [("thing", "fire")] * 2, 0.1, True, np.random.default_rng(0))
    assert kept.shape == (2, 26)
    for row, held in zip(kept, views.boxes, strict=True):
        (x0, y0, x1, y1) = held["fire"][0]
        x, y = row % 16 * 14 + 7.0, row // 16 * 14 + 7.0
        assert ((x >= x0 - 21) & (x <= x1 + 21) & (y >= y0 - 21) & (y <= y1 + 21)).all()
    spread = kept_patches(views, [("movement", "")] * 2, 0.1, False, np.random.default_rng(0))
    assert set(spread[0].tolist()) != set(spread[1].tolist())


def test_recolouring_keeps_light_and_dark_apart_and_the_patches_in_place(shards: Path) -> None:
    examples = load(shards, ["vision"])
    levels = examples.inputs["vision"][:2]
    views = Views(levels, examples.boxes[:2], [False, False])
    every = torch.arange(256).expand(2, -1)
    patches = recoloured_patches(views, every, np.random.default_rng(0)).float()  # [2, 256, 1176]
    plain = examples.batch("vision", [0, 1])
    for image, original in zip(patches, plain, strict=True):
        grid = image.view(16, 16, 3, 2, 14, 14).permute(2, 3, 0, 4, 1, 5).reshape(3, 2, 224, 224)
        light = torch.corrcoef(torch.stack([grid.mean(0).flatten(), original.mean(0).flatten()]))[0, 1]
        assert light > 0.9
    chosen = torch.tensor([[5, 77], [200, 0]])
    few = recoloured_patches(views, chosen, np.random.default_rng(0)).float()
    torch.testing.assert_close(few, patches.gather(1, chosen[:, :, None].expand(-1, -1, 1176)), atol=0.05, rtol=0.02)


def test_the_trunk_s_output_is_that_of_the_model(shards: Path) -> None:
    torch.manual_seed(0)
    model = ImageBind(SIZES, ["vision"])
    vision = model.encoders["vision"]
    assert isinstance(vision, PatchEncoder)
    images = load(shards, ["vision"]).batch("vision", [3, 9])
    patches = images.reshape(2, 3, 2, 16, 14, 16, 14).permute(0, 3, 5, 1, 2, 4, 6).reshape(2, 256, 1176)
    torch.testing.assert_close(trunk_output(vision, patches, torch.arange(256).expand(2, -1)), vision.tokens(images))


def test_a_whitened_stem_gives_uncorrelated_outputs_of_equal_size(shards: Path) -> None:
    model = ImageBind(SIZES, ["vision"])
    examples = load(shards, ["vision"])
    rng = np.random.default_rng(0)
    examples.inputs["vision"] = torch.from_numpy(rng.integers(0, 256, (32, 3, 2, 224, 224)).astype(np.uint8))
    examples.about = examples.about[:32]
    whiten_stem(model, examples, 0, images=32)
    stem = model.encoders["vision"].stem(examples.batch("vision", range(32))).flatten(0, 1)
    covariance = stem.T @ stem / len(stem)
    torch.testing.assert_close(covariance, torch.eye(32), atol=0.05, rtol=0)
