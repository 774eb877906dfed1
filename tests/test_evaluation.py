"""Scores of zero-shot classification, retrieval and pointing on vectors whose right answers are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.datasets.dataset import About, Classes, DatasetError, Seen
from models.datasets.pairs import Examples
from models.evaluation.pointing import hit_rate, peaks
from models.evaluation.retrieval import recall_at, same_label
from models.evaluation.shards import evaluate, moment_scores, scores
from models.evaluation.zero_shot import accuracy, class_vectors, nearest
from models.imagebind import ImageBind, Sizes
from models.tokenizer import tokenize
from models.transformer import TowerSizes

TINY = TowerSizes(32, 1, 2)
SIZES = Sizes(embedding_dim=16, vision=TINY, audio=TINY, depth=TINY, thermal=TINY, imu=TINY, text=TINY)


@pytest.fixture(scope="module")
def model() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(SIZES).eval()


def test_a_class_is_the_normalised_mean_of_its_phrases(model: ImageBind) -> None:
    labels, vectors = class_vectors(model, {"dog": ("a dog", "a photo of a dog"), "": ("nothing",)})
    assert labels == ["dog", ""]
    with torch.no_grad():
        phrases = model({"text": tokenize(["a dog", "a photo of a dog", "nothing"])})["text"]
    torch.testing.assert_close(vectors[0], F.normalize(phrases[:2].mean(0), dim=0))
    torch.testing.assert_close(vectors[1], phrases[2])


def test_nearest_and_accuracy() -> None:
    classes = torch.eye(3)
    vectors = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.2, 0.9], [0.5, 0.6, 0.1]])
    found = nearest(vectors, ["a", "b", "c"], classes)
    assert found == ["a", "c", "b"]
    assert accuracy(found, ["a", "c", "c"]) == pytest.approx(2 / 3)
    assert math.isnan(accuracy([], []))


def test_recall_counts_queries_that_have_an_answer() -> None:
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4], [0.3, 0.2, 0.1]])
    relevant = torch.tensor([[False, True, False], [False, True, False], [False, False, False]])
    assert recall_at(1, similarity, relevant) == 0.0
    assert recall_at(2, similarity, relevant) == 1.0
    assert math.isnan(recall_at(1, similarity[2:], relevant[2:]))
    assert same_label(["dog"], [{"dog", "cat"}, {"cat"}]).tolist() == [[True, False]]


def test_a_peak_is_the_middle_of_the_patch_that_matches() -> None:
    patches = torch.zeros(2, 16, 16, 4)
    patches[..., 0] = 1.0
    patches[0, 3, 5] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    patches[1, 15, 0] = torch.tensor([0.0, 0.8, 0.6, 0.0])
    wanted = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(2, -1)
    assert peaks(patches, wanted) == [(5.5 * 14, 3.5 * 14), (7.0, 15.5 * 14)]


def test_hits_lie_inside_any_box_of_their_row() -> None:
    boxes = [[(0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)], [(0.0, 0.0, 10.0, 10.0)]]
    assert hit_rate([(55.0, 55.0), (11.0, 5.0)], boxes) == 0.5
    assert math.isnan(hit_rate([], []))


def test_scores_of_a_model_are_shares_and_leave_it_as_it_was(model: ImageBind) -> None:
    rng = np.random.default_rng(0)
    dog = About(seen={"dog": Seen((), ("a dog",))}, heard="dog", shown=True, motion="standing")
    cat = About(seen={"cat": Seen((), ("a cat",)), "dog": Seen((), ("a dog",))}, heard="cat", shown=True)
    nothing = About(heard="", shown=True)
    about = [dog, cat, nothing] * 2
    boxes = [{label: [(0.0, 0.0, 224.0, 224.0)] for label in facts.seen} for facts in about]
    inputs = {
        "vision": torch.from_numpy(rng.integers(0, 256, (6, 3, 2, 224, 224)).astype(np.uint8)),
        "audio": torch.from_numpy(rng.normal(size=(6, 1, 128, 204))).half(),
        "imu": torch.from_numpy(rng.normal(size=(6, 6, 2000))).half(),
    }
    phrases = {"dog": ("a dog",), "cat": ("a cat",)}
    classes = Classes(phrases, phrases, {"standing": ("standing",)}, ("nothing",), ("silence",))
    model.train()
    found = scores(model, Examples(about, boxes, inputs), classes)
    assert model.training
    model.eval()
    assert set(found) == {
        *("seen", "seen_of_several", "heard", "pointing_by_audio", "pointing_by_text", "heard_to_seen"),
        *("motion", "motion_seen"),
    }
    assert all(0 <= value <= 1 for value in found.values())
    assert found["pointing_by_audio"] == 1.0  # boxes as large as the picture
    assert found["motion"] == 1.0  # one class


def test_moments_without_labels_are_judged_by_retrieval_alone(model: ImageBind) -> None:
    rng = np.random.default_rng(1)
    about = [About(labelled=False)] * 7
    inputs = {
        "vision": torch.from_numpy(rng.integers(0, 256, (7, 3, 2, 224, 224)).astype(np.uint8)),
        "audio": torch.from_numpy(rng.normal(size=(6, 1, 128, 204))).half(),
        "imu": torch.from_numpy(rng.normal(size=(1, 6, 2000))).half(),
    }
    places = {"audio": np.array([0, 1, 2, -1, 3, 4, 5]), "imu": np.array([-1, -1, -1, 0, -1, -1, -1])}
    found = scores(model, Examples(about, [{}] * 7, inputs, places), None)
    names = [f"{way}_r{k}" for way in ("vision_to_audio", "audio_to_vision") for k in (1, 5)]
    assert list(found) == [*names, "audio_chance_r1"]  # one pair with IMU is nothing to choose from
    assert found["audio_chance_r1"] == pytest.approx(1 / 6)


def test_retrieval_finds_the_moment_of_each_image() -> None:
    examples = Examples([About(labelled=False)] * 3, [{}] * 3, {"vision": torch.zeros(3), "audio": torch.zeros(3)})
    vectors = torch.eye(3)
    swapped = vectors[[0, 2, 1]]
    assert moment_scores(examples, {"vision": vectors, "audio": vectors})["vision_to_audio_r1"] == 1.0
    assert moment_scores(examples, {"vision": vectors, "audio": swapped})["audio_to_vision_r1"] == pytest.approx(1 / 3)


def test_no_shards_is_a_clear_error(model: ImageBind, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="sensebind simulate"):
        evaluate(model, tmp_path)
