"""Examples in memory, and batches that hold every group in its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import COLOURS, moment, write_moments

from models import preprocess
from models.datasets.pairs import PairSampler, load, mirrored


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moments(tmp_path_factory.mktemp("shards"))


def test_batches_hold_every_group_in_its_share(shards: Path) -> None:
    sampler = PairSampler(load(shards, ["text"]), "text")
    _, groups = sampler.draw(43, np.random.default_rng(0))
    counts = {label: groups.count(("thing", label)) for label in COLOURS}
    assert all(count == 10 for count in counts.values())
    assert groups.count(("movement", "turning left")) == 3
    rows, _ = sampler.draw(43, np.random.default_rng(0))
    again, _ = sampler.draw(43, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, again)


def test_examples_are_what_preprocess_makes_of_them(shards: Path) -> None:
    examples = load(shards, ["vision", "audio", "depth", "thermal", "imu"])
    assert len(examples) == 64
    expected = preprocess.vision(moment(5).frames[None])[0]
    # 8-bit levels and JPEG: a few levels of 255, each 1 / (255 x 0.26)
    assert (examples.batch("vision", [5])[0] - expected).abs().median() < 0.05
    np.testing.assert_allclose(examples.batch("imu", [5])[0], preprocess.imu(moment(5).imu[None], 400.0)[0], atol=2e-3)


def test_mirrored_captions_swap_left_and_right() -> None:
    assert mirrored("turning left.") == "turning right."
    assert mirrored("a turn to the right and then left") == "a turn to the left and then right"
    assert mirrored("nothing is leftover") == "nothing is leftover"
