"""Small models as their authors would publish them, and how much memory a process takes for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from models.files import checkpoint
from models.imagebind import ImageBind, Sizes
from models.transformer import TowerSizes

TINY = Sizes(16, *[TowerSizes(8, 1, 2)] * 6)
TINY_ARGUMENTS = {
    "out_embed_dim": 16,
    "audio_drop_path": 0.0,
    "imu_drop_path": 0.0,
    **{
        f"{modality}_{name}": value
        for modality in ("vision", "audio", "depth", "thermal", "imu", "text")
        for name, value in {"embed_dim": 8, "num_blocks": 1, "num_heads": 2}.items()
    },
}
"""TINY in the published constructor's words."""
MEDIUM = Sizes(64, TowerSizes(768, 8, 8), *[TowerSizes(256, 2, 4)] * 5)
"""316 MB in float32, of which vision has 231."""


def model(sizes: Sizes = TINY) -> ImageBind:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageBind(sizes).eval()


def published_state(sizes: Sizes = TINY) -> dict[str, Tensor]:
    tensors = {checkpoint.published_name(name): t.detach() for name, t in model(sizes).state_dict().items()}
    return tensors | checkpoint.published_constants()


def peak_rss_bytes(statement: str, *arguments: object) -> int:
    """How much more memory a fresh process holds at most while it runs a statement than after its imports."""
    script = f"""
import sys
from pathlib import Path
import torch
from published_model import MEDIUM
from models.files import checkpoint
from models.files import published_weights
from models.files.store import Store
def memory(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
checkpoint.tensor_shapes(MEDIUM)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = memory("VmRSS")
{statement}
print(memory("VmHWM") - before)
"""
    path = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout)
