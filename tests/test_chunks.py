"""A batch in chunks: the gradients of the whole, the memory of a part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.training import Held
from models.training.chunks import backward
from models.training.loss import info_nce

ROWS, INPUTS, D = 24, 12, 8


class Towers(nn.Module):
    """Two towers with random draws, and a temperature that is learned."""

    def __init__(self, width: int = 16, dropout: float = 0.4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(INPUTS, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, D))
        self.second = nn.Sequential(nn.Linear(INPUTS, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, D))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def encode(self, x: Tensor, y: Tensor) -> Callable[[slice], tuple[Tensor, ...]]:
        unit = nn.functional.normalize
        return lambda part: (unit(self.first(x[part]), dim=-1), unit(self.second(y[part]), dim=-1))

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        return info_nce(a @ b.T, self.log_scale.exp())


@pytest.fixture
def made() -> tuple[Towers, Tensor, Tensor]:
    torch.manual_seed(5)
    return Towers().double(), torch.randn(ROWS, INPUTS).double(), torch.randn(ROWS, INPUTS).double()


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("chunk", [1, 5, 8, 23])
def test_gradients_are_those_of_the_whole_batch(made: tuple[Towers, Tensor, Tensor], chunk: int) -> None:
    towers, x, y = made
    towers.eval()
    whole = towers.loss(*towers.encode(x, y)(slice(0, ROWS)))
    whole.backward()  # type: ignore[no-untyped-call]
    wanted = gradients(towers)
    towers.zero_grad()
    found = backward(towers.encode(x, y), ROWS, towers.loss, chunk)
    torch.testing.assert_close(found, whole.detach(), rtol=1e-9, atol=0)
    assert len(wanted) == 9
    for ours, theirs in zip(gradients(towers), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-12)


def test_the_second_pass_draws_what_the_first_drew(made: tuple[Towers, Tensor, Tensor]) -> None:
    towers, x, y = made
    encode, drawn = towers.encode(x, y), list[Tensor]()

    def kept(part: slice) -> tuple[Tensor, ...]:
        outputs = encode(part)
        drawn.append(outputs[0].detach())
        return outputs

    torch.manual_seed(1)
    backward(kept, ROWS, towers.loss, 8)
    after = torch.rand(3)
    assert len(drawn) == 6
    for first, second in zip(drawn[:3], drawn[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(drawn[0], drawn[1])
    torch.manual_seed(1)
    with torch.no_grad():
        for begin in (0, 8, 16):
            encode(slice(begin, begin + 8))
    assert torch.equal(torch.rand(3), after), "what is drawn next does not know of the second pass"


def test_a_batch_that_fits_is_encoded_once(made: tuple[Towers, Tensor, Tensor]) -> None:
    towers, x, y = made
    parts: list[slice] = []
    encode = towers.encode(x, y)
    backward(lambda part: (parts.append(part), encode(part))[1], ROWS, towers.loss, ROWS)
    assert parts == [slice(0, ROWS)]


def test_a_tower_that_is_frozen_gets_no_gradient(made: tuple[Towers, Tensor, Tensor]) -> None:
    towers, x, y = made
    towers.second.requires_grad_(False)
    backward(towers.encode(x, y), ROWS, towers.loss, 7)
    assert all(parameter.grad is None for parameter in towers.second.parameters())
    assert len(gradients(towers)) == 5


def most_held(rows: int, chunk: int) -> int:
    """Bytes that graphs keep at most for a step of towers that are wide against their vectors."""
    towers = Towers(width=4096)
    x, y = torch.randn(rows, INPUTS), torch.randn(rows, INPUTS)
    Held.most = Held.now = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        backward(towers.encode(x, y), rows, towers.loss, chunk)
    return Held.most


def test_memory_is_that_of_a_chunk_however_large_the_batch() -> None:
    small, large = most_held(64, 32), most_held(256, 32)
    assert large < 1.1 * small
    assert most_held(256, 256) > 5 * large
