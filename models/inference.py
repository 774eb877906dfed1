"""Inference: one path for the agent, evaluation and benchmarks, on a CPU or a GPU.

    >>> import torch
    >>> from models.imagebind import imagebind_nano
    >>> runner = Runner(imagebind_nano(["depth"]), dtype=torch.bfloat16)
    >>> runner.embed({"depth": torch.zeros(1, 1, 224, 224)}).vectors["depth"].shape
    torch.Size([1, 128])

A `Runner` takes what `ImageBind.embed` takes and gives the same unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from common.errors import UserFault
from models import packing
from models.encoders import PatchEncoder
from models.imagebind import Embeddings, ImageBind, InputError
from models.modalities import Modality

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
GRAPHS_MAX: Final = 16
_WARM_UP: Final = 3
"""Passes before a capture: libraries choose their kernels and make their workspaces, the compiler its code."""
_COMPILED_MAX: Final = 64
"""Versions of a block that the compiler keeps, one per tower, shape and reading of the last block."""


class RunnerError(UserFault, RuntimeError):
    """The model cannot run as it was asked to; one line."""


@dataclass(slots=True)
class Passes:
    """Passes of single towers since the start: every one is either plain or replayed."""

    plain: int = 0
    replayed: int = 0
    captured: int = 0
    """CUDA graphs that were made; making one takes about ten plain passes."""
    beyond: int = 0
    """Of the plain ones, those whose shape came when all graphs were taken."""


class Runner:
    """Embeds with a model that is moved to `device`, cast to `dtype` and from then on belongs to the runner.

    `pack` stores the weights as a CPU multiplies them, where that is known to work; elsewhere it changes nothing. The
    model has no plain weights then, and its vectors differ by rounding.
    `compile` compiles the blocks of every tower but text's with `torch.compile`: seconds for each shape, when it first
    comes.
    `cuda_graphs` (CUDA only) captures the pass of a tower when a shape first comes and replays it afterwards, which
    spares the launch of its kernels one by one; the first `graphs_max` combinations of modality, shape and `patches`
    have a graph, others run plainly, and so does text, whose length is cut to what it says. `passes` counts them.

    Not thread-safe; all calls must run on the same CUDA stream. Raises RunnerError for what the device, the dtype or
    a missing compiler does not allow.
    """

    def __init__(
        self,
        model: ImageBind,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        pack: bool = False,
        compile: bool = False,
        cuda_graphs: bool = False,
        graphs_max: int = GRAPHS_MAX,
    ) -> None:
        self.device = _checked(torch.device(device), dtype, pack, compile, cuda_graphs)
        self.dtype = dtype
        self.passes = Passes()
        self._model = model.to(self.device, dtype).eval()
        if pack and self.device.type == "cpu" and packing.can_pack(dtype):
            packing.pack(self._model)
        self._graphs = _Graphs(self.device, dtype, graphs_max) if cuda_graphs else None
        self._compiling: Callable[[], AbstractContextManager[None]] = nullcontext
        if compile:
            _check_compiler(self.device)
            _compile_blocks(self._model)
            self._compiling = _many_versions

    def embed(self, inputs: Mapping[Modality, Tensor], *, patches: bool = False) -> Embeddings:
        """Unit vectors, float32 on `device`, as `ImageBind.embed` gives them; inputs may lie on any device.

        On a GPU the call returns when everything is queued; what reads the vectors waits. Raises InputError.
        """
        if patches and "vision" not in inputs:
            raise InputError("patches need a vision input")
        # Text first: to cut it the host waits for the queue, which holds nothing but this copy then.
        order = sorted(inputs, key=lambda modality: modality != "text")
        with torch.inference_mode(), self._compiling():
            found = {m: self._pass(m, inputs[m], patches=patches and m == "vision") for m in order}
        vectors = {m: found[m].vectors[m] for m in inputs}
        return Embeddings(vectors, found["vision"].patches if patches else None)

    def _pass(self, modality: Modality, x: Tensor, *, patches: bool) -> Embeddings:
        def forward(x: Tensor) -> Embeddings:
            return self._model.embed({modality: x}, patches=patches)

        staged = self._staged(x)
        if self._graphs is not None and x.is_floating_point():
            graph = self._graphs.find((modality, x.shape, patches), forward)
            self.passes.captured = len(self._graphs)
            if graph is not None:
                self.passes.replayed += 1
                return graph.replay(staged)
            self.passes.beyond += 1
        found = forward(staged.to(self.device, non_blocking=self.device.type == "cuda"))
        self.passes.plain += 1
        return found

    def _staged(self, x: Tensor) -> Tensor:
        """Ready to be copied to the device: on its way to a GPU, cast and in pinned memory.

        From pinned memory the copy runs beside the host, and PyTorch keeps that memory until the copy is done. The cast
        comes first because it halves what is copied.
        """
        if self.device.type == "cpu" or x.device.type != "cpu":
            return x
        dtype = self.dtype if x.is_floating_point() else x.dtype
        if x.dtype == dtype and x.is_pinned():
            return x
        return torch.empty(x.shape, dtype=dtype, pin_memory=True).copy_(x)


class _Graph:
    """One captured pass; its input and outputs lie at fixed addresses."""

    def __init__(self, graph: torch.cuda.CUDAGraph, x: Tensor, found: Embeddings) -> None:
        self._graph = graph
        self._input = x
        self._found = found

    def replay(self, x: Tensor) -> Embeddings:
        """The pass on `x`; the outputs are copies, which the next replay does not overwrite."""
        self._input.copy_(x, non_blocking=True)
        self._graph.replay()
        vectors = {modality: vector.clone() for modality, vector in self._found.vectors.items()}
        return Embeddings(vectors, None if self._found.patches is None else self._found.patches.clone())


_Key = tuple[Modality, torch.Size, bool]


class _Graphs:
    """At most `bound` graphs on one device, the first that were asked for.

    They share one pool of memory, so that they cost what the largest needs. This holds because all of them replay on
    one stream and their outputs are copied before the next one starts.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, bound: int) -> None:
        self._device = device
        self._dtype = dtype
        self._bound = bound
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._held: dict[_Key, _Graph] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: _Key, forward: Callable[[Tensor], Embeddings]) -> _Graph | None:
        """The graph of `key`, captured from `forward` if there is none yet; None when all are taken.

        Raises what `forward` raises.
        """
        if key not in self._held and len(self._held) < self._bound:
            self._held[key] = self._capture(key[1], forward)
        return self._held.get(key)

    def _capture(self, shape: torch.Size, forward: Callable[[Tensor], Embeddings]) -> _Graph:
        x = torch.zeros(shape, dtype=self._dtype, device=self._device)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                forward(x)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: others may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            found = forward(x)
        current.wait_stream(self._stream)
        return _Graph(graph, x, found)


