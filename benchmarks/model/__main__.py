"""What a window costs on the model, tower by tower, beside what this machine could do at best.

    python -m benchmarks.model [--model huge|nano] [--device cpu|cuda] [--dtype bfloat16] [--repetitions 5]

Weights are random. The floor of a row is the longer of two times: its matrix products at the best rate that products
of its shapes, or large square ones, reach in this run; and reading its weights once at the bandwidth measured in this
run. Last comes the baseline: the same weights as the published code computes them, one modality after the other.
Everything takes turns; ratios compare minima, which other programs disturb least. Huge takes 2 to 4 minutes on two
cores and 6 GB; where other programs use the cores, OMP_NUM_THREADS=1 gives steadier numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.model import machine
from benchmarks.model.cost import shape, weight_bytes
from benchmarks.model.published import gains, text_cosine
from benchmarks.model.rows import CLIPS, WINDOW, WINDOW_OF_CLIPS, Row, random_model, tower_rows, window, window_rows
from models.imagebind import HUGE, NANO, Sizes
from models.inference import Runner
from models.modalities import MODALITIES, Modality

SIZES = {"huge": HUGE, "nano": NANO}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCHES = {"cpu": (4,), "cuda": (8, 32)}
REPETITIONS = {"cpu": 5, "cuda": 20}

GOAL_COSINE = 0.999
GOAL_CPU_MS = 500.0
GOAL_CPU_SHARE = 0.5
GOAL_CUDA_MS = 2.5
GOAL_CUDA_SHARE = 0.6

Spent = dict[str, list[float]]
"""Milliseconds of every repetition, by name."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine reached in this run."""

    square: float
    """Operations a second in large square matrix products."""
    own: dict[Modality, float]
    """Operations a second in matrix products of each tower's own shapes."""
    read: float
    """Bytes a second."""

    def products(self, modality: Modality) -> float:
        """The best rate that is known to be possible for a tower."""
        return max(self.square, self.own[modality])

    def floor_ms(self, row: Row) -> tuple[float, str]:
        """Least time for a row, and what sets it."""
        compute_s = sum(part.flops / self.products(part.modality) for part in row.parts)
        return max((compute_s * 1e3, "compute"), (row.weight_bytes / self.read * 1e3, "memory"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="huge")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--plain-weights", action="store_true", help="do not pack the weights on a CPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile; weights stay plain")
    arguments = parser.parse_args()
    device, dtype, sizes = torch.device(arguments.device), DTYPES[arguments.dtype], SIZES[arguments.model]
    repetitions = arguments.repetitions or REPETITIONS[device.type]
    pack = not (arguments.plain_weights or arguments.compile)

    model = random_model(sizes, MODALITIES, device, dtype)
    runner = Runner(model, device=device, dtype=dtype, pack=pack, compile=arguments.compile)
    print(f"{arguments.model}, {arguments.dtype}, on {machine.describe(device)}; {repetitions} repetitions")
    runner.embed(window(device, clips=CLIPS), patches=True)
    print_memory(sizes, dtype, device)

    rows = [*tower_rows(runner, sizes), *window_rows(runner, sizes, (1, *BATCHES[device.type]))]
    if device.type == "cuda":
        graphed = Runner(model, device=device, dtype=dtype, cuda_graphs=True, graphs_max=64)
        rows += window_rows(graphed, sizes, (1, *BATCHES["cuda"]), ", graphs")
    spent, rates = measure(rows, sizes, device, dtype, repetitions)
    print_rates(rates)
    print_rows(rows, spent, rates)
    print_gains(runner, sizes, max(2, repetitions // 2))
    if sizes is HUGE and dtype is torch.bfloat16:
        print_goals(rows, spent, rates, device)


def measure(
    rows: Sequence[Row], sizes: Sizes, device: torch.device, dtype: torch.dtype, repetitions: int
) -> tuple[Spent, Rates]:
    """Times of the rows, and the machine's rates, measured in turns with them."""
    steps = {row.name: row.step for row in rows}
    read, read_bytes = machine.memory_read(device)
    square, square_flops = machine.square_products(device, dtype)
    steps |= {"read": read} | {f"square {way}": step for way, step in square.items()}
    own_flops = {}
    for m in MODALITIES:
        own, own_flops[m] = machine.tower_products(getattr(sizes, m).width, shape(sizes, m).tokens, device, dtype)
        steps |= {f"own {m} {way}": step for way, step in own.items()}
    spent = machine.measure_ms(steps, repetitions, device)

    def rate(name: str, count: int) -> float:
        return count / min(min(spent[f"{name} {way}"]) for way in square) * 1e3

    own_rates = {m: rate(f"own {m}", own_flops[m]) for m in MODALITIES}
    return spent, Rates(rate("square", square_flops), own_rates, read_bytes / min(spent["read"]) * 1e3)


def print_memory(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> None:
    """Most memory that was held so far."""
    weights = sum(weight_bytes(sizes, m, dtype) for m in MODALITIES) / 1e9
    peak = f"{machine.peak_rss_gb():.2f} GB resident"
    if device.type == "cuda":
        peak += f", {machine.peak_cuda_gb(device):.2f} GB on the GPU"
    print(f"weights {weights:.2f} GB without the text table; peak with a window of {CLIPS} audio clips {peak}")


def print_rates(rates: Rates) -> None:
    """What the floors stand on."""
    own = ", ".join(f"{m} {rate / 1e12:.3f}" for m, rate in rates.own.items())
    print(f"matrix products, TFLOP/s: large squares {rates.square / 1e12:.3f}; towers' shapes: {own}")
    print(f"memory read at {rates.read / 1e9:.1f} GB/s\n")


def print_rows(rows: Sequence[Row], spent: Spent, rates: Rates) -> None:
    """One line per row; TFLOP/s and the ratio are those of the least time."""
    print(f"{'':35} {'GFLOP':>8} {'MB':>6} {'p50 ms':>9} {'min ms':>9} {'TFLOP/s':>8} {'floor ms':>9} {'x floor':>8}")
    for row in rows:
        least = min(spent[row.name])
        floor, by = rates.floor_ms(row)
        print(
            f"{row.name:35} {row.flops / 1e9:8.1f} {row.weight_bytes / 1e6:6.0f} {median(spent[row.name]):9.2f} "
            f"{least:9.2f} {row.flops / least / 1e9:8.3f} {floor:9.2f} {least / floor:8.2f}  {by}"
            + (f", {row.windows / least * 1e3:.1f} windows/s" if row.windows > 1 else "")
        )


def print_gains(runner: Runner, sizes: Sizes, repetitions: int) -> None:
    """The published way of computing beside ours, and how far the vectors are apart."""
    print(f"\n{'as published':12} {'float32 ms':>11} {'autocast ms':>11} {'ours ms':>9} {'gains':>13}  worst cosine")
    totals = [0.0, 0.0, 0.0]
    worst = {"text": text_cosine(runner, sizes)}
    for m, gain in gains(runner, sizes, repetitions):
        times = [gain.float32_ms, gain.autocast_ms, gain.ours_ms]
        totals = [total + ms for total, ms in zip(totals, times, strict=True)]
        worst[m] = gain.worst_cosine
        print(f"{_gain_line(m, *times)}  {gain.worst_cosine:12.5f}")
    print(_gain_line(WINDOW, *totals))
    print(f"text {worst['text']:69.5f}")
    low = [m for m, cosine in worst.items() if cosine < GOAL_COSINE]
    print(f"\ngoal: cosine with float32 >= {GOAL_COSINE} in every tower: {f'missed by {low}' if low else 'met'}")


def _gain_line(name: str, float32_ms: float, autocast_ms: float, ours_ms: float) -> str:
    ratios = f"{float32_ms / ours_ms:6.2f} {autocast_ms / ours_ms:6.2f}"
    return f"{name:12} {float32_ms:11.2f} {autocast_ms:11.2f} {ours_ms:9.2f} {ratios}"


def print_goals(rows: Sequence[Row], spent: Spent, rates: Rates, device: torch.device) -> None:
    """The goals of Huge in bfloat16 beside what was measured."""
    if device.type == "cpu":
        vision = next(row for row in rows if row.name == "vision")
        share = vision.flops / min(spent["vision"]) * 1e3 / rates.products("vision")
        ms = median(spent[WINDOW_OF_CLIPS])
        print(f"goal, 2 cores with AMX: {WINDOW_OF_CLIPS} <= {GOAL_CPU_MS:.0f} ms: {ms:.0f} ms")
        print(f"goal, vision >= {GOAL_CPU_SHARE:.0%} of the rate of matrix products: {share:.0%}")
        return
    ms = min(median(spent[name]) for name in (WINDOW_OF_CLIPS, f"{WINDOW_OF_CLIPS}, graphs"))
    print(f"goal, H200: {WINDOW_OF_CLIPS} <= {GOAL_CUDA_MS} ms: {ms:.2f} ms")
    per_s = {row.name: row.windows / min(spent[row.name]) * 1e3 for row in rows}
    batched = max((row for row in rows if row.name.startswith(WINDOW_OF_CLIPS)), key=lambda row: per_s[row.name])
    floor = batched.windows / rates.floor_ms(batched)[0] * 1e3
    share = per_s[batched.name] / floor
    print(f"goal, batched >= {GOAL_CUDA_SHARE:.0%} of the floor's {floor:.0f} windows/s: {share:.0%}, {batched.name}")


if __name__ == "__main__":
    main()
