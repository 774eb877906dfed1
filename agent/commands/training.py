"""`sensebind simulate`, `train` and `evaluate`: shards, weights, scores. Imports stand inside: torch takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.commands.progress import show_progress
from common.printable import say

SHARDS = Path("shards/train")


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the shards, such as shards/train.")] = SHARDS,
    windows: Annotated[int, typer.Option(min=1, help="Number of training examples (windows).")] = 12_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; each shard takes the next 100.")] = 10_000,
) -> None:
    """Render the synthetic world to training shards."""
    from agent.lab.simulate import simulate as write

    with show_progress() as progress:
        shards = write(out, windows, seed, progress=progress)
    say(f"{out}: {windows} examples in {len(shards)} shards")


def train(
    shards: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of training shards, written by `simulate` or `log export --to shards`; repeatable. "
            f"Default: {SHARDS}."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for weights, training log and checkpoint.")] = Path("runs/nano"),
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights to begin with, such as imagebind_nano, or a file; their image tower stays as it is. Default: "
            "none, but imagebind_nano for shards of recordings."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps for each modality, such as 50. Default: those of the recipe.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Folder of shards to score during training, such as shards/val.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint in --out.")] = False,
) -> None:
    """Train imagebind_nano on images paired with text, sound, depth, thermal and IMU."""
    from models.datasets.dataset import shards_of
    from models.files import description, store

    folders = shards or [SHARDS]
    for folder in (*folders, *([validation] if validation else [])):
        shards_of(folder)
    initial = None if weights is None else store.find(weights)
    if initial is not None:
        description.metadata(initial)

    from dataclasses import replace

    from models.training.recipe import Recipe
    from models.training.train import train as learn

    recipe = Recipe()
    if steps is not None:
        recipe = replace(recipe, stages=tuple(replace(stage, steps=steps) for stage in recipe.stages))

    def report(entry: dict[str, float | int | str]) -> None:
        print("  ".join(f"{key} {value}" for key, value in entry.items()), flush=True)

    with show_progress() as progress:
        path = learn(
            folders,
            out,
            recipe,
            initial=initial,
            validation=validation,
            resume=resume,
            report=report,
            tell=say,
            progress=progress,
        )
    print(path)


def evaluate(
    shards: Annotated[
        Path, typer.Option(help="Folder of shards that were not trained on, such as shards/val, or of a recording.")
    ] = Path("shards/val"),
    weights: Annotated[
        str, typer.Option(help="Name that `weights list` shows, such as imagebind_nano, or a file.")
    ] = "imagebind_nano",
) -> None:
    """Score weights on shards: zero-shot classification, retrieval, and the accuracy of heat maps.

    Of shards without labels, as those of recordings are, retrieval alone.
    """
    from models.datasets.dataset import shards_of
    from models.files import description, store

    file = store.find(weights)
    description.metadata(file)
    shards_of(shards)

    from models.evaluation.shards import evaluate as score
    from models.files import checkpoint

    with show_progress() as progress:
        found = score(checkpoint.load(file), shards, progress)
    for name, value in found.items():
        print(f"{name:40} {value:.3f}")
