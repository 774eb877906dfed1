"""What importing and loading ImageBind-Huge takes in memory and time. Prints a table with the bars beside it.

    python -m benchmarks.weights [--folder /tmp]

Writes a `.pth` with the published names and shapes and random values (4.8 GB) into a temporary folder, imports it into
a store there (another 4.8 GB), loads from that, and removes both. Every step is a process of its own, so that the peak
is its own; "of it torch" is what the process has before it begins.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAME = "huge-random"
RSS_LIMIT_GB = {"import as float32": 1.3 * 2.531, "load all as bfloat16": 3.2}
"""1.3 x the largest tower (vision, float32), and what a loaded model may take."""


def main() -> None:
    """Print the table, or do one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="needs 10 GB")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(_step(arguments.step, arguments.folder)))
        return
    print(f"{'':28} {'seconds':>8} {'peak RSS':>9} {'of it torch':>12} {'bar':>8}   GB")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        _run("write the .pth", folder)
        for step in STEPS:
            found = _run(step, folder)
            bar = f"{RSS_LIMIT_GB[step]:8.2f}" if step in RSS_LIMIT_GB else ""
            print(f"{step:28} {found['seconds']:8.1f} {found['peak']:9.2f} {found['before']:12.2f} {bar}", flush=True)


def _run(step: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.weights", "--step", step, "--folder", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _step(step: str, folder: Path) -> dict[str, float]:
    import torch

    from models.files import checkpoint, description, published_weights
    from models.files.store import Store

    file, store = folder / "random.pth", Store(folder / "store")
    if step == "write the .pth":
        _write(file)
        return {}
    before, began = _memory_gb("VmRSS"), time.perf_counter()
    match step:
        case "import as float32":
            published_weights.import_file(store, file, NAME)
        case "verify":
            description.verify(store.find(NAME))
        case "load all as bfloat16":
            checkpoint.load(store.find(NAME), torch.bfloat16)
        case "load vision as bfloat16":
            checkpoint.load(store.find(NAME), torch.bfloat16, modalities=["vision"])
        case "load all as float32":
            checkpoint.load(store.find(NAME))
    return {"seconds": time.perf_counter() - began, "before": before, "peak": _memory_gb("VmHWM")}


STEPS = ("import as float32", "verify", "load all as bfloat16", "load vision as bfloat16", "load all as float32")


def _write(file: Path) -> None:
    import torch

    from models.files import checkpoint
    from models.imagebind import HUGE

    torch.manual_seed(0)
    state = dict(checkpoint.published_constants())
    for name, shape in checkpoint.tensor_shapes(HUGE).items():
        scale = 1 / math.sqrt(shape[-1]) if shape else 1.0
        state[checkpoint.published_name(name)] = torch.randn(shape) * scale
    torch.save(state, file)


def _memory_gb(key: str) -> float:
    """VmRSS, now, or VmHWM, the most so far."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{key}:")) * 1024 / 1e9


if __name__ == "__main__":
    main()
