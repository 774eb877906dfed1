"""What this machine can do, and how long something takes on it: clocks, matrix products, memory."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from models.packing import PackedLinear, can_pack

_SQUARE = {"cpu": 2048, "cuda": 8192}
_READ_BYTES = {"cpu": 1 << 29, "cuda": 1 << 31}
_COLD_SETS = 3
"""Weights of so many blocks take turns, so that caches hold none of them when its turn comes, as in a real tower."""

Step = Callable[[], object]


def describe(device: torch.device) -> str:
    """One line: what does the arithmetic."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    amx = "with AMX" if torch.cpu._is_amx_tile_supported() else "no AMX"
    capability = torch.backends.cpu.get_cpu_capability()
    bf16 = "with AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else "no AVX512-BF16"
    return f"CPU, {torch.get_num_threads()} threads, {capability} {bf16}, {amx}, torch {torch.__version__}"


def measure_ms(steps: Mapping[str, Step], repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of every repetition of every step, after one that is not counted.

    The steps take turns: what else the machine does meanwhile slows all of them. On a GPU the time is the GPU's, from
    an empty queue to the last kernel's end.
    """
    clock = _cuda_ms if device.type == "cuda" else _cpu_ms
    spent: dict[str, list[float]] = {name: [] for name in steps}
    with torch.inference_mode():
        for repetition in range(1 + repetitions):
            for name, step in steps.items():
                ms = clock(step)
                if repetition:
                    spent[name].append(ms)
    return spent


def _cpu_ms(step: Step) -> float:
    began = time.perf_counter()
    step()
    return (time.perf_counter() - began) * 1e3


def _cuda_ms(step: Step) -> float:
    torch.cuda.synchronize()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    step()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))


def square_products(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Step], int]:
    """Large square matrix products, and the operations of one."""
    n = _SQUARE[device.type]
    return _products([(n, n)], n, device, dtype, sets=1), 2 * n**3


def tower_products(width: int, tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Step], int]:
    """The four matrix products of one block of a tower on `tokens` tokens, and their operations."""
    layers = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    return _products(layers, tokens, device, dtype, sets=_COLD_SETS), 24 * tokens * width**2


def _products(
    layers: Sequence[tuple[int, int]], rows: int, device: torch.device, dtype: torch.dtype, *, sets: int
) -> dict[str, Step]:
    """Ways of multiplying [rows, in] with [in, out] for every (in, out); the machine's rate is that of the fastest."""

    def block() -> list[nn.Linear]:
        return [nn.Linear(*size, device=device, dtype=dtype).requires_grad_(False) for size in layers]

    plain = [block() for _ in range(sets)]
    ways: dict[str, Sequence[Sequence[nn.Module]]] = {"plain": plain}
    if device.type == "cpu" and can_pack(dtype):
        ways["packed"] = [[PackedLinear(linear) for linear in linears] for linears in plain]
    inputs = {size: torch.rand(rows, size[0], device=device).to(dtype) for size in layers}

    def step(blocks: Sequence[Sequence[nn.Module]]) -> Step:
        turns = itertools.cycle(blocks)
        return lambda: [layer(inputs[size]) for layer, size in zip(next(turns), layers, strict=True)]

    return {name: step(blocks) for name, blocks in ways.items()}


def memory_read(device: torch.device) -> tuple[Step, int]:
    """Reading memory that no cache holds, and how many bytes."""
    bytes_ = _READ_BYTES[device.type]
    data = torch.ones(bytes_ // 4, dtype=torch.float32, device=device)
    return data.sum, bytes_


def peak_rss_gb() -> float:
    """Most memory that the process has held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def peak_cuda_gb(device: torch.device) -> float:
    """Most memory that tensors on the GPU have held so far, in GB."""
    return torch.cuda.max_memory_allocated(device) / 1e9
