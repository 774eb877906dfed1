"""The operations that the benchmark divides by, against PyTorch's own count and the known figures of Huge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.model.cost import flops, weight_bytes
from models.encoders import PatchEncoder
from models.imagebind import HUGE, ImageBind, Sizes
from models.modalities import MODALITIES, Modality
from models.transformer import TowerSizes

SMALL = Sizes(
    embedding_dim=24,
    vision=TowerSizes(32, 3, 2),
    audio=TowerSizes(48, 2, 3),
    depth=TowerSizes(16, 2, 2),
    thermal=TowerSizes(32, 1, 2),
    imu=TowerSizes(16, 3, 2),
    text=TowerSizes(32, 2, 2),
)
INPUTS: dict[Modality, Tensor] = {
    "vision": torch.zeros(1, 3, 2, 224, 224),
    "audio": torch.zeros(1, 1, 128, 204),
    "depth": torch.zeros(1, 1, 224, 224),
    "thermal": torch.zeros(1, 1, 224, 224),
    "imu": torch.zeros(1, 6, 2000),
    "text": F.pad(torch.arange(9)[None], (0, 77 - 9)),  # the largest id is taken for end-of-text
}


def counted(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        step()
    return counter.get_total_flops()


@pytest.mark.parametrize("modality", MODALITIES)
def test_operations_are_those_that_the_model_does(modality: Modality) -> None:
    model = ImageBind(SMALL, [modality]).eval()
    inputs = {modality: INPUTS[modality]}
    assert counted(lambda: model(inputs)) == flops(SMALL, modality, text_tokens=9)
    if modality == "vision":
        assert counted(lambda: model.embed(inputs, patches=True)) == flops(SMALL, modality, patches=True)


@pytest.mark.parametrize("modality", [m for m in MODALITIES if m != "text"])
def test_operations_of_all_tokens(modality: Modality) -> None:
    encoder = ImageBind(SMALL, [modality]).eval().encoders[modality]
    assert isinstance(encoder, PatchEncoder)
    found = counted(lambda: encoder.head(encoder.tokens(INPUTS[modality])[:, 0]))
    assert found == flops(SMALL, modality, whole=True)


@pytest.mark.parametrize(
    ("modality", "gflop", "megabytes"),
    [
        ("vision", 335.0, 1266),
        ("audio", 40.9, 172),
        ("depth", 9.1, 44),
        ("thermal", 35.0, 172),
        ("imu", 10.3, 39),
        ("text", 47.1, 607),
    ],
)
def test_figures_of_huge(modality: Modality, gflop: float, megabytes: int) -> None:
    assert flops(HUGE, modality, whole=True) / 1e9 == pytest.approx(gflop, abs=0.05)
    assert weight_bytes(HUGE, modality, torch.bfloat16) / 1e6 == pytest.approx(megabytes, abs=0.5)
