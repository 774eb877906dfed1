"""Training by image-paired contrast, as ImageBind does it, on shards.

First the image and text towers learn each other from captions. Then they are frozen, and audio, depth, thermal and IMU
each learn the images that they were recorded with. No pair of text and audio, depth, thermal or IMU is ever trained:
that these agree is what follows.

A run may begin with weights instead, as ImageBind's did with OpenCLIP's: their image tower stays as it is, and the
others learn its images. Shards out of a log need that: they have no captions, or few.

Every batch holds pairs of one kind. Beside InfoNCE on the vectors of whole images there is the same loss on the best
matching patches (`models.training.loss.pooled_similarity`) for pairs that are about one thing.

Steps are numbered through; the draws of a step depend on the recipe's seed and its number alone, so that a run that
was interrupted and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from common.progress import Progress, untold
from models.datasets.dataset import INDEX, Classes, DatasetError, all_captions, read_index
from models.datasets.pairs import LEAST_PAIRS, Examples, PairSampler, groups_of, load
from models.files import checkpoint, description, store
from models.imagebind import ImageBind
from models.modalities import MODALITIES, Modality
from models.training.batches import both_towers, inputs_of, one_tower
from models.training.chunks import backward
from models.training.embedded_images import embed_images
from models.training.image_patches import whiten_stem
from models.training.recipe import Recipe, TrainingStage, learning_rate_factor, optimisers_of
from models.training.state import Report, TrainingRun
from models.training.trained_words import forget_untrained_words, known_tokens, trained_tokens
from models.vocabulary import words_beside

NAME: Final = "imagebind_nano"

Tell = Callable[[str], None]
"""Gets lines on what is trained, and what is not."""


def train(
    shards: Path | Sequence[Path],
    out: Path,
    recipe: Recipe | None = None,
    *,
    initial: Path | None = None,
    validation: Path | None = None,
    resume: bool = False,
    stop_after_steps: int | None = None,
    report: Report | None = None,
    tell: Tell = lambda _: None,
    progress: Progress = untold,
) -> Path:
    """Train on the shards of some folders and write `out`/imagebind_nano.safetensors, or a file named after the weights
    that it began with; returns its path.

    `initial` are weights to begin with; where no example is labelled, as in recordings, these are the shipped nano's by
    default. A modality that no example has is not trained: its tower stays as it is in them, or is left out. `out` also
    gets a log of JSON lines and a checkpoint, from which `resume` goes on. `validation` is a folder of shards to score
    on. `stop_after_steps` interrupts the run after so many steps: the weights written are then those of the moment.
    `progress` is told examples and steps. Raises DatasetError, NoRoom and CheckpointError.
    """
    recipe = recipe or Recipe()
    out.mkdir(parents=True, exist_ok=True)
    wanted = [m for m in MODALITIES if m in ("vision", *(stage.modality for stage in recipe.stages))]
    examples = load(shards, wanted, scratch=out, progress=progress)
    pairs = _pairs(examples, recipe)
    if initial is None and not any(about.labelled and all_captions(about) for about in examples.about):
        initial = store.find(NAME)
    begun = None if initial is None else _begun(initial)
    if begun is not None and initial is not None:
        recipe = recipe.refining(description.content_hash(initial), begun.sizes)
    recipe = replace(recipe, stages=tuple(s for s in recipe.stages if pairs[s.modality] >= LEAST_PAIRS))
    if not recipe.stages:
        held = ", ".join(f"{modality} {number}" for modality, number in pairs.items())
        raise DatasetError(
            f"{_named(shards)}: {LEAST_PAIRS} pairs of an image and another modality are needed, and there are: "
            f"{held}; export a longer recording, or one of more sensors"
        )
    model = _model(recipe, begun)
    _tell_plan(tell, len(examples), pairs, recipe, model, initial)
    held_back = _held_back(validation, model, out) if validation else None
    run = TrainingRun(recipe, model, examples, out, held_back, report, progress)
    if resume:
        run.resume()
    elif not recipe.initial and recipe.stages[0].modality == "text":
        whiten_stem(model, run.examples, recipe.seed)
    left = stop_after_steps if stop_after_steps is not None else recipe.steps
    progress("steps", run.steps_done(), recipe.steps)
    while run.stage < len(recipe.stages) and left > 0:
        left -= _train_stage(run, recipe.stages[run.stage], left)
    known = set() if begun is None else known_tokens(begun)
    if any(stage.modality == "text" for stage in recipe.stages):
        known |= trained_tokens(examples.about)
    if known:
        forget_untrained_words(model, known)
    run.validate()
    name = NAME if initial is None else _name_of(initial)
    path = out / f"{name}{description.SUFFIX}"
    facts = _metadata(run, name, len(known))
    if initial is not None:
        facts["licence"] = description.metadata(initial).get("licence", facts["licence"])
    checkpoint.save(model, path, facts)
    if initial is not None and pairs.get("text", 0) < LEAST_PAIRS and words_beside(initial).is_file():
        shutil.copyfile(words_beside(initial), words_beside(path))
    return path


def _named(shards: Path | Sequence[Path]) -> str:
    return str(shards) if isinstance(shards, Path) else ", ".join(map(str, shards))


def _pairs(examples: Examples, recipe: Recipe) -> dict[Modality, int]:
    """Examples that are a pair of an image and each modality of the recipe."""
    return {
        stage.modality: len({row for rows in groups_of(examples, stage.modality).values() for row in rows})
        for stage in recipe.stages
    }


def _name_of(weights: Path) -> str:
    """The name of weights: of a file its own; of a folder what its files say, if that can be the name of a file."""
    said = description.metadata(weights).get("model", "") if weights.is_dir() else weights.stem
    return said if re.fullmatch(r"[\w-][\w.-]{0,63}", said, re.ASCII) else NAME


def _begun(initial: Path) -> ImageBind:
    """The model to begin with. Raises CheckpointError."""
    model = checkpoint.load(initial)
    if "vision" not in model.modalities:
        raise description.CheckpointError(
            f"{initial}: has no image tower, which all others learn from; give weights with one"
        )
    return model


def _model(recipe: Recipe, begun: ImageBind | None) -> ImageBind:
    """The model of a recipe, with the towers of another where that has them."""
    trained = {stage.modality for stage in recipe.stages}
    modalities = [m for m in MODALITIES if m in {"vision", *trained, *(begun.modalities if begun else ())}]
    torch.manual_seed(recipe.seed)
    model = ImageBind(recipe.sizes, modalities)
    if begun is not None:
        model.load_state_dict(begun.state_dict(), strict=False)
    return model


def _tell_plan(
    tell: Tell, count: int, pairs: dict[Modality, int], recipe: Recipe, model: ImageBind, initial: Path | None
) -> None:
    """Say what is trained and what is not."""
    trained = {stage.modality for stage in recipe.stages}
    found = ", ".join(f"{modality} {number}" for modality, number in pairs.items() if modality in trained)
    tell(f"{count} examples; pairs of an image with {found}")
    if initial is not None:
        kept = [modality for modality in model.modalities if modality not in trained]
        tell(f"not trained, as they are in {_name_of(initial)}: {', '.join(kept)}")
    if without := [m for m in pairs if m not in model.modalities]:
        tell(f"left out, since fewer than {LEAST_PAIRS} examples have them: {', '.join(without)}")


def _held_back(folder: Path, model: ImageBind, scratch: Path) -> tuple[Examples, Classes | None]:
    """Examples to score on, and the classes of those that are labelled. Raises DatasetError."""
    examples = load(folder, model.modalities, scratch=scratch)
    return examples, read_index(folder) if (folder / INDEX).exists() else None


def _train_stage(run: TrainingRun, stage: TrainingStage, at_most: int) -> int:
    """Do the remaining steps of a stage, or `at_most`; returns how many were done."""
    recipe, model = run.recipe, run.model
    began = run.step
    examples = run.examples
    sampler = PairSampler(examples, stage.modality)
    both = stage.modality == "text" and not recipe.initial
    if both:
        run.images = None
    elif run.images is None:
        run.images = embed_images(model, examples, run.out, run.progress)
    trained = ("vision", "text") if both else (stage.modality,)
    for name, encoder in model.encoders.items():
        encoder.requires_grad_(name in trained).train(name in trained)
    optimisers = optimisers_of(model, stage, recipe)
    if run.optimisers is not None:
        for optimiser, state in zip(optimisers, run.optimisers, strict=True):
            optimiser.load_state_dict(state)
        run.optimisers = None
    losses, since, pairs = [], time.perf_counter(), 0
    while run.step < stage.steps and run.step - began < at_most:
        rng = np.random.default_rng([recipe.seed, run.stage, run.step])
        torch.manual_seed(int(rng.integers(2**31)))
        rate = learning_rate_factor(run.step, stage, recipe.warmup_steps)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = group["highest"] * rate
        rows, groups = sampler.draw(stage.batch, rng)
        model.zero_grad(set_to_none=True)  # also of towers frozen since: the clipping below counts every gradient
        with sdpa_kernel(SDPBackend.MATH):  # the backward pass of the fused kernel is slower on a CPU
            if run.images is None:
                encode, loss_of = both_towers(model, examples, rows, groups, recipe, stage, rng)
            else:
                x = inputs_of(examples, stage.modality, rows, groups, rng)
                encode, loss_of = one_tower(model, stage, x, run.images, rows, groups, recipe)
            loss = backward(encode, len(rows), loss_of, stage.chunk or len(rows))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
        pairs += len(rows)
        run.step += 1
        run.progress("steps", run.steps_done(), recipe.steps)
        if run.step % recipe.log_every == 0 or run.step == stage.steps:
            now = time.perf_counter()
            run.seconds += now - since
            speed = pairs / (now - since)
            run.log(loss=round(sum(losses) / len(losses), 4), pairs_per_s=round(speed, 1))
            losses, since, pairs = [], now, 0
        if run.step % recipe.checkpoint_every == 0:
            run.save(optimisers)
        if run.step % recipe.validate_every == 0:
            run.validate()
            since = time.perf_counter()
    done = run.step - began
    if run.step < stage.steps:
        run.save(optimisers)
    else:
        run.validate()
        run.stage, run.step = run.stage + 1, 0
        run.save([])
    return done


def _metadata(run: TrainingRun, name: str, tokens: int) -> dict[str, str]:
    recipe = run.recipe
    stages = ", ".join(f"{stage.modality} {stage.steps} x {stage.batch}" for stage in recipe.stages)
    labelled = sum(about.labelled for about in run.examples.about)
    parts = {"labelled": labelled, "recorded": len(run.examples) - labelled}
    begun = f"; began with the weights {recipe.initial}" if recipe.initial else ""
    return {
        "name": name,
        "trained_on": ", ".join(f"{number} {kind} examples" for kind, number in parts.items() if number) + begun,
        "stages": f"steps x batch of image pairs: {stages}",
        "seed": str(recipe.seed),
        "trained_tokens": str(tokens),
        "training_seconds": f"{run.seconds:.0f}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "scores": json.dumps({name: round(value, 4) for name, value in run.last_scores.items()}),
        "licence": "Apache-2.0",
    }
