"""Training on a few made-up moments: the loss falls, a seed gives the same weights, resuming loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up import SIZES, moment, write_moments

from models.datasets.dataset import About, DatasetError, write_shard
from models.files import checkpoint, description, store
from models.imagebind import ImageBind
from models.tokenizer import tokenize
from models.training.recipe import Recipe, TrainingStage
from models.training.state import CHECKPOINT, LOG
from models.training.train import train


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


def moments_of_a_robot(folder: Path, count: int, **lacking: Callable[[int], bool]) -> Path:
    """Examples without labels, some of which lack a modality; `lacking` says which by their number."""
    fields = {"audio": "audio", "depth": "depth_m", "thermal": "temperature_c", "imu": "imu"}
    write_shard(
        folder / "0.tar",
        (
            replace(
                moment(number),
                about=About(clear=False, labelled=False),
                **{fields[modality]: None for modality, of in lacking.items() if of(number)},
            )
            for number in range(count)
        ),
    )
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Weights to begin with, of all modalities but depth."""
    torch.manual_seed(5)
    path = tmp_path / "begun.safetensors"
    checkpoint.save(ImageBind(SIZES, ["vision", "audio", "thermal", "imu", "text"]), path, {"licence": "CC0-1.0"})
    (tmp_path / "begun.words.yaml").write_text("meanings: {}\n")
    return path


ALL_STAGES = tuple(
    TrainingStage(modality, 3, 16, 3e-3, keep=0.5) for modality in ("text", "audio", "depth", "thermal", "imu")
)


