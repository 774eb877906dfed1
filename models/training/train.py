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
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from common.progress import Progress, untold
from models.datasets.dataset import INDEX, About, Classes, DatasetError, all_captions, read_index
from models.datasets.pairs import (
    LEAST_PAIRS,
    Examples,
    Group,
    PairSampler,
    caption,
    groups_of,
    load,
    mirrored,
)
from models.datasets.rows_file import RowsFile
from models.encoders import PatchEncoder, TextEncoder
from models.evaluation.shards import scores
from models.files import checkpoint, description, store
from models.files.published_file import UNPICKLING_FAULTS
from models.imagebind import ImageBind
from models.modalities import MODALITIES, Modality
from models.tokenizer import tokenize
from models.training.chunks import Encode, Outputs, backward
from models.training.image_patches import (
    Rows,
    kept_patches,
    moved_images,
    recoloured_patches,
    trunk_output,
    whiten_stem,
)
from models.training.loss import info_nce, pooled_similarity
from models.training.recipe import Recipe, TrainingStage, learning_rate_factor, optimisers_of
from models.vocabulary import words_beside

NAME: Final = "imagebind_nano"
CHECKPOINT: Final = "checkpoint.pt"
LOG: Final = "log.jsonl"

Report = Callable[[dict[str, float | int | str]], None]
"""Gets each entry of the training log: step, loss, samples per second, validation scores."""

Tell = Callable[[str], None]
"""Gets lines on what is trained, and what is not."""


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """All images as the frozen tower has them: vectors [N, D], and patches float16 [N, 256, D], which lie on the disk,
    if pairs are about one thing.
    """

    vectors: Tensor
    patches: Tensor | None


@dataclass(slots=True, eq=False)
class _Run:
    """One training run: what it learns from and where it has come to."""

    recipe: Recipe
    model: ImageBind
    examples: Examples
    out: Path
    validation: tuple[Examples, Classes | None] | None
    report: Report | None
    progress: Progress
    stage: int = 0
    step: int = 0
    """Steps done of the stage."""
    seconds: float = 0.0
    optimisers: list[dict[str, Any]] | None = None
    """Their states at `step`, when the run was resumed inside a stage."""
    images: _Images | None = None
    """Once the image tower is frozen."""
    last_scores: dict[str, float] = field(default_factory=dict)

    def steps_done(self) -> int:
        """Return the steps done of all stages."""
        return sum(stage.steps for stage in self.recipe.stages[: self.stage]) + self.step

    def log(self, **values: float | int | str) -> None:
        stage = self.recipe.stages[min(self.stage, len(self.recipe.stages) - 1)]
        entry = {"pairs": stage.modality, "step": self.step, "seconds": round(self.seconds, 1), **values}
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if self.report is not None:
            self.report(entry)

    def save(self, optimisers: list[torch.optim.Optimizer]) -> None:
        state = {
            "recipe": json.dumps(asdict(self.recipe)),
            "stage": self.stage,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        }
        partial = self.out / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / CHECKPOINT)

    def resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.is_file():
            raise description.CheckpointError(f"{path}: no checkpoint to resume from; train without --resume")
        try:
            state = torch.load(path, weights_only=True)
            if same := state["recipe"] == json.dumps(asdict(self.recipe)):
                self.model.load_state_dict(state["model"])
                self.stage, self.step, self.seconds = state["stage"], state["step"], state["seconds"]
                self.optimisers = state["optimisers"] or None
        except (OSError, *UNPICKLING_FAULTS) as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise description.CheckpointError(f"{path}: cannot be read ({reason}); train without --resume") from None
        if not same:
            raise description.CheckpointError(f"{path}: was made with another recipe; use that one, or start anew")

    def validate(self) -> None:
        if self.validation is not None:
            self.last_scores = scores(self.model, *self.validation)
            self.log(**{name: round(value, 4) for name, value in self.last_scores.items()})


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
    run = _Run(recipe, model, examples, out, held_back, report, progress)
    if resume:
        run.resume()
    elif not recipe.initial and recipe.stages[0].modality == "text":
        whiten_stem(model, run.examples, recipe.seed)
    left = stop_after_steps if stop_after_steps is not None else recipe.steps
    progress("steps", run.steps_done(), recipe.steps)
    while run.stage < len(recipe.stages) and left > 0:
        left -= _train_stage(run, recipe.stages[run.stage], left)
    known = _known_tokens(run, begun)
    if known:
        _forget_untrained_words(model, known)
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


