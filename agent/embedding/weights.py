"""Loads what the config names: weights, and the embedder that runs them."""

from __future__ import annotations

from collections.abc import Collection

import torch

from agent.config.settings import Device, Dtype, ModelSettings
from agent.embedding.embedder import Embedder, resolve_device
from agent.embedding.model import hash_in
from agent.faults import Faults
from models.files import calibration, checkpoint, description, store
from models.imagebind import ImageBind
from models.modalities import Modality
from models.vocabulary import vocabulary_of


def load_weights(
    name: str, modalities: Collection[Modality], *, device: Device = "cpu", dtype: Dtype = "float32"
) -> tuple[ImageBind, str]:
    """Load the encoders of some modalities as `dtype` onto `device`, and name the model with a short hash.

    `name` is as `models.files.store.find` takes it. Nothing is held in another dtype or place on the way. Raises
    CheckpointError, and DeviceError for a GPU that is not there.
    """
    path = store.find(name)
    model = checkpoint.load(path, getattr(torch, dtype), resolve_device(device), modalities)
    called = description.metadata(path).get("model", path.stem) if path.is_dir() else path.stem
    return model, f"{called} {description.content_hash(path)}"


def load_embedder(
    settings: ModelSettings,
    modalities: Collection[Modality],
    kind: type[Embedder] = Embedder,
    *,
    faults: Faults | None = None,
) -> tuple[Embedder, str]:
    """An embedder of some modalities and of text, as the configuration says, and its name.

    Raises CheckpointError, VocabularyError, DeviceError and RunnerError.
    """
    device, dtype = settings.device, settings.dtype
    model, name = load_weights(settings.weights, {*modalities, "text"}, device=device, dtype=dtype)
    path = store.find(settings.weights)
    embedder = kind(
        model,
        device=device,
        dtype=dtype,
        compile=settings.compile,
        cuda_graphs=settings.cuda_graphs,
        faults=faults,
        vocabulary=vocabulary_of(path),
        calibration=calibration.beside(path, hash_in(name)),
    )
    return embedder, name
