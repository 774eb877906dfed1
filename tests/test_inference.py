"""The runner against the plain model: same vectors, and errors for what a machine cannot do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.files import checkpoint, store
from models.imagebind import ImageBind, InputError, Sizes
from models.inference import Passes, Runner, RunnerError
from models.modalities import MODALITIES, Modality
from models.packing import can_pack
from models.tokenizer import tokenize
from models.transformer import TowerSizes

REFERENCE = Path(__file__).parent / "data" / "reference"
NANO = store.SHIPPED["imagebind-nano"]
SMALL = Sizes.from_published(json.loads((REFERENCE / "small_config.json").read_text()))
TOWER = TowerSizes(16, 2, 2)
TINY = Sizes(16, TOWER, TOWER, TOWER, TOWER, TOWER, TOWER)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def small() -> ImageBind:
    """Huge's layout with narrow, shallow towers and random weights."""
    torch.manual_seed(0)
    return ImageBind(SMALL)


def nano() -> ImageBind:
    return checkpoint.load(NANO)


def tiny() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(TINY)


def window(batch: int = 2, *, seed: int = 1) -> dict[Modality, Tensor]:
    """Inputs of every tower, audio as three clips."""
    torch.manual_seed(seed)
    return {
        "vision": torch.randn(batch, 3, 2, 224, 224),
        "audio": torch.randn(batch, 3, 1, 128, 204),
        "depth": torch.randn(batch, 1, 224, 224),
        "thermal": torch.rand(batch, 1, 224, 224),
        "imu": torch.randn(batch, 6, 2000),
        "text": tokenize(["a dog barking", "smoke", "the robot is falling"][:batch]),
    }


def test_float32_is_the_model_itself() -> None:
    with torch.inference_mode():
        plain = small().eval().embed(window(), patches=True)
    runner = Runner(small())
    found = runner.embed(window(), patches=True)
    assert list(found.vectors) == list(window())
    for modality, vector in found.vectors.items():
        torch.testing.assert_close(vector, plain.vectors[modality], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.patches, plain.patches, atol=1e-6, rtol=0)
    assert runner.embed({"vision": window()["vision"]}).patches is None
    assert runner.passes == Passes(plain=len(MODALITIES) + 1)


@pytest.mark.parametrize("build", [small, nano])
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "pack": True},
        pytest.param({"dtype": torch.bfloat16, "device": "cuda"}, marks=[pytest.mark.gpu, needs_gpu]),
        pytest.param({"dtype": torch.float16, "device": "cuda"}, marks=[pytest.mark.gpu, needs_gpu]),
    ],
)
def test_half_precision_points_the_same_way(build: Callable[[], ImageBind], options: dict[str, Any]) -> None:
    exact = Runner(build()).embed(window(), patches=True)
    rounded = Runner(build(), **options).embed(window(), patches=True)
    for modality, vector in rounded.vectors.items():
        assert vector.dtype == torch.float32
        assert (vector.cpu() * exact.vectors[modality]).sum(dim=-1).min() >= 0.999, modality
    assert exact.patches is not None
    assert rounded.patches is not None
    assert (rounded.patches.cpu() * exact.patches).sum(dim=-1).min() >= 0.999


@pytest.mark.hardware
@pytest.mark.skipif(not can_pack(torch.float32), reason="needs an x86 CPU with AVX2")
def test_packed_weights_give_the_same_vectors_and_replace_the_plain_ones() -> None:
    plain, packed = Runner(small()), Runner(model := small(), pack=True)
    for batch in (1, 3):
        for patches in (False, True):
            a, b = (runner.embed(window(batch), patches=patches) for runner in (plain, packed))
            for modality, vector in b.vectors.items():
                torch.testing.assert_close(vector, a.vectors[modality], atol=2e-6, rtol=0)
            torch.testing.assert_close(b.patches, a.patches, atol=2e-6, rtol=0)
    kept = [name for name, _ in model.named_parameters() if name.endswith(".weight") and ".blocks." in name]
    assert {name.partition(".blocks.")[2] for name in kept if "norm" not in name} == {
        "1.attn.qkv.weight",  # of the last block: two blocks everywhere ...
        "2.attn.qkv.weight",  # ... but in vision
    }


