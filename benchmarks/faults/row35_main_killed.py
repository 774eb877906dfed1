"""The agent is killed at any stage, its sensors' processes being what is left."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGSEGV

import yaml

from benchmarks.faults.commands import Command
from benchmarks.faults.measured import Measured

KILLS = 14
LATEST_S = 3.0
BAR_S = 1.0
SENSORS = {
    "camera": {"type": "synthetic_camera", "seed": 7, "width": 64, "height": 64},
    "microphone": {"type": "synthetic_microphone", "seed": 7},
    "thermal": {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64},
}


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waits for any more does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_once(folder: Path, address: str, rng: random.Random, number: int) -> tuple[int, float]:
    """Kill an agent some time after it has started its sensors: how many those are, and how long one of them lived."""
    words = ["run", "--config", "agent.yaml", "--listen", address]
    with Command(words, folder) as command:
        command.until(lambda: len(children(command.process.pid)) == len(SENSORS))
        # Most within what the sensors' processes import.
        time.sleep(rng.uniform(0.0, 0.3 if number % 4 else LATEST_S))
        started = children(command.process.pid)
        command.process.send_signal((SIGKILL, SIGSEGV, SIGABRT)[number % 3])
        command.process.wait()
        began_s = time.monotonic()
        while any(map(alive, started)) and time.monotonic() - began_s < 10 * BAR_S:
            time.sleep(0.005)
        return len(started), time.monotonic() - began_s


def run() -> Measured:
    """Kill agents, each of which listens where the one before did."""
    rng = random.Random(2)
    shared = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "agent.yaml").write_text(yaml.safe_dump({"model": {"device": "cpu"}, "sensors": SENSORS}))
        with Command(["run", "--config", "agent.yaml", "--listen", "127.0.0.1:0"], folder) as first:
            address = first.says("sensebind listens at ")
        lived = [kill_once(folder, address, rng, number) for number in range(KILLS)]
        with Command(["run", "--config", "agent.yaml", "--listen", address], folder) as last:
            again = last.says("sensebind listens at ") == address
    left = {name for name in set(os.listdir("/dev/shm")) - shared if name.startswith(("psm_", "sem.mp-"))}
    longest_s = max(seconds for _, seconds in lived)
    processes = sum(count for count, _ in lived)
    return Measured(
        f"every sensor's process is gone within {BAR_S:g} s, nothing is left in /dev/shm, the address is free",
        f"{KILLS} kills, {processes} sensors' processes: the longest lived {1e3 * longest_s:.0f} ms; "
        f"{len(left)} left in /dev/shm; the next one {'listens' if again else 'does not listen'} there",
        longest_s < BAR_S and not left and again,
    )


if __name__ == "__main__":
    print(run())
