"""Several processes train as one with all their pairs would: loss and gradients, whole and in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from models.training.chunks import backward
from models.training.loss import info_nce
from models.training.processes import average_gradients, contrast

PAIRS, INPUTS, D = 24, 12, 8
MOST = 4
"""Processes; the first two of them are a group of their own, too."""


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(INPUTS, 16), nn.GELU(), nn.Linear(16, D))
        self.second = nn.Sequential(nn.Linear(INPUTS, 16), nn.GELU(), nn.Linear(16, D))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.normalize(self.first(x), dim=-1), nn.functional.normalize(self.second(y), dim=-1)


def made() -> tuple[Towers, Tensor, Tensor]:
    torch.manual_seed(3)
    return Towers(), torch.randn(PAIRS, INPUTS), torch.randn(PAIRS, INPUTS)


def step(rank: int, world: int, processes: dist.ProcessGroup | None, chunk: int) -> list[Tensor]:
    """The loss and all gradients of one step in which every process has its share of the pairs."""
    towers, x, y = made()
    own = slice(rank * PAIRS // world, (rank + 1) * PAIRS // world)
    mine_x, mine_y = x[own], y[own]
    loss = backward(
        lambda part: towers(mine_x[part], mine_y[part]),
        len(mine_x),
        lambda a, b: contrast(a, b, towers.log_scale.exp(), processes),
        chunk,
    )
    average_gradients(towers.parameters(), processes)
    if processes is not None:
        dist.all_reduce(loss, group=processes)
    return [loss / world, *(p.grad for p in towers.parameters() if p.grad is not None)]


def one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=MOST)
    pair, everyone = dist.new_group([0, 1]), dist.group.WORLD
    found = {}
    for world, processes in ((2, pair), (MOST, everyone)):
        if rank < world:
            for chunk in (PAIRS, 2):
                found[world, chunk] = step(rank, world, processes, chunk)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[int, int], list[Tensor]]]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(one_process, (str(folder),), nprocs=MOST)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(MOST)]


@pytest.mark.parametrize("chunk", [PAIRS, 2])
@pytest.mark.parametrize("world", [2, MOST])
def test_loss_and_gradients_are_those_of_one_process_with_all_pairs(
    found: list[dict[tuple[int, int], list[Tensor]]], world: int, chunk: int
) -> None:
    towers, x, y = made()
    images, others = towers(x, y)
    alone = info_nce(images @ others.T, towers.log_scale.exp())
    alone.backward()
    wanted = [alone.detach(), *(p.grad for p in towers.parameters() if p.grad is not None)]
    assert len(wanted) == 10
    for rank in range(world):
        for ours, theirs in zip(found[rank][world, chunk], wanted, strict=True):
            assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_one_process_needs_no_group() -> None:
    towers, x, y = made()
    images, others = towers(x, y)
    torch.testing.assert_close(contrast(images, others, 3.0), info_nce(images @ others.T, 3.0))
    average_gradients(towers.parameters(), None)
    assert all(p.grad is None for p in towers.parameters())
