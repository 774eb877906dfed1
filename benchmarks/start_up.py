"""Time until verbs that need no model answer: `python -m benchmarks.start_up`.

The goal is 0.5 s. Beside each stands the processor time, which other programs on the machine change less; the floor is
an interpreter that imports the command line's own library and does nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

GOAL_S = 0.5
LOG = Path(__file__).parents[1] / "tests/data/golden/log.mcap"
FLOOR = [sys.executable, "-c", "import typer.main"]
CONFIG = "sensors: {heat: {type: synthetic_thermal}}\n"


def verbs(folder: Path) -> list[list[str]]:
    """Command lines to time; none reaches an agent, a network or a model."""
    config, none = folder / "robot.yaml", str(folder / "none")
    config.write_text(CONFIG)
    nobody = ["--address", "127.0.0.1:9"]
    return [
        ["--version"],
        ["--help"],
        ["run", "--help"],
        ["train", "--help"],
        ["log", "export", "--help"],
        ["doctor"],
        ["config", "check", str(config)],
        ["weights", "list"],
        ["log", "info", str(LOG)],
        ["status", *nobody],
        ["query", "list", *nobody],
        ["run", "--config", none],
        ["replay", none],
        ["backtest", none, "--query", "a dog"],
        ["log", "export", none, f"{none}.out", "--to", "shards"],
        ["log", "import", none, f"{none}.mcap"],
        ["embed", "--text", "a dog"],
        ["train", "--shards", none],
        ["evaluate", "--shards", none],
        ["weights", "fetch", none],
    ]


def times_of(words: list[str], runs: int) -> tuple[float, float]:
    """Medians of the wall time and of the processor time, in seconds."""
    wall, processor = [], []
    for _ in range(runs):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=dict(os.environ))
        wall.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(wall), median(processor)


def main() -> None:
    """Print a line for each verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median is printed")
    runs = parser.parse_args().runs
    print(f"{'wall s':>7} {'cpu s':>6}")
    wall, processor = times_of(FLOOR, runs)
    print(f"{wall:7.2f} {processor:6.2f}  floor: {' '.join(FLOOR[1:])}")
    with tempfile.TemporaryDirectory() as folder:
        late = 0
        for words in verbs(Path(folder)):
            wall, processor = times_of([sys.executable, "-m", "agent.cli", *words], runs)
            late += wall > GOAL_S
            print(f"{wall:7.2f} {processor:6.2f}  {' '.join(Path(word).name for word in words)}", flush=True)
    print(f"{late} above {GOAL_S} s")


if __name__ == "__main__":
    main()
