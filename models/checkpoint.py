"""Weights: tensors under the published names in, our own safetensors files in and out.

A file of ours holds float16 tensors under the module's own names; its metadata holds the format, the sizes as JSON,
and whatever the writer added (what it was trained on, licence, ...).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from models.encoders import TEXT_TOKENS
from models.imagebind import LOGIT_SCALES, MODALITIES, ImageBind, Modality, Sizes

FORMAT: Final = "sensebind-imagebind-1"

_RENAMES: Final = (
    (r"encoders\.vision\.stem\.weight", r"modality_preprocessors.vision.rgbt_stem.proj.1.weight"),
    (r"encoders\.(audio|thermal)\.stem\.proj\.(\w+)", r"modality_preprocessors.\1.rgbt_stem.proj.\2"),
    (r"encoders\.(audio|thermal)\.stem\.norm\.(\w+)", r"modality_preprocessors.\1.rgbt_stem.norm_layer.\2"),
    (r"encoders\.(depth|imu)\.stem\.proj\.(\w+)", r"modality_preprocessors.\1.\1_stem.proj.\2"),
    (r"encoders\.(depth|imu)\.stem\.norm\.(\w+)", r"modality_preprocessors.\1.\1_stem.norm_layer.\2"),
    (r"encoders\.text\.token_embedding", r"modality_preprocessors.text.token_embedding.weight"),
    (r"encoders\.(\w+)\.cls_token", r"modality_preprocessors.\1.cls_token"),
    (r"encoders\.(imu|text)\.pos_embed", r"modality_preprocessors.\1.pos_embed"),
    (r"encoders\.(\w+)\.pos_embed", r"modality_preprocessors.\1.pos_embedding_helper.pos_embed"),
    (r"encoders\.(\w+)\.pre_norm\.(\w+)", r"modality_trunks.\1.pre_transformer_layer.0.\2"),
    (r"encoders\.(\w+)\.trunk\.blocks\.(\d+)\.attn\.qkv\.(\w+)", r"modality_trunks.\1.blocks.\2.attn.in_proj_\3"),
    (r"encoders\.(\w+)\.trunk\.blocks\.(\d+)\.attn\.out\.(\w+)", r"modality_trunks.\1.blocks.\2.attn.out_proj.\3"),
    (r"encoders\.(\w+)\.trunk\.blocks\.(.+)", r"modality_trunks.\1.blocks.\2"),
    (r"encoders\.text\.head\.norm\.(\w+)", r"modality_heads.text.proj.0.\1"),
    (r"encoders\.text\.head\.proj\.(\w+)", r"modality_heads.text.proj.1.\1"),
    (r"encoders\.(\w+)\.head\.norm\.(\w+)", r"modality_heads.\1.0.\2"),
    (r"encoders\.imu\.head\.proj\.(\w+)", r"modality_heads.imu.3.\1"),
    (r"encoders\.(\w+)\.head\.proj\.(\w+)", r"modality_heads.\1.2.\2"),
    (r"encoders\.text\.log_logit_scale", r"modality_postprocessors.text.1.log_logit_scale"),
)
"""Our name (a pattern for the whole name) -> published name; the first that matches holds."""


class CheckpointError(Exception):
    """A weights file or state dict cannot be used; one line: which, what is wrong, what to do."""


def published_name(name: str) -> str:
    """The published name of one of our tensors."""
    for pattern, replacement in _RENAMES:
        renamed, hits = re.subn(f"^{pattern}$", replacement, name)
        if hits:
            return renamed
    raise KeyError(name)


def published_constants(modalities: Iterable[Modality] = MODALITIES) -> dict[str, Tensor]:
    """Tensors that the published state dict stores but that are constants here: causal mask and fixed logit scales."""
    constants = {
        f"modality_postprocessors.{m}.1.log_logit_scale": torch.tensor(math.log(LOGIT_SCALES[m]))
        for m in modalities
        if m not in ("vision", "text")
    }
    if "text" in modalities:
        mask = torch.full((TEXT_TOKENS, TEXT_TOKENS), -math.inf, device="cpu").triu(1)
        constants["modality_preprocessors.text.mask"] = mask
    return constants


def from_published(state: Mapping[str, Tensor], sizes: Sizes, dtype: torch.dtype = torch.float32) -> ImageBind:
    """Build the model from tensors under the published names; `state` is neither changed nor shared.

    Raises CheckpointError naming the first tensor that is missing, unknown, misshapen or not finite, or a constant
    that differs.
    """
    with torch.device("meta"):
        model = ImageBind(sizes)
    names = {name: published_name(name) for name in model.state_dict()}
    constants = published_constants()
    if unknown := sorted(set(state) - set(names.values()) - set(constants)):
        raise CheckpointError(
            f"published weights: {unknown[0]} is not part of this model ({len(unknown)} such tensors)"
        )
    for name, value in constants.items():
        if name not in state:
            raise CheckpointError(f"published weights: {name} is missing")
        if state[name].shape != value.shape or not torch.allclose(state[name].float().cpu(), value):
            raise CheckpointError(f"published weights: {name} differs from the published constant")
    _assign(model, state, names, "published weights", dtype)
    return model


def save(model: ImageBind, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write the weights; the file appears whole or not at all. Raises CheckpointError for what is not finite."""
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    for name, tensor in tensors.items():
        _check_finite(name, tensor, f"{path} is not written")
    own = {"format": FORMAT, "sizes": json.dumps(asdict(model.sizes)), "modalities": ",".join(model.modalities)}
    partial = path.with_name(f"{path.name}.partial")
    safetensors.torch.save_file(tensors, partial, {**metadata, **own})
    partial.chmod(0o644)  # safetensors writes files that only their owner reads; the robot may run as another user
    os.replace(partial, path)


