"""Weights: tensors under the published names in, our own safetensors files in and out.

A file of ours holds tensors under the module's own names; `description` says what its metadata holds.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from models.encoders import TEXT_TOKENS
from models.files import tensor_file
from models.files.description import FORMAT, CheckpointError, faults_of, files_of, shared_metadata
from models.files.tensor_file import NotFiniteError, TensorFile
from models.imagebind import LOGIT_SCALES, ImageBind, Sizes
from models.modalities import MODALITIES, Modality

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


def check_published(state: Mapping[str, Tensor], sizes: Sizes) -> dict[str, str]:
    """Our name -> published name of every tensor, if `state` is a published model of these sizes.

    Raises CheckpointError naming the first tensor that is unknown, missing or misshapen or holds no floating-point
    numbers, or a constant that differs. That the numbers are finite is seen by whoever copies them.
    """
    wanted = tensor_shapes(sizes)
    names = {name: published_name(name) for name in wanted}
    constants = published_constants()
    shapes = {names[name]: shape for name, shape in wanted.items()}
    shapes |= {name: constant.shape for name, constant in constants.items()}
    _check_tensors("published weights", {name: tensor.shape for name, tensor in state.items()}, shapes)
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise CheckpointError(f"published weights: {name} holds no floating-point numbers ({tensor.dtype})")
    for name, constant in constants.items():
        if not torch.allclose(state[name].float().cpu(), constant):
            raise CheckpointError(f"published weights: {name} differs from the published constant")
    return names


def from_published(state: Mapping[str, Tensor], sizes: Sizes, dtype: torch.dtype = torch.float32) -> ImageBind:
    """Build the model from tensors under the published names; `state` is neither changed nor shared.

    Raises CheckpointError as `check_published` does, and for values that are not finite.
    """
    names = check_published(state, sizes)
    model = _without_memory(sizes, MODALITIES).to(dtype)
    taken = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    owned = {name: state[published].detach().to(taken[name], copy=True) for name, published in names.items()}
    for name, tensor in owned.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"published weights: {NotFiniteError(names[name], tensor.dtype)}")
    model.load_state_dict(owned, assign=True)
    return model


def tensor_shapes(sizes: Sizes, modalities: Iterable[Modality] = MODALITIES) -> dict[str, torch.Size]:
    """Our name -> shape of every tensor of a model."""
    return {name: tensor.shape for name, tensor in _without_memory(sizes, modalities).state_dict().items()}


def save(model: ImageBind, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write the weights into one file, which appears whole or not at all.

    Raises CheckpointError for what is not finite.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        write(partial, model.sizes, model.modalities, model.state_dict().__getitem__, dtype, metadata)
        os.replace(partial, path)
    except NotFiniteError as error:
        raise CheckpointError(f"{path} is not written: {error}; train the weights again") from None
    finally:
        partial.unlink(missing_ok=True)


def write(
    path: Path,
    sizes: Sizes,
    modalities: Iterable[Modality],
    read: Callable[[str], Tensor],
    dtype: torch.dtype,
    metadata: Mapping[str, str],
) -> None:
    """Write a new file with some modalities; `read` gives their tensors by our names, one after the other.

    Raises NotFiniteError, OSError.
    """
    modalities = list(modalities)
    own = {"format": FORMAT, "sizes": json.dumps(asdict(sizes)), "modalities": ",".join(modalities)}
    tensor_file.write(path, tensor_shapes(sizes, modalities), read, dtype, {**metadata, "dtype": _word(dtype), **own})


def load(
    path: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    modalities: Iterable[Modality] | None = None,
) -> ImageBind:
    """Read weights as `dtype` on `device`, in evaluation mode: one file, or a folder with a file per modality.

    Only what belongs to `modalities` (default: all there are) is read, and nothing stays open or mapped. It takes some
    megabytes of memory beside the model itself, whatever dtype is stored.

    Raises CheckpointError when a file is missing, damaged, not of this format, lacks a tensor or has one too many, or
    holds values that are not finite.
    """
    files = files_of(path)
    wanted = list(files) if modalities is None else list(dict.fromkeys(modalities))
    if lacking := [m for m in wanted if m not in files]:
        raise CheckpointError(f"{path}: has no encoder for {lacking[0]}; it has {', '.join(files)}")
    stored = shared_metadata([files[m] for m in wanted] or files.values())
    model = _without_memory(_sizes(path, stored), wanted).to(dtype)
    taken = model.state_dict()  # a cast model says in which dtype it takes each tensor: a logit scale is never rounded
    tensors: dict[str, Tensor] = {}
    for source in dict.fromkeys(files[m] for m in wanted):
        held = {m for m in files if files[m] == source}
        expected = {name: tensor.shape for name, tensor in taken.items() if _owner(name) in held}
        with _opened(source) as file:
            unread = {name for name in file.entries if _owner(name) in held.difference(wanted)}
            found = {name: entry.shape for name, entry in file.entries.items() if name not in unread}
            _check_tensors(str(source), found, expected)
            for name in expected:
                tensors[name] = file.read(name, taken[name].dtype, device)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


@contextmanager
def _opened(path: Path) -> Iterator[TensorFile]:
    """An open file, every fault of which is a CheckpointError that names it."""
    try:
        with faults_of(path), TensorFile(path) as file:
            yield file
    except NotFiniteError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; fetch or train the weights again") from None


def _sizes(path: Path, stored: Mapping[str, str]) -> Sizes:
    try:
        return Sizes.from_dict(json.loads(stored["sizes"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its sizes cannot be read ({error}); fetch or train the weights again"
        ) from error


def _check_tensors(source: str, found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointError naming the first tensor that is unknown, missing or misshapen."""
    if unknown := sorted(set(found).difference(wanted)):
        raise CheckpointError(f"{source}: {unknown[0]} is not part of this model ({len(unknown)} such tensors)")
    for name, shape in wanted.items():
        if name not in found:
            raise CheckpointError(f"{source}: {name} is missing")
        if tuple(found[name]) != tuple(shape):
            raise CheckpointError(f"{source}: {name} has shape {list(found[name])}, the model needs {list(shape)}")


def _without_memory(sizes: Sizes, modalities: Iterable[Modality]) -> ImageBind:
    with torch.device("meta"):
        return ImageBind(sizes, modalities)


def _owner(name: str) -> str:
    """The modality that one of our tensors belongs to; "" for a stranger's name."""
    match = re.match(r"encoders\.([a-z]+)\.", name)
    return match[1] if match else ""


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
