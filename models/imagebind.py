"""ImageBind (Girdhar 2023): six encoders, one embedding space.

    >>> from models import tokenizer
    >>> model = imagebind_nano()
    >>> model({"text": tokenizer.tokenize(["a dog barking"])})["text"].shape
    torch.Size([1, 128])

Outputs are unit vectors. The published model multiplies them by a logit scale per modality; that scale belongs to
whoever turns products into scores: `ImageBind.logit_scale`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders import (
    AUDIO_FRAMES,
    AUDIO_MEL_BINS,
    AUDIO_PATCH,
    AUDIO_STRIDE,
    FRAMES,
    IMU_CHANNELS,
    IMU_PATCH_STEPS,
    IMU_STEPS,
    MAP_PATCH_PX,
    TEXT_LOGIT_SCALE_MAX,
    TEXT_TOKENS,
    PatchEncoder,
    TextEncoder,
    audio_encoder,
    imu_encoder,
    map_encoder,
    vision_encoder,
)
from models.extent import IMAGE_PX, VISION_PATCH_PX
from models.modalities import MODALITIES, Modality
from models.transformer import WIDTH_MAX, TowerSizes, check_size

LOGIT_SCALES: Final[Mapping[Modality, float]] = {
    "vision": 1.0,
    "audio": 20.0,
    "depth": 5.0,
    "thermal": 10.0,
    "imu": 5.0,
}
"""Published factors on cosine similarities before a softmax; text's is learned and part of the weights."""

_PUBLISHED_FIXED: Final[Mapping[str, object]] = {
    "video_frames": FRAMES,
    "kernel_size": [FRAMES, VISION_PATCH_PX, VISION_PATCH_PX],
    "audio_kernel_size": AUDIO_PATCH,
    "audio_stride": AUDIO_STRIDE,
    "audio_num_mel_bins": AUDIO_MEL_BINS,
    "audio_target_len": AUDIO_FRAMES,
    "depth_kernel_size": MAP_PATCH_PX,
    "thermal_kernel_size": MAP_PATCH_PX,
    "imu_kernel_size": IMU_PATCH_STEPS,
}
"""Published arguments that set the inputs, which are the same for every size here."""


