"""Training on a few made-up moments: the loss falls, a seed gives the same weights, resuming loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_up import SIZES, write_moments

from models.files import checkpoint, description
from models.tokenizer import tokenize
from models.training.recipe import Recipe, TrainingStage
from models.training.train import CHECKPOINT, LOG, train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine a sum is parted among fewer threads, and rounds otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moments(tmp_path_factory.mktemp("shards"))


def recipe(text_steps: int = 30, audio_steps: int = 6, **changes: int) -> Recipe:
    stages = (
        TrainingStage("text", text_steps, 16, 3e-3, keep=0.5, focus=True),
        TrainingStage("audio", audio_steps, 16, 3e-3),
    )
    return Recipe(sizes=SIZES, stages=stages, warmup_steps=5, log_every=5, **changes)


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(path).state_dict())


def test_thirty_steps_lower_the_loss_and_are_written_down(shards: Path, tmp_path: Path) -> None:
    path = train(shards, tmp_path, recipe(), validation=shards)
    losses = [entry["loss"] for entry in log_of(tmp_path) if entry["pairs"] == "text" and "loss" in entry]
    assert len(losses) == 6
    # Four labels in a batch of 16: guessing costs 2 log 16 = 5.5, knowing every label 2 log 4 = 2.8.
    assert losses[0] > 4.5
    assert losses[-1] < losses[0] - 0.5
    last = log_of(tmp_path)[-1]
    assert {"seen", "heard", "pointing_by_audio", "motion_seen"} <= set(last)
    card = description.metadata(path)
    assert json.loads(card["scores"])["seen"] == last["seen"]
    assert card["trained_on"] == "64 labelled examples"


def test_same_seed_same_weights_other_seed_other_weights(shards: Path, tmp_path: Path) -> None:
    runs = [train(shards, tmp_path / name, recipe(4, 2, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    a, b, c = (tensors_of(path) for path in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize("interrupted_after", [3, 6, 8])
def test_a_resumed_run_ends_as_an_uninterrupted_one(shards: Path, tmp_path: Path, interrupted_after: int) -> None:
    plan = recipe(6, 4)
    whole = tensors_of(train(shards, tmp_path / "whole", plan))
    train(shards, tmp_path / "cut", plan, stop_after_steps=interrupted_after)
    resumed = tensors_of(train(shards, tmp_path / "cut", plan, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_resume_refuses_another_recipe_and_a_missing_checkpoint(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(description.CheckpointError, match="no checkpoint"):
        train(shards, tmp_path, recipe(2, 1), resume=True)
    train(shards, tmp_path, recipe(2, 1))
    with pytest.raises(description.CheckpointError, match="another recipe"):
        train(shards, tmp_path, recipe(2, 2), resume=True)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_resume_refuses_a_damaged_checkpoint_in_one_line(shards: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(description.CheckpointError, match=r"cannot be read .*; train without --resume") as error:
        train(shards, tmp_path, recipe(2, 1), resume=True)
    assert "\n" not in str(error.value)


def test_only_trained_words_have_embeddings(shards: Path, tmp_path: Path) -> None:
    embedding = tensors_of(train(shards, tmp_path, recipe(2, 1)))["encoders.text.token_embedding"]
    known = {int(i) for i in tokenize(["a photo of a fire sea tree wall", "turning left right"]).unique()}
    assert set(embedding.abs().amax(dim=1).nonzero()[:, 0].tolist()) == known


def test_the_frozen_towers_stay_as_they_are(shards: Path, tmp_path: Path) -> None:
    plan = recipe(3, 4)
    before = tensors_of(train(shards, tmp_path, plan, stop_after_steps=3))
    after = tensors_of(train(shards, tmp_path, plan, resume=True))
    for name in before:
        assert torch.equal(before[name], after[name]) == (not name.startswith("encoders.audio"))
