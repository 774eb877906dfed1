"""Ticks in, unit vectors out: the only owner of the model and of the device it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.clock import RunClock
from agent.windows.window import Tick, Window
from drivers.driver import MODALITIES, Clock, Modality
from models import preprocess
from models.imagebind import LOGIT_SCALES, Embeddings, ImageBind
from models.imagebind import Modality as ModelModality
from models.tokenizer import tokenize, words_of

Vectors = NDArray[np.float32]
Dtype = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]

_DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Texts, images or clips in one forward pass: bounds the memory that a request can take.
_REQUEST_BATCH = 64
# A window may be this much longer than the model's 2 s before it is cut into clips, whose vectors are averaged.
_AUDIO_SLACK_S = 0.05


class DeviceError(RuntimeError):
    """The model cannot run where it was told to; the message is one line."""


class NotFinite(ArithmeticError):
    """The model gave a vector with NaN or infinity for something that was asked of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What the model made of one tick. Every vector is finite and of length 1."""

    tick: Tick
    vectors: dict[str, Vectors]
    """Sensor -> float32 [D]."""
    patches: dict[str, Vectors]
    """Vision sensor -> float32 [16, 16, D] over the rows and columns of `models.preprocess.CropMap`'s crop."""
    fused: Vectors | None
    """Normalised mean of the vectors, [D]; None when there is none."""
    inference_ms: float
    """Preprocessing and model, this tick's part of the batch."""
    missing: dict[str, str]
    """Sensor -> why it has no vector."""


@dataclass(slots=True, eq=False)
class _Row:
    """One window on its way through the model."""

    tick: int
    sensor: str
    tensor: Tensor


