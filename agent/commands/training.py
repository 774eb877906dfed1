"""`sensebind simulate`, `train` and `evaluate`: shards, weights, scores. Imports stand inside: torch takes its time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")] = Path("shards/train"),
    windows: Annotated[int, typer.Option(min=1, help="Training windows to write.")] = 12_000,
    seed: Annotated[int, typer.Option(min=0, help="First scene.")] = 10_000,
) -> None:
    """Write training shards out of the synthetic world."""
    from agent.lab.simulate import simulate as write

    logging.getLogger().setLevel(logging.INFO)
    write(out, windows, seed)


def train(
    shards: Annotated[Path, typer.Option(help="Folder of training shards.")] = Path("shards/train"),
    out: Annotated[Path, typer.Option(help="Folder for weights, log and checkpoint.")] = Path("runs/nano"),
    validation: Annotated[Path | None, typer.Option(help="Folder of shards to score on meanwhile.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in OUT.")] = False,
) -> None:
    """Train imagebind_nano by image-paired contrast."""
    from models.training.train import train as learn

    def report(entry: dict[str, float | int | str]) -> None:
        print("  ".join(f"{key} {value}" for key, value in entry.items()), flush=True)

    print(learn(shards, out, validation=validation, resume=resume, report=report))


def evaluate(
    shards: Annotated[Path, typer.Option(help="Folder of shards that training never saw.")] = Path("shards/val"),
    weights: Annotated[
        str, typer.Option(help="imagebind_nano (shipped), a name in the store, or a path.")
    ] = "imagebind_nano",
) -> None:
    """Score weights on shards: zero-shot, retrieval, and where heat maps point."""
    from models.evaluation.shards import evaluate as score
    from models.files import checkpoint, store

    for name, value in score(checkpoint.load(store.find(weights)), shards).items():
        print(f"{name:40} {value:.3f}")