def load(
    path: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    modalities: Iterable[Modality] | None = None,
) -> ImageBind:
    """Read weights that `save` wrote, in evaluation mode; only the tensors of `modalities` (default: all) are read.

    Raises CheckpointError when the file is missing, damaged, not of this format, lacks a tensor, or holds values
    that are not finite.
    """
    stored = metadata(path)
    try:
        sizes = Sizes.from_dict(json.loads(stored["sizes"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its sizes cannot be read ({error}); fetch or train the weights again"
        ) from error
    held = [m for m in MODALITIES if m in stored.get("modalities", "").split(",")]
    wanted = list(modalities) if modalities is not None else held
    if lacking := [m for m in wanted if m not in held]:
        raise CheckpointError(f"{path}: has no encoder for {lacking[0]}; it has {', '.join(held)}")
    with torch.device("meta"):
        model = ImageBind(sizes, wanted)
    names = {name: name for name in model.state_dict()}
    with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name in names}  # noqa: SIM118 (no mapping)
        _assign(model, tensors, names, str(path), dtype)
    return model.eval()


def metadata(path: Path) -> dict[str, str]:
    """What the writer stored beside the weights, without reading any; raises CheckpointError as `load` does."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; fetch or train the weights first")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored: dict[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); fetch or train the weights again") from error
    if stored.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a sensebind weights file (format {stored.get('format')!r}, not {FORMAT!r})")
    return stored


def content_hash(path: Path) -> str:
    """First 12 hex digits of the file's SHA-256: which weights made an event, for status and logs."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _assign(
    model: ImageBind, tensors: Mapping[str, Tensor], names: Mapping[str, str], source: str, dtype: torch.dtype
) -> None:
    """Give every parameter of a meta model a copy of its tensor; `names` maps our names to those of `tensors`."""
    owned: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        tensor = tensors.get(names[name])
        if tensor is None:
            raise CheckpointError(f"{source}: {names[name]} is missing")
        if tensor.shape != parameter.shape:
            got, wanted = list(tensor.shape), list(parameter.shape)
            raise CheckpointError(f"{source}: {names[name]} has shape {got}, the model needs {wanted}")
        owned[name] = tensor.detach().to(dtype, copy=True)
        _check_finite(names[name], owned[name], f"{source} cannot be used")
    model.load_state_dict(owned, assign=True)


def _check_finite(name: str, tensor: Tensor, consequence: str) -> None:
    if not tensor.isfinite().all():
        raise CheckpointError(
            f"{consequence}: {name} holds NaN or infinite values as {str(tensor.dtype).removeprefix('torch.')}; "
            "fetch or train the weights again"
        )