@dataclass(slots=True, eq=False)
class _Found:
    """What has been found for one tick so far."""

    vectors: dict[str, Vectors] = field(default_factory=dict)
    patches: dict[str, Vectors] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class Embedder:
    """Runs the model. Not thread-safe: once the agent runs, only the worker's thread uses it.

    The model is moved to `device` and cast to `dtype`; vectors come back as float32. `clock` measures only how long
    inference takes.
    """

    def __init__(
        self, model: ImageBind, *, device: Device = "cpu", dtype: Dtype = "float32", clock: Clock | None = None
    ) -> None:
        self.device = resolve_device(device)
        self._model = model.to(self.device, _DTYPES[dtype]).eval()
        self._clock = clock or RunClock.start()
        self._not_finite = 0

    @property
    def dimensions(self) -> int:
        """D, the length of every vector."""
        return self._model.sizes.embedding_dim

    @property
    def not_finite(self) -> int:
        """Windows whose vector was not finite and was withheld, since the start."""
        return self._not_finite

    def logit_scales(self, overrides: Mapping[Modality, float] | None = None) -> dict[Modality, float]:
        """The factor on the cosine of a window and a text, per modality, for `agent.alerts.scoring`.

        Vision is trained against text at the text tower's own scale; the others have their published one.
        """
        scales = {m: LOGIT_SCALES[m] for m in MODALITIES}
        if "text" in self._model.modalities:
            scales["vision"] = float(self._model.logit_scale("text").detach())
        return {**scales, **(overrides or {})}

    def embed(self, ticks: Sequence[Tick]) -> list[Embedded]:
        """Embed the windows of all ticks, one forward pass a modality.

        A window that cannot be used, or whose vector is not finite, is missing with the reason. What the model raises
        (out of memory ...) is raised.
        """
        started_ns = self._clock.now_ns()
        found = [_Found() for _ in ticks]
        # Windows of one modality share a pass; only audio longer than the model's 2 s has another shape: its clips'.
        batches: dict[tuple[Modality, torch.Size], list[_Row]] = {}
        for index, tick in enumerate(ticks):
            for sensor, window in tick.windows.items():
                tensor = self._prepare(window)
                if isinstance(tensor, str):
                    found[index].missing[sensor] = tensor
                else:
                    batches.setdefault((window.modality, tensor.shape), []).append(_Row(index, sensor, tensor))
        # All passes are queued before the first result is awaited, which keeps a GPU busy.
        passes = [(modality, rows, self._forward(modality, rows)) for (modality, _), rows in batches.items()]
        for modality, rows, embeddings in passes:
            self._collect(found, rows, embeddings, modality)
        elapsed_ms = (self._clock.now_ns() - started_ns) / 1e6
        return [
            Embedded(tick, f.vectors, f.patches, fuse(list(f.vectors.values())), elapsed_ms / len(ticks), f.missing)
            for tick, f in zip(ticks, found, strict=True)
        ]

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [n, D] of texts."""
        return self._embed_all("text", list(tokenize(texts)))

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the weights have never been trained on, in order, each once.

        A token that training never met has an embedding of zeros (`models.train`); published weights have none.
        """
        table = self._model.encoders["text"].get_parameter("token_embedding")  # [tokens, width]
        words = [(word, ids) for word, ids in words_of(text) if word.isalnum()]
        return list(dict.fromkeys(word for word, ids in words if not bool(table[list(ids)].any(dim=-1).all())))

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Unit vectors [n, D] of still images, uint8 [H, W, 3] RGB each. Raises PreprocessError."""
        return self._embed_all("vision", [preprocess.vision(image[None]) for image in images])

    def embed_audio(self, recordings: Sequence[tuple[NDArray[np.float32], float]]) -> Vectors:
        """Unit vectors [n, D] of (float32 [n] or [n, channels], rate in Hz) each; longer than 2 s: the mean of clips.

        Raises PreprocessError.
        """
        return self._embed_all("audio", [_audio(waveform, rate_hz) for waveform, rate_hz in recordings])

    def _prepare(self, window: Window) -> Tensor | str:
        """The window as the model's input, or why there is none."""
        if window.data is None:
            return window.missing
        if window.modality not in self._model.modalities:
            return "no encoder"
        try:
            return _tensor(window)
        except (ValueError, TypeError, RuntimeError) as error:
            return f"unusable: {error}"

    def _forward(self, modality: Modality, rows: Sequence[_Row]) -> Embeddings:
        batch = torch.stack([row.tensor for row in rows])
        return self._run(modality, batch, patches=modality == "vision")

    def _collect(
        self, found: Sequence[_Found], rows: Sequence[_Row], embeddings: Embeddings, modality: Modality
    ) -> None:
        vectors = embeddings.vectors[modality].cpu().numpy()
        patches = None if embeddings.patches is None else embeddings.patches.cpu().numpy()
        for i, row in enumerate(rows):
            if not np.isfinite(vectors[i]).all() or (patches is not None and not np.isfinite(patches[i]).all()):
                self._not_finite += 1
                found[row.tick].missing[row.sensor] = "not finite"
                continue
            found[row.tick].vectors[row.sensor] = vectors[i]
            if patches is not None:
                found[row.tick].patches[row.sensor] = patches[i]

    def _embed_all(self, modality: ModelModality, tensors: Sequence[Tensor]) -> Vectors:
        """Unit vectors [n, D] of inputs that may have different numbers of clips. Raises NotFinite."""
        vectors = np.zeros((len(tensors), self.dimensions), dtype=np.float32)
        by_shape: dict[torch.Size, list[int]] = {}
        for i, tensor in enumerate(tensors):
            by_shape.setdefault(tensor.shape, []).append(i)
        for indices in by_shape.values():
            for first in range(0, len(indices), _REQUEST_BATCH):
                part = indices[first : first + _REQUEST_BATCH]
                embeddings = self._run(modality, torch.stack([tensors[i] for i in part]))
                vectors[part] = embeddings.vectors[modality].cpu().numpy()
        if not np.isfinite(vectors).all():
            raise NotFinite(f"the model's vector of a {modality} input is not finite; try dtype float32")
        return vectors

    def _run(self, modality: ModelModality, batch: Tensor, *, patches: bool = False) -> Embeddings:
        try:
            with torch.inference_mode():
                return self._model.embed({modality: batch.to(self.device)}, patches=patches)
        except torch.OutOfMemoryError:
            # What the failed pass held is given back, so that a smaller batch finds it.
            torch.cuda.empty_cache()
            raise


def resolve_device(device: Device) -> torch.device:
    """`auto` is the GPU when there is one. Raises DeviceError for a GPU that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("model.device: cuda was asked for, but there is no CUDA device; take auto or cpu")
    return torch.device(device)


def fuse(vectors: Sequence[Vectors]) -> Vectors | None:
    """Normalised mean of unit vectors [D]; None without any, or when they cancel."""
    if not vectors:
        return None
    mean = np.mean(vectors, axis=0)
    norm = float(np.linalg.norm(mean))
    return (mean / np.float32(norm)).astype(np.float32) if norm > 1e-6 else None


def _tensor(window: Window) -> Tensor:
    """The model's input of a window that is present. Raises PreprocessError."""
    assert window.data is not None
    match window.modality:
        case "vision":
            return preprocess.vision(window.data)
        case "audio":
            return _audio(window.data, window.rate_hz)
        case "depth":
            return preprocess.depth(window.data)
        case "thermal":
            return preprocess.thermal(window.data)
        case "imu":
            return preprocess.imu(window.data, window.rate_hz)


def _audio(waveform: NDArray[np.float32], rate_hz: float) -> Tensor:
    if len(waveform) > (preprocess.AUDIO_WINDOW_S + _AUDIO_SLACK_S) * rate_hz:
        return preprocess.audio_clips(waveform, rate_hz)
    return preprocess.audio(waveform, rate_hz)