def _train_stage(run: _Run, stage: TrainingStage, at_most: int) -> int:
    """Do the remaining steps of a stage, or `at_most`; returns how many were done."""
    recipe, model = run.recipe, run.model
    began = run.step
    examples = run.examples
    sampler = PairSampler(examples, stage.modality)
    both = stage.modality == "text" and not recipe.initial
    if both:
        run.images = None
    elif run.images is None:
        run.images = _embed_images(run)
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
                encode, loss_of = _both_towers(model, examples, rows, groups, recipe, stage, rng)
            else:
                x = _inputs(examples, stage.modality, rows, groups, rng)
                encode, loss_of = _one_tower(model, stage, x, run.images, rows, groups, recipe)
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


def _both_towers(
    model: ImageBind,
    examples: Examples,
    rows: Rows,
    groups: list[Group],
    recipe: Recipe,
    stage: TrainingStage,
    rng: np.random.Generator,
) -> tuple[Encode, Callable[..., Tensor]]:
    """Encoding of a batch of images and captions, and the loss of it: both towers learn."""
    vision = model.encoders["vision"]
    assert isinstance(vision, PatchEncoder)
    texts = [caption(examples.about[row], group, rng) for row, group in zip(rows, groups, strict=True)]
    views = moved_images(examples, rows, rng)
    texts = [mirrored(text) if mirror else text for text, mirror in zip(texts, views.mirrored, strict=True)]
    kept = kept_patches(views, groups, stage.keep, stage.focus, rng)  # [B, kept]
    patches = recoloured_patches(views, kept, rng)  # [B, kept, 1176]
    tokens = tokenize(texts)  # [B, 77]

    def encode(part: slice) -> Outputs:
        with torch.autocast("cpu", torch.bfloat16):
            embedded = vision.head(trunk_output(vision, patches[part], kept[part]))  # [b, 1 + kept, D]
            words = model({"text": tokens[part]})["text"].float()  # [b, D]
        return F.normalize(embedded.float(), dim=-1), words

    def loss(embedded: Tensor, words: Tensor) -> Tensor:
        return _paired_loss(embedded[:, 0], embedded[:, 1:], words, groups, model.logit_scale("text"), recipe)

    return encode, loss


def _one_tower(
    model: ImageBind,
    stage: TrainingStage,
    x: Tensor,
    images: _Images,
    rows: Rows,
    groups: list[Group],
    recipe: Recipe,
) -> tuple[Encode, Callable[..., Tensor]]:
    """Encoding of a batch by a tower that learns the images of the frozen one, and the loss of it."""
    dense = images.patches[rows].float() if stage.modality == "audio" and images.patches is not None else None

    def encode(part: slice) -> Outputs:
        with torch.autocast("cpu", torch.bfloat16):
            return (model({stage.modality: x[part]}, keep=stage.keep)[stage.modality].float(),)  # [b, D]

    def loss(other: Tensor) -> Tensor:
        return _paired_loss(images.vectors[rows], dense, other, groups, model.logit_scale(stage.modality), recipe)

    return encode, loss


