"""Finds and loads the weights that the config names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from models import checkpoint
from models.imagebind import ImageBind, Modality

SHIPPED = "imagebind_nano"


def weights_path(name: str) -> Path:
    """`imagebind_nano`, which is shipped, or the path of a safetensors file."""
    if name == SHIPPED:
        return Path(checkpoint.__file__).parent / "weights" / f"{SHIPPED}.safetensors"
    return Path(name).expanduser()


def load_weights(name: str, modalities: Collection[Modality]) -> tuple[ImageBind, str]:
    """Load the encoders of some modalities, and name the model with a short hash. Raises CheckpointError."""
    path = weights_path(name)
    model = checkpoint.load(path, modalities=modalities)
    return model, f"{path.stem} {checkpoint.content_hash(path)}"
