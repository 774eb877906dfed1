"""One training run: what it learns from and where it has come to, with its log and its checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from common.progress import Progress
from models.datasets.dataset import Classes
from models.datasets.pairs import Examples
from models.evaluation.shards import scores
from models.files.description import CheckpointError
from models.files.published_file import UNPICKLING_FAULTS
from models.imagebind import ImageBind
from models.training.embedded_images import EmbeddedImages
from models.training.recipe import Recipe

CHECKPOINT: Final = "checkpoint.pt"
LOG: Final = "log.jsonl"

Report = Callable[[dict[str, float | int | str]], None]
"""Gets each entry of the training log: step, loss, samples per second, validation scores."""


@dataclass(slots=True, eq=False)
class TrainingRun:
    """A run of `train`."""

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
    images: EmbeddedImages | None = None
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
            raise CheckpointError(f"{path}: no checkpoint to resume from; train without --resume")
        try:
            state = torch.load(path, weights_only=True)
            if same := state["recipe"] == json.dumps(asdict(self.recipe)):
                self.model.load_state_dict(state["model"])
                self.stage, self.step, self.seconds = state["stage"], state["step"], state["seconds"]
                self.optimisers = state["optimisers"] or None
        except (OSError, *UNPICKLING_FAULTS) as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise CheckpointError(f"{path}: cannot be read ({reason}); train without --resume") from None
        if not same:
            raise CheckpointError(f"{path}: was made with another recipe; use that one, or start anew")

    def validate(self) -> None:
        if self.validation is not None:
            self.last_scores = scores(self.model, *self.validation)
            self.log(**{name: round(value, 4) for name, value in self.last_scores.items()})