def _checked(device: torch.device, dtype: torch.dtype, pack: bool, compile: bool, cuda_graphs: bool) -> torch.device:
    """The device, if it is there and can do what is asked; raises RunnerError."""
    if device.type not in ("cpu", "cuda"):
        raise RunnerError(f"device is {device}; the model runs on cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunnerError(f"device is {device}, but there is no CUDA device; take cpu")
    if dtype not in DTYPES:
        known = ", ".join(map(_name, DTYPES))
        raise RunnerError(f"dtype is {_name(dtype)}; the model runs in {known}")
    if device.type == "cpu" and dtype == torch.float16:
        raise RunnerError("dtype float16 needs a GPU; on a CPU take bfloat16 or float32")
    if pack and compile:
        raise RunnerError("pack and compile exclude each other: the compiler cannot read packed weights; take one")
    if device.type == "cpu" and cuda_graphs:
        raise RunnerError("cuda_graphs need a CUDA device, and device is cpu; switch them off")
    return device


def _check_compiler(device: torch.device) -> None:
    """Compile one addition: what is missing is found now, not when the first window arrives. Raises RunnerError."""
    from torch._dynamo.exc import BackendCompilerFailed  # 1.4 s, only for those who compile

    # What an earlier run left on disk says nothing about the compiler.
    add = torch.compile(lambda x: x + 1, options={"fx_graph_cache": False})
    try:
        add(torch.zeros(8, device=device))
    except BackendCompilerFailed as error:
        reason = str(error.inner_exception).partition("\n")[0]
        raise RunnerError(f"compile: {reason}; install g++ and Python's headers, or switch compile off") from error


def _compile_blocks(model: ImageBind) -> None:
    """Mark every block to be compiled at its first pass: a tower's are alike, so the first one's code serves them all.

    A tower compiled whole takes as many times longer as it has blocks, and gains only where blocks meet.
    """
    for encoder in model.encoders.values():
        if isinstance(encoder, PatchEncoder):  # a text is as long as it is: every length would be compiled anew
            for block in encoder.trunk.blocks:
                block.compile(dynamic=False)


def _many_versions() -> AbstractContextManager[None]:
    """Room for a version of `Block.forward` per tower and shape; beyond it the compiler runs a block plainly."""
    import torch._dynamo

    patched: AbstractContextManager[None] = torch._dynamo.config.patch(recompile_limit=_COMPILED_MAX)
    return patched


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