class InputError(ValueError):
    """An input of the model has a shape, type or modality that it cannot take."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all six encoders; raises ValueError for what no model has."""

    embedding_dim: int
    vision: TowerSizes
    audio: TowerSizes
    depth: TowerSizes
    thermal: TowerSizes
    imu: TowerSizes
    text: TowerSizes
    vision_patch_px: int = VISION_PATCH_PX
    """Side of an image's square patches; divides 224. ImageBind's is 14, OpenCLIP's B models have 32 or 16."""

    def __post_init__(self) -> None:
        check_size("embedding_dim", self.embedding_dim, WIDTH_MAX)
        check_size("vision_patch_px", self.vision_patch_px, IMAGE_PX)
        if IMAGE_PX % self.vision_patch_px:
            raise ValueError(f"sizes: vision_patch_px is {self.vision_patch_px}; it must divide {IMAGE_PX}")

    @property
    def vision_grid(self) -> int:
        """Patches along each side of an image."""
        return IMAGE_PX // self.vision_patch_px

    @classmethod
    def from_published(cls, arguments: Mapping[str, Any]) -> Self:
        """Read the published constructor's argument names, e.g. `vision_embed_dim`, `audio_drop_path`.

        What is not named has that constructor's default. Raises ValueError naming an argument that is unknown or
        that asks for other inputs than Huge's.
        """
        fields = {"embed_dim": "width", "num_blocks": "blocks", "num_heads": "heads", "drop_path": "drop_path"}
        sizes = asdict(_PUBLISHED_DEFAULTS)
        for name, value in arguments.items():
            modality, _, field = name.partition("_")
            if name == "out_embed_dim":
                sizes["embedding_dim"] = value
            elif modality in MODALITIES and field in fields:
                sizes[modality][fields[field]] = value
            elif name not in _PUBLISHED_FIXED:
                raise ValueError(f"sizes: unknown argument {name!r}; known: out_embed_dim, MODALITY_embed_dim, ...")
            elif (list(value) if isinstance(value, tuple) else value) != _PUBLISHED_FIXED[name]:
                raise ValueError(f"sizes: {name} is {value}; only {_PUBLISHED_FIXED[name]} is supported")
        return cls.from_dict(sizes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `dataclasses.asdict`, as checkpoints store it; raises TypeError, KeyError or ValueError."""
        fields: dict[str, Any] = dict(values)
        for modality in MODALITIES:
            fields[modality] = TowerSizes(**fields[modality])
        return cls(**fields)


_PUBLISHED_DEFAULTS: Final = Sizes(
    embedding_dim=768,
    vision=TowerSizes(1024, 24, 16),
    audio=TowerSizes(768, 12, 12, drop_path=0.1),
    depth=TowerSizes(384, 12, 8),
    thermal=TowerSizes(768, 12, 12),
    imu=TowerSizes(512, 6, 8, drop_path=0.7),
    text=TowerSizes(768, 12, 12),
)
HUGE: Final = replace(
    _PUBLISHED_DEFAULTS, embedding_dim=1024, vision=TowerSizes(1280, 32, 16), text=TowerSizes(1024, 24, 16)
)
NANO: Final = Sizes(
    embedding_dim=128,
    vision=TowerSizes(192, 4, 3),
    audio=TowerSizes(192, 4, 3),
    depth=TowerSizes(128, 3, 2),
    thermal=TowerSizes(128, 3, 2),
    imu=TowerSizes(128, 3, 2),
    text=TowerSizes(96, 3, 3),
)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors of one forward pass, float32.

    `vectors[modality]` is [B, D]. `patches` is [B, G, G, D] over the rows and columns of the vision input, in the same
    space as the vectors (G = `Sizes.vision_grid`, 16 as published), or None if it was not asked for.
    """

    vectors: dict[Modality, Tensor]
    patches: Tensor | None


class ImageBind(nn.Module):
    """The encoders of `modalities`, freshly initialised; weights come from `models.files.checkpoint`.

    Inputs, float tensors in the units that `models.preprocess` makes, each with its own batch size B:

        vision   [B, 3, 224, 224]                 still image, used as both frames
                 [B, 3, 2, 224, 224]              two frames
                 [B, clips, 3, 2, 224, 224]       clips, averaged
        audio    [B, 1, 128, 204], [B, clips, 1, 128, 204]
        depth    [B, 1, 224, 224]
        thermal  [B, 1, 224, 224]
        imu      [B, 6, 2000]
        text     [B, 77] int64 from `models.tokenizer`
    """

    def __init__(self, sizes: Sizes, modalities: Iterable[Modality] = MODALITIES) -> None:
        super().__init__()
        self.sizes = sizes
        self.modalities = tuple(modalities)
        dim = sizes.embedding_dim
        build: dict[Modality, Callable[[], nn.Module]] = {
            "vision": lambda: vision_encoder(sizes.vision, dim, sizes.vision_patch_px),
            "audio": lambda: audio_encoder(sizes.audio, dim),
            "depth": lambda: map_encoder(sizes.depth, dim),
            "thermal": lambda: map_encoder(sizes.thermal, dim),
            "imu": lambda: imu_encoder(sizes.imu, dim),
            "text": lambda: TextEncoder(sizes.text, dim),
        }
        self.encoders = nn.ModuleDict({modality: build[modality]() for modality in self.modalities})
        _initialise(self)

    def forward(self, inputs: Mapping[Modality, Tensor], keep: float = 1.0) -> dict[Modality, Tensor]:
        """Unit vectors [B, D] of every input; see `embed`."""
        return self.embed(inputs, keep=keep).vectors

    def embed(self, inputs: Mapping[Modality, Tensor], *, patches: bool = False, keep: float = 1.0) -> Embeddings:
        """Embed every input, and with `patches` also every vision patch, from the same pass.

        `keep` is the fraction of patch tokens of vision, audio, depth and thermal that enter the trunk (training).
        Raises InputError for an unknown modality or a shape that the class does not list.
        """
        if patches and ("vision" not in inputs or keep < 1.0):
            raise InputError("patches need a vision input and keep = 1")
        vectors: dict[Modality, Tensor] = {}
        dense: Tensor | None = None
        for modality, value in inputs.items():
            if modality not in self.modalities:
                raise InputError(f"the model has no encoder for {modality!r}; it has {', '.join(self.modalities)}")
            encoder = self.encoders[modality]
            x, clips = _as_batch(modality, value)  # [B * clips, ...]
            if isinstance(encoder, TextEncoder):
                vectors[modality] = _unit(encoder(_trimmed(x)))
                continue
            assert isinstance(encoder, PatchEncoder)
            x = x.to(encoder.cls_token.dtype)
            with_patches = patches and modality == "vision"
            tokens = encoder.tokens(x, keep if modality != "imu" else 1.0, first_only=not with_patches)
            vectors[modality] = _mean_of_clips(_unit(encoder.head(tokens[:, 0])), clips)  # [B, D]
            if with_patches:  # tokens: [B * clips, 1 + G * G, width]
                G = self.sizes.vision_grid
                grid = encoder.head(tokens[:, 1:]).unflatten(1, (G, G))  # [B * clips, G, G, D]
                dense = _mean_of_clips(_unit(grid), clips)  # [B, G, G, D]
        return Embeddings(vectors, dense)

    def logit_scale(self, modality: Modality) -> Tensor:
        """The factor on a cosine similarity with a vector of `modality`, 0-d float32; of text it carries a gradient."""
        if modality != "text":
            return torch.tensor(LOGIT_SCALES[modality])
        encoder = self.encoders["text"]
        assert isinstance(encoder, TextEncoder)
        return encoder.log_logit_scale.float().exp().clamp(max=TEXT_LOGIT_SCALE_MAX)


def imagebind_huge(modalities: Iterable[Modality] = MODALITIES) -> ImageBind:
    """The published size, 1.2 billion parameters; build it under `torch.device("meta")` to spend no memory."""
    return ImageBind(HUGE, modalities)


def imagebind_nano(modalities: Iterable[Modality] = MODALITIES) -> ImageBind:
    """Huge's inputs with small towers, for two CPU cores."""
    return ImageBind(NANO, modalities)


ITEM_SHAPES: Final[Mapping[Modality, tuple[int, ...]]] = {
    "vision": (3, FRAMES, IMAGE_PX, IMAGE_PX),
    "audio": (1, AUDIO_MEL_BINS, AUDIO_FRAMES),
    "depth": (1, IMAGE_PX, IMAGE_PX),
    "thermal": (1, IMAGE_PX, IMAGE_PX),
    "imu": (IMU_CHANNELS, IMU_STEPS),
    "text": (TEXT_TOKENS,),
}
"""One item of a batch, as the model takes it."""


def _as_batch(modality: Modality, x: Tensor) -> tuple[Tensor, int]:
    """The input as [B * clips, *item shape], and the number of clips of each item."""
    if not isinstance(x, Tensor) or not (x.dtype == torch.int64 if modality == "text" else x.is_floating_point()):
        found = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(f"{modality}: {found} is not what models.preprocess or models.tokenizer gives")
    item = ITEM_SHAPES[modality]
    if modality == "vision" and x.ndim == 4 and x.shape[1:] == (3, IMAGE_PX, IMAGE_PX):
        x = x.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1)  # [B, 3, 2, 224, 224]
    if x.shape[1:] == item:
        return x, 1
    if modality in ("vision", "audio") and x.ndim == len(item) + 2 and x.shape[2:] == item and x.shape[1] > 0:
        return x.flatten(0, 1), x.shape[1]
    raise InputError(f"{modality}: shape {tuple(x.shape)} is not [B, {', '.join(map(str, item))}]")