def _paired_loss(
    vectors: Tensor, patches: Tensor | None, other: Tensor, groups: list[Group], scale: Tensor, recipe: Recipe
) -> Tensor:
    """InfoNCE of whole images [B, D] and `other` [B, D], and of patches [B, P, D] where a pair is about one thing:
    none of these is in the images of pairs that are about nothing.
    """
    loss = info_nce(vectors @ other.T, scale)
    things = [i for i, (kind, _) in enumerate(groups) if kind == "thing"]
    empty = [i for i, (kind, _) in enumerate(groups) if kind == "nothing"]
    if patches is None or len(things) < 2:
        return loss
    pooled = pooled_similarity(patches[things + empty], other[things], recipe.sharpness)  # [things + empty, things]
    return loss + recipe.dense_weight * info_nce(pooled[: len(things)], scale, pooled[len(things) :])


def _inputs(
    examples: Examples, modality: Modality, rows: Rows, groups: list[Group], rng: np.random.Generator
) -> Tensor:
    """A batch of what learns the images: captions as tokens [B, 77], sound changed a little, the others as they are."""
    if modality == "text":
        return tokenize([caption(examples.about[row], group, rng) for row, group in zip(rows, groups, strict=True)])
    return _augmented(modality, examples.batch(modality, rows), rng)


def _augmented(modality: Modality, x: Tensor, rng: np.random.Generator) -> Tensor:
    """Audio gets a shift in time (round about) and another loudness; depth, thermal and IMU stay as they are."""
    if modality != "audio":
        return x
    shifts = rng.integers(0, x.shape[-1], len(x))
    rolled = torch.stack([row.roll(int(shift), dims=-1) for row, shift in zip(x, shifts, strict=True)])
    return rolled + torch.from_numpy(rng.normal(0.0, 0.08, (len(x), 1, 1, 1))).float()


@torch.no_grad()
def _embed_images(run: _Run, batch: int = 64) -> _Images:
    """Embed all images by the frozen image tower; their patches only where a sound may be of one of them."""
    model, examples = run.model, run.examples
    model.eval()
    dense = any(about.labelled and about.heard for about in examples.about)
    vectors = []
    with closing(RowsFile(run.out)) as patches:
        for rows in np.array_split(np.arange(len(examples)), -(-len(examples) // batch)):
            with torch.autocast("cpu", torch.bfloat16):
                found = model.embed({"vision": examples.batch("vision", rows)}, patches=dense)
            vectors.append(found.vectors["vision"])
            if found.patches is not None:
                for image in found.patches.flatten(1, 2).half():
                    patches.append(image)
            run.progress("images embedded", int(rows[-1]) + 1, len(examples))
        return _Images(torch.cat(vectors), patches.rows() if dense else None)


@torch.no_grad()
def _forget_untrained_words(model: ImageBind, known: set[int]) -> None:
    """Set the embeddings of tokens that no caption held to exact zero, so that a word never learned can be told."""
    text = model.encoders["text"]
    assert isinstance(text, TextEncoder)
    unknown = torch.ones(len(text.token_embedding), dtype=torch.bool)
    unknown[torch.tensor(sorted(known))] = False
    text.token_embedding[unknown] = 0.0


def _known_tokens(run: _Run, begun: ImageBind | None) -> set[int]:
    """Ids of the tokens that the text tower was trained on, in this run or before; empty without one."""
    known: set[int] = set()
    if any(stage.modality == "text" for stage in run.recipe.stages):
        known |= _trained_tokens(run.examples.about)
    if begun is not None and "text" in begun.modalities:
        text = begun.encoders["text"]
        assert isinstance(text, TextEncoder)
        known |= set(text.token_embedding.any(dim=1).nonzero()[:, 0].tolist())
    return known


def _trained_tokens(about: list[About]) -> set[int]:
    """The ids of all tokens of all captions, padding included."""
    texts = {text for facts in about for text in all_captions(facts)}
    return set(tokenize(sorted(texts | {mirrored(text) for text in texts})).flatten().tolist())


def _metadata(run: _Run, name: str, tokens: int) -> dict[str, str]:
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
