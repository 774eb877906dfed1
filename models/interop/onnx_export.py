"""ONNX files of the encoders, one per modality, for runtimes other than PyTorch: ONNX Runtime, TensorRT.

    >>> from models.imagebind import imagebind_nano
    >>> [tower] = export(imagebind_nano(["imu"]), Path("towers"))
    >>> tower.path.as_posix(), round(tower.cosine, 4)
    ('towers/imu.onnx', 1.0)

A file has one input, named after its modality, with a dynamic batch and the item shape of `models.preprocess`, and
gives unit vectors: `embedding` [batch, D] float32, and from vision on request `patches` [batch, G, G, D]. Clips are the
caller's: embed each one, average the vectors, normalise.

Opset 18 is the lowest that PyTorch's exporter writes and one that every TensorRT 10 reads. It has LayerNormalization as
one operator, which TensorRT keeps in float32 by itself. All operators are plain ones: attention is MatMul, Softmax,
MatMul with the scale on the queries, which is the form that TensorRT's attention fusion asks for.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserFault
from models import preprocess
from models.encoders import (
    AUDIO_MEL_BINS,
    TEXT_TOKENS,
    TEXT_VOCABULARY,
    PatchEncoder,
    TextEncoder,
)
from models.imagebind import ITEM_SHAPES, ImageBind
from models.modalities import Modality

OPSETS: Final[Mapping[int, int]] = {18: 8, 19: 9, 20: 9}
"""Opset -> the ONNX IR version that came with it, which any reader of the opset knows."""
DEFAULT_OPSET: Final = 18
COSINE_MIN: Final = 0.9999
INLINE_BYTES_MAX: Final = 1_000_000_000
"""More weights than this go into a file beside the graph: a protobuf message ends at 2 GiB, and writing one takes four
times its size."""

INPUT_NOTES: Final[Mapping[Modality, str]] = {
    "vision": f"2 frames (a still image twice), RGB in 0..1, minus {preprocess.RGB_MEAN}, divided by "
    f"{preprocess.RGB_STD}",
    "audio": f"Kaldi log-mel energies of 2 s at 16 kHz, {AUDIO_MEL_BINS} bins, 10 ms shift, minus "
    f"{preprocess.AUDIO_MEAN}, divided by {preprocess.AUDIO_STD}",
    "depth": f"disparity of at most {preprocess.DISPARITY_MAX_PX:g} px, divided by that, minus "
    f"{preprocess.DISPARITY_MEAN}, divided by {preprocess.DISPARITY_STD}",
    "thermal": "temperature in 0..1 between the lowest and the highest of interest",
    "imu": "5 s at 400 Hz: acceleration x y z in units of standard gravity, angular rate x y z in rad/s",
    "text": "CLIP byte-pair tokens, start and end included, then zeros",
}
"""Descriptions of the inputs, stored in every file. `models.preprocess` and `models.tokenizer` make such inputs."""

_KEPT_FLOAT32: Final = re.compile(r"norm|cls_token|pos_embed|logit_scale")
"""Weights that stay float32 in a half file: those of normalisations and of the residual sum."""
_MASKED: Final = -1e4
"""Added to the scores of later tokens: its exponential is 0, and float16 holds it, unlike -1e30."""


class ExportError(UserFault):
    """No ONNX files are written; one line: which tower or folder, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One tower on disk."""

    modality: Modality
    path: Path
    size_bytes: int
    """Size with the weights beside the graph, if there are any."""
    cosine: float | None
    """The lowest between a vector by ONNX Runtime and the same by the model; None if nobody looked."""


def export(
    model: ImageBind,
    folder: Path,
    *,
    modalities: Iterable[Modality] | None = None,
    opset: int = DEFAULT_OPSET,
    half: bool = False,
    patches: bool = False,
    check: bool = True,
    metadata: Mapping[str, str] | None = None,
    inline_bytes_max: int = INLINE_BYTES_MAX,
) -> list[Exported]:
    """Write `MODALITY.onnx` of every one of `modalities` (default: the model's) into a new folder, all or none.

    Weights are stored as float32, whatever the model's type and device. With `half` the products, their weights and the
    softmax between them are float16, while LayerNorms, the residual sum, inputs and outputs stay float32. `patches`
    gives vision its second output. `metadata` is stored in every file: name, hash and licence of the weights. `check`
    runs every file with ONNX Runtime on random inputs, batches of 1 and 3, and compares with the model in float32.

    Raises ExportError when the folder exists or cannot be written, a package is missing, the opset is none of OPSETS,
    the model lacks an encoder, or a cosine is below COSINE_MIN.
    """
    _require("onnx", "onnxscript", *(["onnxruntime"] if check else []))
    wanted = list(dict.fromkeys(modalities)) if modalities is not None else list(model.modalities)
    if not wanted:
        raise ExportError("no modalities to export were named")
    if lacking := [modality for modality in wanted if modality not in model.modalities]:
        raise ExportError(f"the model has no encoder for {lacking[0]!r}; it has {', '.join(model.modalities)}")
    if patches and "vision" not in wanted:
        raise ExportError("patches are an output of vision, which is not among the modalities to export")
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} is not supported; choose one of {', '.join(map(str, OPSETS))}")
    exported = []
    with _new_folder(folder) as partial:
        for modality in wanted:
            path = partial / f"{modality}.onnx"
            tower = _Tower(_one_tower(model, modality, half=half), modality, patches=patches and modality == "vision")
            facts = {**(metadata or {}), "logit_scale": f"{model.logit_scale(modality).item():.6g}"}
            _write(tower, path, opset, facts, inline_bytes_max)
            cosine = _lowest_cosine(_one_tower(model, modality, half=False), tower, path) if check else None
            size_bytes = sum(file.stat().st_size for file in partial.glob(f"{modality}.*"))
            exported.append(Exported(modality, folder / path.name, size_bytes, cosine))
    return exported


class _Tower(nn.Module):
    """One encoder with the normalisation that `ImageBind.embed` puts behind it, for a batch of single clips."""

    def __init__(self, model: ImageBind, modality: Modality, *, patches: bool) -> None:
        super().__init__()
        self.encoder = model.encoders[modality]
        self.modality = modality
        self.grid = model.sizes.vision_grid if patches else 0
        self.half_products = any(p.dtype == torch.float16 for p in self.encoder.parameters())
        self.outputs = ("embedding", "patches") if patches else ("embedding",)
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[B, *item shape] -> [B, D], with patches also [B, G, G, D]."""
        if isinstance(self.encoder, TextEncoder):
            return _unit(_text_vectors(self.encoder, x))
        assert isinstance(self.encoder, PatchEncoder)
        x = x.half() if self.half_products else x
        if not self.grid:
            return _unit(self.encoder(x))
        every = _unit(self.encoder.head(self.encoder.tokens(x)))  # [B, 1 + G * G, D]
        return every[:, 0], every[:, 1:].reshape(-1, self.grid, self.grid, every.shape[-1])

    def example(self, batch: int, seed: int = 0) -> Tensor:
        """Random input [B, *item shape] as `models.preprocess` scales it; texts are of different lengths."""
        generator = torch.Generator().manual_seed(seed)
        if self.modality != "text":
            return torch.randn(batch, *ITEM_SHAPES[self.modality], generator=generator)
        start, end = TEXT_VOCABULARY - 2, TEXT_VOCABULARY - 1
        tokens = torch.randint(1, start, (batch, TEXT_TOKENS), generator=generator)
        lengths = torch.randint(2, TEXT_TOKENS, (batch, 1), generator=generator)  # index of the end token
        column = torch.arange(TEXT_TOKENS)
        tokens[:, 0] = start
        return torch.where(column == lengths, end, torch.where(column > lengths, 0, tokens))


class _Float32Norm(nn.Module):
    """A LayerNorm computed in float32 inside a float16 tower; its result has `dtype`."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = norm
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.float()).to(self.dtype)
        return out


def _unit(x: Tensor) -> Tensor:
    """Normalise like `F.normalize`, which however expands the norm to the shape of x: more operators for the same."""
    x = x.float()
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)
    return unit


def _text_vectors(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """Compute the encoder's output, with the end-of-text token gathered: indexing by row would fix the batch."""
    x = F.embedding(tokens, encoder.token_embedding).float() + encoder.pos_embed  # [B, 77, width]
    x = encoder.trunk(x)
    end = tokens.argmax(dim=-1)[:, None, None]  # [B, 1, 1]
    out: Tensor = encoder.head(x.gather(1, end.expand(-1, 1, x.shape[-1]))[:, 0])  # [B, D]
    return out


def _one_tower(model: ImageBind, modality: Modality, *, half: bool) -> ImageBind:
    """The model with one encoder, in evaluation mode on the CPU; float32 tensors there are shared, not copied."""
    with torch.device("meta"):
        tower = ImageBind(model.sizes, [modality])
    source = model.state_dict()
    state = {}
    for name in tower.state_dict():
        dtype = torch.float16 if half and not _KEPT_FLOAT32.search(name) else torch.float32
        state[name] = source[name].detach().to("cpu", dtype)
        if not state[name].isfinite().all():
            raise ExportError(f"{modality}: {name} is not finite as {str(dtype).removeprefix('torch.')}")
    tower.load_state_dict(state, assign=True)
    if half:
        for name, norm in list(tower.named_modules()):
            if isinstance(norm, nn.LayerNorm):
                before_product = name.endswith(("norm_1", "norm_2", "head.norm"))
                tower.set_submodule(name, _Float32Norm(norm, torch.float16 if before_product else torch.float32))
    return tower.eval()


def _write(tower: _Tower, path: Path, opset: int, metadata: Mapping[str, str], inline_bytes_max: int) -> None:
    import onnx
    import onnxscript
    from onnxscript import ir, optimizer

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # PyTorch's exporter against PyTorch
        program = torch.onnx.export(
            tower,
            (tower.example(2),),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=opset,
            input_names=[tower.modality],
            output_names=tower.outputs,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            custom_translation_table={
                torch.ops.aten.scaled_dot_product_attention.default: _attention(getattr(onnxscript, f"opset{opset}"))
            },
        )
    assert program is not None
    model = program.model
    optimizer.optimize(model, input_size_limit=1 << 40, output_size_limit=1 << 40)  # folds slices of weights too
    for node in model.graph:
        node.metadata_props.clear()  # traces with the paths of this machine
    model.ir_version = OPSETS[opset]
    model.producer_name, model.producer_version = "sensebind", version("sensebind")
    model.metadata_props.update(_facts(tower, opset, metadata))
    weights = [value.const_value for value in model.graph.initializers.values()]
    inline = sum(weight.nbytes for weight in weights if weight is not None) <= inline_bytes_max
    ir.save(model, path, external_data=None if inline else f"{path.name}.data")
    onnx.checker.check_model(str(path), full_check=True)


def _facts(tower: _Tower, opset: int, metadata: Mapping[str, str]) -> dict[str, str]:
    sizes = ", ".join(map(str, ITEM_SHAPES[tower.modality]))
    return {
        **metadata,
        "modality": tower.modality,
        "input": f"[batch, {sizes}] {INPUT_NOTES[tower.modality]}",
        "outputs": "unit vectors in the shared space",
        "products": "float16" if tower.half_products else "float32",
        "opset": str(opset),
        "sensebind_version": version("sensebind"),
    }


def _attention(op: Any) -> Callable[..., Any]:
    """Return the exporter's form of attention: PyTorch's own computes the shape of every transposed key at run time."""
    from onnx.numpy_helper import from_array

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        assert (attn_mask, dropout_p, scale, enable_gqa) == (None, 0.0, None, False)
        dtype = query.dtype.numpy()
        _, _, length, width = query.shape
        query = op.Mul(query, op.Constant(value=from_array(np.array(width**-0.5, dtype))))
        scores = op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2]))
        if is_causal:
            later = np.triu(np.full((length, length), _MASKED, dtype), 1)
            scores = op.Add(scores, op.Constant(value=from_array(later)))
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    return attention


