"""Gradients of a loss over a whole batch whose vectors are made in chunks: memory of a chunk, negatives of the batch.

A contrastive loss needs the vectors of all pairs at once, but not what lies between inputs and vectors. So vectors are
made twice, chunk by chunk: first without a graph, for the loss and its gradient at the vectors, then with one, through
which that gradient goes on to the parameters (GradCache: Gao 2021, "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup"). Random draws of the first pass are repeated in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]
Encode = Callable[[slice], Outputs]
"""From rows of the batch to their vectors: tensors of one row each."""


def backward(encode: Encode, rows: int, loss: Callable[..., Tensor], chunk: int) -> Tensor:
    """Add the gradients of `loss(*encode(whole batch))` to the parameters; return the loss, detached.

    `encode` must give each row what it gives it in any company. At most `chunk` of the `rows` are encoded with a graph
    at a time; a batch that fits is encoded once.
    """
    if chunk >= rows:
        value = loss(*encode(slice(0, rows)))
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()
    slices = [slice(begin, min(begin + chunk, rows)) for begin in range(0, rows, chunk)]
    states: list[_RandomState] = []
    made: list[Outputs] = []
    with torch.no_grad():
        for part in slices:
            states.append(_RandomState())
            made.append(encode(part))
    vectors = tuple(torch.cat(of_chunks).requires_grad_() for of_chunks in zip(*made, strict=True))
    value = loss(*vectors)
    value.backward()  # type: ignore[no-untyped-call]
    for part, state in zip(slices, states, strict=True):
        with state.again():
            outputs = encode(part)
        learning = [
            (output, of_all.grad[part])
            for output, of_all in zip(outputs, vectors, strict=True)
            if output.requires_grad and of_all.grad is not None
        ]
        if learning:
            torch.autograd.backward([output for output, _ in learning], [gradient for _, gradient in learning])
    return value.detach()


class _RandomState:
    """State of torch's random numbers at a moment, on the CPU and on all GPUs in use."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers within a block, and after it as if it had not been."""
        with torch.random.fork_rng(devices=range(len(self._gpus))):
            torch.set_rng_state(self._cpu)
            if self._gpus:
                torch.cuda.set_rng_state_all(self._gpus)
            yield