def test_inputs_are_checked_as_the_model_checks_them() -> None:
    runner = Runner(ImageBind(TINY, ["vision"]))
    with pytest.raises(InputError, match="no encoder for 'depth'; it has vision"):
        runner.embed({"depth": torch.zeros(1, 1, 224, 224)})
    with pytest.raises(InputError, match="vision: shape"):
        runner.embed({"vision": torch.zeros(1, 3, 100, 100)})
    with pytest.raises(InputError, match="patches need a vision input"):
        runner.embed({}, patches=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.float16}, "dtype float16 needs a GPU; on a CPU take bfloat16 or float32"),
        ({"dtype": torch.float64}, "dtype is float64; the model runs in float32, bfloat16, float16"),
        ({"pack": True, "compile": True}, "pack and compile exclude each other"),
        ({"cuda_graphs": True}, "cuda_graphs need a CUDA device, and device is cpu"),
        ({"device": "meta"}, "device is meta; the model runs on cpu or cuda"),
        pytest.param(
            {"device": "cuda"},
            "device is cuda, but there is no CUDA device; take cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_what_the_machine_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunnerError, match=message):
        Runner(tiny(), **options)


def test_a_missing_compiler_is_found_before_the_first_window(tmp_path: Path) -> None:
    # A process of its own: the compiler that was found once is remembered.
    program = (
        "from models.imagebind import imagebind_nano\n"
        "from models.inference import Runner, RunnerError\n"
        "try:\n"
        "    Runner(imagebind_nano(['imu']), compile=True)\n"
        "except RunnerError as error:\n"
        "    print(error)\n"
    )
    where = {**os.environ, "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, text=True, timeout=60)
    assert run.stdout.startswith("compile: No working C++ compiler found"), run.stderr
    assert run.stdout.endswith("install g++ and Python's headers, or switch compile off\n")
    assert run.stdout.count("\n") == 1


@pytest.mark.hardware
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.slow  # a C++ compiler runs some times
def test_compiled_blocks_give_the_same_vectors(tmp_path: Path) -> None:
    # A process of its own: the compiler starts threads and warns in ways that other tests need not meet.
    program = (
        "import torch, torch._inductor.config\n"
        # Its precompiled headers take longer than these few kernels.
        "torch._inductor.config.cpp_cache_precompile_headers = False\n"
        "from test_inference import tiny, window\n"
        "from models.inference import Runner\n"
        "plain, compiled = Runner(tiny()), Runner(tiny(), compile=True)\n"
        "x = {'imu': window()['imu']}\n"
        "torch.testing.assert_close(compiled.embed(x).vectors, plain.embed(x).vectors)\n"
        "print(torch._dynamo.utils.counters['frames']['ok'])\n"
    )
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == 3  # the check for a compiler, the inner blocks, the last block


@pytest.mark.gpu
@needs_gpu
def test_graphs_give_what_the_plain_pass_gives() -> None:
    plain = Runner(small(), device="cuda", dtype=torch.bfloat16)
    graphed = Runner(small(), device="cuda", dtype=torch.bfloat16, cuda_graphs=True)
    windows = [window(seed=seed) for seed in range(4)]
    wanted = [plain.embed(w, patches=True) for w in windows]
    # All are queued before any is read: a replay must not overwrite an earlier one's vectors or inputs.
    found = [graphed.embed(w, patches=True) for w in windows]
    for a, b in zip(wanted, found, strict=True):
        for modality in MODALITIES:
            torch.testing.assert_close(b.vectors[modality], a.vectors[modality], atol=1e-3, rtol=0)
        torch.testing.assert_close(b.patches, a.patches, atol=1e-3, rtol=0)
    sensors = len(MODALITIES) - 1
    assert graphed.passes == Passes(plain=4, replayed=4 * sensors, captured=sensors)


@pytest.mark.gpu
@needs_gpu
def test_shapes_beyond_the_bound_run_plainly() -> None:
    runner = Runner(tiny(), device="cuda", cuda_graphs=True, graphs_max=2)
    for batch in (1, 2, 3, 2, 3):
        x: dict[Modality, Tensor] = {"imu": window(batch)["imu"]}
        wanted = Runner(tiny()).embed(x).vectors["imu"]
        torch.testing.assert_close(runner.embed(x).vectors["imu"].cpu(), wanted, atol=1e-4, rtol=0)
    assert runner.passes == Passes(plain=2, replayed=3, captured=2, beyond=2)


@pytest.mark.gpu
@needs_gpu
def test_graphs_check_inputs_and_take_them_from_anywhere() -> None:
    runner = Runner(tiny(), device="cuda", dtype=torch.bfloat16, cuda_graphs=True)
    with pytest.raises(InputError, match=r"a tensor of torch\.uint8"):
        runner.embed({"vision": torch.zeros(1, 3, 224, 224, dtype=torch.uint8)})
    with pytest.raises(InputError, match="depth: shape"):
        runner.embed({"depth": torch.zeros(1, 2, 224, 224)})
    x = window()["depth"]
    here, pinned, there = (runner.embed({"depth": t}).vectors["depth"] for t in (x, x.pin_memory(), x.cuda()))
    assert torch.equal(here, pinned)
    assert torch.equal(here, there)
    assert runner.passes.captured == 1
