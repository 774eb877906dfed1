"""Loads the weights that the config names."""

from __future__ import annotations

from collections.abc import Collection

import torch

from agent.embedding.embedder import Device, Dtype, resolve_device
from models import checkpoint, store
from models.imagebind import ImageBind, Modality


def load_weights(
    name: str, modalities: Collection[Modality], *, device: Device = "cpu", dtype: Dtype = "float32"
) -> tuple[ImageBind, str]:
    """Load the encoders of some modalities as `dtype` onto `device`, and name the model with a short hash.

    `name` is as `models.store.find` takes it. Nothing is held in another dtype or place on the way. Raises
    CheckpointError, and DeviceError for a GPU that is not there.
    """
    path = store.find(name)
    model = checkpoint.load(path, getattr(torch, dtype), resolve_device(device), modalities)
    called = checkpoint.metadata(path).get("model", path.stem) if path.is_dir() else path.stem
    return model, f"{called} {checkpoint.content_hash(path)}"
