"""What does a step cost whose batch is encoded in chunks, against one that is encoded at once?

    python -m benchmarks.training [--batch 64] [--chunk 16] [--rounds 8]

Takes steps of nano's audio tower against fixed image vectors, in turn with and without chunks, in this process. Prints
the ratio of the times of each round, and the bytes that graphs hold at most: of the batch, and of twice the batch.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from models.imagebind import NANO, ImageBind
from models.training.chunks import backward
from models.training.loss import info_nce


class Held:
    """A tensor that a graph holds, counted while it does."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Held.now += tensor.nbytes
        Held.most = max(Held.most, Held.now)

    def __del__(self) -> None:
        Held.now -= self.tensor.nbytes


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = ImageBind(NANO, ["vision", "audio"]).train()
    step(model, asked.batch, asked.batch)  # the first takes longer
    ratios = []
    for _ in range(asked.rounds):
        at_once_s, chunked_s = (timed_s(model, asked.batch, chunk) for chunk in (asked.batch, asked.chunk))
        ratios.append(chunked_s / at_once_s)
        print(f"at once {at_once_s:.2f} s, in chunks of {asked.chunk} {chunked_s:.2f} s: {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")
    for batch in (asked.batch, 2 * asked.batch):
        at_once, chunked = (held_mb(model, batch, chunk) for chunk in (batch, asked.chunk))
        print(f"held by graphs, batch {batch}: at once {at_once:.0f} MB, in chunks {chunked:.0f} MB")


def step(model: ImageBind, batch: int, chunk: int) -> None:
    """Compute the gradients of one batch."""
    images = F.normalize(torch.randn(batch, model.sizes.embedding_dim), dim=-1)
    sounds = torch.randn(batch, 1, 1, 128, 204)
    model.zero_grad(set_to_none=True)
    backward(
        lambda part: (model({"audio": sounds[part]})["audio"],),
        batch,
        lambda vectors: info_nce(images @ vectors.T, 20.0),
        chunk,
    )


def timed_s(model: ImageBind, batch: int, chunk: int) -> float:
    """Return the time of a step."""
    began = time.perf_counter()
    step(model, batch, chunk)
    return time.perf_counter() - began


def held_mb(model: ImageBind, batch: int, chunk: int) -> float:
    """Return the most that the graphs of a step hold."""
    Held.now = Held.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        step(model, batch, chunk)
    return Held.most / 1e6


if __name__ == "__main__":
    main()
