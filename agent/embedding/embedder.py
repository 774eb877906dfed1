"""Ticks in, unit vectors out: the only owner of the model and of the device it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.clock import RunClock
from agent.config.settings import Device, Dtype
from agent.embedding.budget import Budget
from agent.embedding.cache import RecentPieces, Result, Reuse, TextVectors, frozen
from agent.embedding.inputs import Batch, Piece, fits_one_clip, pieces_of, prepare
from agent.embedding.model import Embedded, NotFinite, fuse
from agent.embedding.reduction import IMPORTANCE, LEFT_OUT
from agent.faults import Faults
from agent.vectors import Vectors
from agent.windows.window import Tick
from common.errors import UserFault
from drivers.driver import MODALITIES, Clock, Modality
from models import preprocess
from models.files.calibration import Calibration
from models.imagebind import LOGIT_SCALES, Embeddings, ImageBind
from models.inference import Runner
from models.modalities import Modality as ModelModality
from models.tokenizer import tokenize, words_of
from models.vocabulary import Reading, Vocabulary, content_words

_DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Texts, images or clips in one forward pass: bounds the memory that a request can take.
_REQUEST_BATCH = 64

NOT_FINITE = "not finite"
"""Reason of a window whose vector is NaN or infinite."""
FAULT = "fault in preprocessing"
"""Reason of a window whose preprocessing failed; the agent's log says more."""


class DeviceError(UserFault, RuntimeError):
    """The model cannot run where it was told to; the message is one line."""