def test_examples_without_captions_teach_what_they_hold_to_towers_of_given_weights(tmp_path: Path, begun: Path) -> None:
    lacking = {"thermal": lambda _: True, "imu": lambda number: number % 4 > 0, "audio": lambda number: number == 2}
    (tmp_path / "shards").mkdir()
    shards = moments_of_a_robot(tmp_path / "shards", 8, **lacking)
    told: list[str] = []
    steps: list[tuple[str, float, float | None]] = []
    path = train(
        shards,
        tmp_path / "out",
        Recipe(sizes=SIZES, stages=ALL_STAGES, log_every=1),
        initial=begun,
        tell=told.append,
        progress=lambda *step: steps.append(step),
    )
    assert told == [
        "8 examples; pairs of an image with audio 7, depth 8, imu 2",
        "not trained, as they are in begun: vision, thermal, text",
    ]
    assert [step for step in steps if step[0] == "steps"] == [("steps", done, 9) for done in range(10)]
    before, after = tensors_of(begun), tensors_of(path)
    changed = {name.split(".")[1] for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert changed == {"audio", "depth", "imu"}
    card = description.metadata(path)
    assert (card["licence"], card["modalities"]) == ("CC0-1.0", "vision,audio,depth,thermal,imu,text")
    assert path == tmp_path / "out/begun.safetensors"
    assert card["trained_on"].startswith("8 recorded examples; began with the weights ")
    assert (tmp_path / "out/begun.words.yaml").read_text() == "meanings: {}\n"


def test_a_modality_that_no_example_has_is_left_out_of_a_model_that_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/0.tar", (replace(moment(i), imu=None) for i in range(8)))
    told: list[str] = []
    plan = Recipe(sizes=SIZES, stages=ALL_STAGES)
    path = train(tmp_path / "shards", tmp_path / "out", plan, stop_after_steps=1, tell=told.append)
    assert told[1:] == ["left out, since fewer than 2 examples have them: imu"]
    assert description.metadata(path)["modalities"] == "vision,audio,depth,thermal,text"


def test_captions_teach_the_text_tower_the_images_of_given_weights(shards: Path, tmp_path: Path, begun: Path) -> None:
    plan = recipe(3, 2)
    before, after = tensors_of(begun), tensors_of(train(shards, tmp_path / "out", plan, initial=begun))
    changed = {name.split(".")[1] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"audio", "text"}
    assert not (tmp_path / "out/begun.words.yaml").exists()  # it no longer knows what it knew


def test_one_pair_is_too_few(tmp_path: Path, begun: Path) -> None:
    never: dict[str, Callable[[int], bool]] = dict.fromkeys(("audio", "depth", "thermal"), lambda _: True)
    (tmp_path / "shards").mkdir()
    shards = moments_of_a_robot(tmp_path / "shards", 5, **never, imu=lambda number: number != 3)
    wanted = r"2 pairs of an image and another modality are needed, and there are: .*imu 1; export a longer recording"
    with pytest.raises(DatasetError, match=wanted):
        train(shards, tmp_path / "out", Recipe(sizes=SIZES, stages=ALL_STAGES), initial=begun)


def test_a_run_that_began_with_weights_resumes_with_these_alone(tmp_path: Path, begun: Path) -> None:
    (tmp_path / "shards").mkdir()
    shards = moments_of_a_robot(tmp_path / "shards", 6)
    plan = Recipe(sizes=SIZES, stages=ALL_STAGES)
    whole = tensors_of(train(shards, tmp_path / "whole", plan, initial=begun))
    train(shards, tmp_path / "cut", plan, initial=begun, stop_after_steps=5)
    other = tmp_path / "other.safetensors"
    checkpoint.save(ImageBind(SIZES), other, {})
    with pytest.raises(description.CheckpointError, match="another recipe"):
        train(shards, tmp_path / "cut", plan, initial=other, resume=True)
    resumed = tensors_of(train(shards, tmp_path / "cut", plan, initial=begun, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_weights_without_an_image_tower_are_nothing_to_begin_with(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "deaf.safetensors"
    checkpoint.save(ImageBind(SIZES, ["audio"]), path, {})
    with pytest.raises(description.CheckpointError, match="has no image tower"):
        train(shards, tmp_path / "out", recipe(1, 1), initial=path)


def test_a_batch_in_chunks_teaches_the_same(shards: Path, tmp_path: Path) -> None:
    losses, weights = [], []
    for chunk in (0, 5):
        stages = tuple(replace(stage, chunk=chunk) for stage in recipe(5, 5).stages)
        out = tmp_path / str(chunk)
        weights.append(tensors_of(train(shards, out, replace(recipe(), stages=stages))))
        losses.append([entry["loss"] for entry in log_of(out) if "loss" in entry])
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    begun = tensors_of(train(shards, tmp_path / "begun", recipe(5, 5), stop_after_steps=0))
    whole, chunked, before = (
        torch.cat([tensor.flatten() for _, tensor in sorted(tensors.items())]) for tensors in (*weights, begun)
    )
    assert (chunked - whole).norm() <= 0.2 * (whole - before).norm(), "bfloat16 rounds otherwise in another batch"


def test_captions_of_recordings_teach_no_image_tower_anew(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    about = About(scene=("a hill",), clear=False, labelled=False)
    write_shard(tmp_path / "shards/0.tar", (replace(moment(i), about=about, audio=None) for i in range(4)))
    told: list[str] = []
    plan = recipe(2, 2)
    path = train(tmp_path / "shards", tmp_path / "out", plan, stop_after_steps=1, tell=told.append)
    assert told == [
        "4 examples; pairs of an image with text 4",
        "not trained, as they are in imagebind_nano: vision, audio, depth, thermal, imu",
    ]
    before, after = tensors_of(store.find("imagebind_nano")), tensors_of(path)
    assert {name.split(".")[1] for name in after if not torch.equal(before[name], after[name])} == {"text"}


def test_a_folder_of_weights_names_no_place_for_the_new_ones(tmp_path: Path) -> None:
    torch.manual_seed(6)
    (tmp_path / "huge/1").mkdir(parents=True)
    (tmp_path / "shards").mkdir()
    shards = moments_of_a_robot(tmp_path / "shards", 4)
    for said, name in (("my-model", "my-model"), ("../../away", "imagebind_nano")):
        for modality in ("vision", "audio"):
            model = ImageBind(SIZES, [modality])
            checkpoint.save(model, tmp_path / f"huge/1/{modality}.safetensors", {"model": said})
        plan = Recipe(sizes=SIZES, stages=(TrainingStage("audio", 1, 16, 3e-3),))
        path = train(shards, tmp_path / "out", plan, initial=tmp_path / "huge/1")
        assert path == tmp_path / f"out/{name}.safetensors"