def _trimmed(tokens: Tensor) -> Tensor:
    """Return the tokens without the columns after the last end-of-text: under causal attention they change nothing."""
    return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1] if len(tokens) else tokens


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _mean_of_clips(x: Tensor, clips: int) -> Tensor:
    """[B * clips, ..., D] unit vectors -> [B, ..., D] unit vectors."""
    return x if clips == 1 else _unit(x.reshape(-1, clips, *x.shape[1:]).mean(dim=1))


def _initialise(model: ImageBind) -> None:
    """Weights of variance 1 / fan-in, less where they add to the residual; embeddings and biases as CLIP has them."""
    for encoder in model.encoders.values():
        assert isinstance(encoder, PatchEncoder | TextEncoder)
        residual_gain = (2 * len(encoder.trunk.blocks)) ** -0.5
        for name, parameter in encoder.named_parameters():
            if parameter.is_meta:  # nothing to write to, and drawing on meta makes PyTorch import its compiler: 1.4 s
                continue
            if name == "log_logit_scale":
                nn.init.constant_(parameter, math.log(1 / 0.07))
            elif "norm" in name:
                nn.init.constant_(parameter, 1.0 if name.endswith(".weight") else 0.0)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(".weight"):
                gain = residual_gain if name.endswith(("attn.out.weight", "mlp.fc2.weight")) else 1.0
                nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
            else:
                nn.init.normal_(parameter, std=0.02)