class Embedder:
    """Runs the model. Not thread-safe: once the agent runs, only the worker's thread uses it.

    The model is moved to `device` and cast to `dtype`, and belongs to the embedder from then on; vectors come back as
    float32. `compile` and `cuda_graphs` are those of `models.inference.Runner`, whose RunnerError is raised. `clock`
    measures only how long inference takes. Preprocessing that raises what it should not is counted in `faults` and
    costs its modality's windows. `vocabulary` is the table of words that the weights bring, if any.
    """

    gone = ""
    """It runs in the agent's own process, and ends with it."""

    def __init__(
        self,
        model: ImageBind,
        *,
        device: Device = "cpu",
        dtype: Dtype = "float32",
        compile: bool = False,
        cuda_graphs: bool = False,
        clock: Clock | None = None,
        faults: Faults | None = None,
        vocabulary: Vocabulary | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.calibration = calibration
        """Of the weights; None without one."""
        self.device = resolve_device(device)
        self._model = model
        self._runner = Runner(
            model,
            device=self.device,
            dtype=_DTYPES[dtype],
            pack=not compile,
            compile=compile,
            cuda_graphs=cuda_graphs,
        )
        self._clock = clock or RunClock.start()
        self._texts = TextVectors()
        self._recent = RecentPieces()
        self._not_finite = 0
        self._faults = faults or Faults()
        self._vocabulary = vocabulary

    @property
    def model(self) -> ImageBind:
        """The model itself."""
        return self._model

    @property
    def dimensions(self) -> int:
        """D, the length of every vector."""
        return self._model.sizes.embedding_dim

    @property
    def not_finite(self) -> int:
        """Windows whose vector was not finite and was withheld, since the start."""
        return self._not_finite

    def logit_scales(self, overrides: Mapping[Modality, float] | None = None) -> dict[Modality, float]:
        """The factor on the cosine of a window and a text, per modality, for `agent.perceiving.alerts.scoring`.

        Vision is trained against text at the text tower's own scale; the others have their published one.
        """
        scales = {m: LOGIT_SCALES[m] for m in MODALITIES}
        if "text" in self._model.modalities:
            scales["vision"] = float(self._model.logit_scale("text").detach())
        return {**scales, **(overrides or {})}

    @property
    def reuse(self) -> dict[str, Reuse]:
        """Hits of the caches of texts, and of windows and clips."""
        return {"texts": self._texts.reuse, "windows": self._recent.reuse}

    def embed(self, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
        """Embed the windows of all ticks, one forward pass a modality; what came before is not computed again.

        What the budget does not allow is left out; without one, nothing is. A window that cannot be used, or whose
        vector is not finite, is missing with the reason. What the model raises (out of memory ...) is raised.
        """
        started_ns = self._clock.now_ns()
        pending: dict[Result, Piece] = {}
        asked = [self._ask(tick, pending) for tick in ticks]
        costs_ms, declined = self._compute(pending, budget, started_ns)
        share = 1 / len(ticks)
        elapsed_ms = (self._clock.now_ns() - started_ns) / 1e6
        return [
            self._embedded(tick, results, elapsed_ms * share, {m: c * share for m, c in costs_ms.items()}, declined)
            for tick, results in zip(ticks, asked, strict=True)
        ]

    def embed_texts(self, texts: Sequence[str], modality: Modality | None = None) -> Vectors:  # noqa: ARG002
        """Unit vectors [n, D] of texts: the same for every modality that they are held against."""
        vectors = self._texts.embed(texts, lambda unknown: self._embed_all("text", list(tokenize(unknown))))
        return np.array(vectors, np.float32).reshape(-1, self.dimensions)

    def read(self, text: str) -> Reading:
        """Read a text in the words that the weights were trained on, by their vocabulary if they have one.

        Without one, words with a token that training never met are unknown: such a token has an embedding of zeros
        (`models.training`), and published weights have none.
        """
        if self._vocabulary is not None:
            return self._vocabulary.read(text)
        table = self._model.encoders["text"].get_parameter("token_embedding")  # [tokens, width]
        words = [(word, ids) for word, ids in words_of(text) if word.isalnum()]
        untrained = dict.fromkeys(word for word, ids in words if not bool(table[list(ids)].any(dim=-1).all()))
        return Reading(text, tuple(content_words(untrained)))

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Unit vectors [n, D] of still images, uint8 [H, W, 3] RGB each. Raises PreprocessError."""
        return self._embed_all("vision", [preprocess.vision(i[None, None], device=self.device)[0] for i in images])

    def embed_audio(self, recordings: Sequence[tuple[NDArray[np.float32], float]]) -> Vectors:
        """Unit vectors [n, D] of (float32 [n] or [n, channels], rate in Hz) each; longer than 2 s: the mean of clips.

        Raises PreprocessError.
        """
        return self._embed_all("audio", [self._clips(waveform, rate_hz) for waveform, rate_hz in recordings])

    def close(self) -> None:
        """Nothing of it outlives the agent."""

    def _ask(self, tick: Tick, pending: dict[Result, Piece]) -> dict[str, list[Result]]:
        """The results of every sensor's pieces; those that are to be computed are added to `pending`."""
        asked: dict[str, list[Result]] = {}
        for sensor, window in tick.windows.items():
            if window.data is None:
                asked[sensor] = [Result(missing=window.missing)]
            elif window.modality not in self._model.modalities:
                asked[sensor] = [Result(missing="no encoder")]
            else:
                pieces = pieces_of(window)
                asked[sensor] = self._recent.results(pieces)
                pending.update((r, p) for r, p in zip(asked[sensor], pieces, strict=True) if not r.done)
        return asked

    def _compute(
        self, pending: Mapping[Result, Piece], budget: Budget | None, started_ns: int
    ) -> tuple[dict[Modality, float], frozenset[Modality]]:
        """Fill in the results, and return what each modality took, in ms, and which the budget did not allow."""
        alike: dict[Modality, list[Result]] = {}
        for result, piece in pending.items():
            alike.setdefault(piece.modality, []).append(result)
        costs_ms: dict[Modality, float] = {}
        declined: set[Modality] = set()
        # All passes are queued before the first result is awaited, which keeps a GPU busy.
        queued: list[tuple[Modality, list[Result], list[tuple[Batch, Embeddings]]]] = []
        mark_ns = self._clock.now_ns()
        for modality in sorted(alike, key=IMPORTANCE.index):
            if budget is not None:
                so_far_s = {m: cost_ms / 1e3 for m, cost_ms in costs_ms.items()}
                if not budget.allows(modality, (self._clock.now_ns() - started_ns) / 1e9, so_far_s):
                    declined.add(modality)
                    continue
            results = alike[modality]
            queued.append((modality, results, self._queue(modality, results, pending)))
            mark_ns = self._account(modality, mark_ns, costs_ms)
        for modality, results, passes in queued:
            for batch, embeddings in passes:
                self._take(batch, embeddings, results)
            mark_ns = self._account(modality, mark_ns, costs_ms)
        return costs_ms, frozenset(declined)

    def _account(self, modality: Modality, since_ns: int, costs_ms: dict[Modality, float]) -> int:
        """Put the time since then down to a modality, and return the time now."""
        now_ns = self._clock.now_ns()
        costs_ms[modality] = costs_ms.get(modality, 0.0) + (now_ns - since_ns) / 1e6
        return now_ns

    def _queue(
        self, modality: Modality, results: Sequence[Result], pending: Mapping[Result, Piece]
    ) -> list[tuple[Batch, Embeddings]]:
        """Prepare the pieces of a modality and start their passes; those that are unusable have the reason after."""
        prepared: tuple[list[Batch], dict[int, str]] | None = None
        with self._faults.guard(f"preprocessing of {modality}"):
            prepared = prepare([pending[result] for result in results], self.device)
        batches, unusable = prepared or ([], dict.fromkeys(range(len(results)), FAULT))
        for i, reason in unusable.items():
            results[i].missing = reason
        return [(batch, self._run(modality, batch.tensor, patches=modality == "vision")) for batch in batches]

    @staticmethod
    def _take(batch: Batch, embeddings: Embeddings, results: Sequence[Result]) -> None:
        """Await a pass and fill in its results."""
        vectors = frozen(embeddings.vectors[batch.modality].cpu().numpy())
        patches = None if embeddings.patches is None else frozen(embeddings.patches.cpu().numpy())
        for row, i in enumerate(batch.rows):
            if not np.isfinite(vectors[row]).all() or (patches is not None and not np.isfinite(patches[row]).all()):
                results[i].missing = NOT_FINITE
                continue
            results[i].vector = vectors[row]
            results[i].patches = None if patches is None else patches[row]

    def _embedded(
        self,
        tick: Tick,
        asked: Mapping[str, Sequence[Result]],
        inference_ms: float,
        costs_ms: Mapping[Modality, float],
        declined: frozenset[Modality],
    ) -> Embedded:
        """Put a tick's results together."""
        vectors: dict[str, Vectors] = {}
        patches: dict[str, Vectors] = {}
        missing: dict[str, str] = {}
        for sensor, results in asked.items():
            parts = [result.vector for result in results if result.vector is not None]
            vector = parts[0] if len(parts) == 1 else fuse(parts)
            if reasons := [result.missing or LEFT_OUT for result in results if result.vector is None]:
                missing[sensor] = reasons[0]
                self._not_finite += NOT_FINITE in reasons
            elif vector is None:
                missing[sensor] = "its clips cancel each other"
            else:
                vectors[sensor] = vector
                if results[0].patches is not None:
                    patches[sensor] = results[0].patches
        fused = fuse(list(vectors.values()))
        return Embedded(tick, vectors, patches, fused, inference_ms, missing, costs_ms, declined)

    def _clips(self, waveform: NDArray[np.float32], rate_hz: float) -> Tensor:
        """A recording as the published recipe cuts it: up to 2 s whole, a longer one in three clips."""
        x = waveform[None, :, None] if waveform.ndim == 1 else waveform[None]  # [1, n, channels]
        clips = preprocess.audio if fits_one_clip(len(waveform), rate_hz) else preprocess.audio_clips
        return clips(x, rate_hz, device=self.device)[0]

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
            return self._runner.embed({modality: batch}, patches=patches)
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
