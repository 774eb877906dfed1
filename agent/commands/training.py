"""`sensebind simulate`, `train` and `evaluate`: shards, weights, scores. Imports stand inside: torch takes its time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the shards, such as shards/train.")] = Path("shards/train"),
    windows: Annotated[int, typer.Option(min=1, help="Number of training examples (windows).")] = 12_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; each shard takes the next 100.")] = 10_000,
) -> None:
    """Render the synthetic world to training shards."""
    from agent.lab.simulate import simulate as write

    logging.getLogger().setLevel(logging.INFO)
    write(out, windows, seed)


def train(
    shards: Annotated[
        Path, typer.Option(help="Folder of training shards, written by `simulate` or `log export --to shards`.")
    ] = Path("shards/train"),
    out: Annotated[Path, typer.Option(help="Folder for weights, training log and checkpoint.")] = Path("runs/nano"),
    validation: Annotated[
        Path | None, typer.Option(help="Folder of shards to score during training, such as shards/val.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint in --out.")] = False,
) -> None:
    """Train imagebind_nano on images paired with text, sound, depth, thermal and IMU."""
    from models.training.train import train as learn

    def report(entry: dict[str, float | int | str]) -> None:
        print("  ".join(f"{key} {value}" for key, value in entry.items()), flush=True)

    print(learn(shards, out, validation=validation, resume=resume, report=report))


def evaluate(
    shards: Annotated[Path, typer.Option(help="Folder of shards that were not trained on.")] = Path("shards/val"),
    weights: Annotated[
        str, typer.Option(help="Name that `weights list` shows, such as imagebind_nano, or a file.")
    ] = "imagebind_nano",
) -> None:
    """Score weights on shards: zero-shot classification, retrieval, and the accuracy of heat maps."""
    from models.evaluation.shards import evaluate as score
    from models.files import checkpoint, store

    for name, value in score(checkpoint.load(store.find(weights)), shards).items():
        print(f"{name:40} {value:.3f}")