def _lowest_cosine(model: ImageBind, tower: _Tower, path: Path) -> float:
    """Return the lowest cosine of vectors by ONNX Runtime and by `model`; raises ExportError below COSINE_MIN or for
    another shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    lowest = 1.0
    for batch in (1, 3):
        x = tower.example(batch, seed=batch)
        with torch.inference_mode():
            expected = model.embed({tower.modality: x}, patches=bool(tower.grid))
        wanted = [expected.vectors[tower.modality], expected.patches]
        for name, got, want in zip(tower.outputs, session.run(None, {tower.modality: x.numpy()}), wanted, strict=False):
            assert want is not None
            if got.shape != want.shape:
                raise ExportError(
                    f"{tower.modality}: {name} has shape {got.shape}, the model gives {tuple(want.shape)}"
                )
            cosine = float(F.cosine_similarity(torch.from_numpy(got).double(), want.double(), dim=-1).min())
            if not cosine >= COSINE_MIN:  # NaN too
                raise ExportError(
                    f"{tower.modality}: {name} by ONNX Runtime has cosine {cosine:.6f} with the model's, "
                    f"below {COSINE_MIN}; export in float32 or with another opset"
                )
            lowest = min(lowest, cosine)
    return lowest


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its name at the end, or is removed if anything fails."""
    if folder.exists():
        raise ExportError(f"{folder}: exists already; remove it or name another folder")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ExportError(f"{folder}: cannot be made in {folder.parent} ({error.strerror or error})") from error
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's folders are their owner's; the robot may run as another user
        os.rename(partial, folder)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require(*packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ExportError(
                f"the export needs the package {package} ({error}); install it: pip install 'sensebind[onnx]'"
            ) from error
