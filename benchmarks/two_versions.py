"""Two versions of the agent measured in turn, each run in a process of its own, for `benchmarks.latency --against`.

The measuring code is this tree's for both, and only the agent's process is each version's own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.agent_process import CAPTURES
from benchmarks.latency import ROOT, measure, quantile

BAR = 1.05
"""A quiet agent may take so many times what the other version takes, of what is marked."""

Figures = dict[str, float]


def compare(revision: str, rounds: int, seconds: float, *, busy: bool = False) -> None:
    """Measure both in turn and print each round, its ratios and their medians; exits with 1 beyond the bar."""
    pairs: list[tuple[Figures, Figures]] = []
    with _checked_out(revision) as other:
        for number in range(1, rounds + 1):
            trees = {"this": ROOT, revision: other}
            order = list(trees) if number % 2 else list(reversed(trees))  # the second of two runs finds warm caches
            found = {name: _figures(trees[name], seconds, busy=busy) for name in order}
            pairs.append((found["this"], found[revision]))
            for name in ("this", revision):
                print(f"round {number}  {name:10.10}  {_line(found[name])}", flush=True)
    medians = {name: statistics.median(mine[name] / its[name] for mine, its in pairs) for name in pairs[0][0]}
    print(f"\n{f'this / {revision:.10}':34} {'rounds':^{8 * rounds}} median")
    for name, median in medians.items():
        ratios = "".join(f"{mine[name] / its[name]:8.3f}" for mine, its in pairs)
        verdict = "" if name not in BARRED else f"  bar {BAR:g}: {'met' if median <= BAR else 'NOT MET'}"
        print(f"{name:34} {ratios} {median:7.3f}{verdict}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(any(medians[name] > BAR for name in BARRED))


CPU, SETTLED = "processor time a tick, ms", "settled window -> event, p50 ms"
BARRED = (CPU, SETTLED)


def _figures(tree: Path, seconds: float, *, busy: bool) -> Figures:
    """Of one run of the agent of a tree."""
    run = measure(tree, seconds, busy=busy)
    total = [on + beyond for on, beyond in zip(run.inference, run.overhead, strict=True)]
    return {
        "time on the model, p50 ms": statistics.median(run.inference),
        "end of window -> settled, p50 ms": statistics.median(run.settling),
        "beyond the model, p50 ms": statistics.median(run.overhead),
        "beyond the model, p99 ms": quantile(run.overhead, 0.99),
        SETTLED: statistics.median(total),
        CPU: run.own_cpu_ms,
        "capture processes, ms of a tick": run.cpu_ms[CAPTURES],
        "start -> first event, s": run.first_s,
    }


def _line(figures: Figures) -> str:
    return "  ".join(f"{name}: {value:.2f}" for name, value in figures.items())


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """A revision in a folder of its own, which goes again."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        made = subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), revision],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            sys.exit(f"{revision}: cannot be checked out: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
