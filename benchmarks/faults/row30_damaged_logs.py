"""Logs that are damaged, or made to cost more than they are: bombs, wrong lengths, odd facts, 80 kB each.

    python -m benchmarks.faults.row30_damaged_logs

Every file goes through `log info`, `log repair` and `replay`, each a process of its own with a limit on
processor time. Imports are counted: what a command costs a whole log is told. Then logs with something wrong inside,
whose lengths and checksums are right, are read, repaired, cut and replayed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.hostile_logs import HOSTILE, channel, log, message
from benchmarks.faults.measured import Measured
from benchmarks.faults.mutation_check import check

COMMANDS = ("info", "repair", "replay")
LIMIT_S = 2.0
LIMIT_MB = 300
CPU_S = 60
MUTATIONS = 500
"""Of `run`; on its own, the row makes ALL_MUTATIONS."""
ALL_MUTATIONS = 2000
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took for one file."""

    file: str
    command: str
    wall_s: float
    cpu_s: float
    mb: float
    status: int
    last: str
    """Its last line."""
    traceback: bool


def cost(file: str, path: Path, command: str) -> Cost:
    """Run a command in a process of its own."""
    words = {
        "info": ["log", "info", str(path)],
        "repair": ["log", "repair", str(path), f"{path}.repaired"],
        "replay": ["replay", str(path)],
    }[command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", *words], stdout=said, stderr=said, env=environment, preexec_fn=_limit
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - began
        said.seek(0)
        output = said.read().decode(errors="replace")
    return Cost(
        file,
        command,
        wall_s,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        process.returncode,
        (output.strip().splitlines() or [""])[-1],
        "Traceback" in output,
    )


def costs(files: Mapping[str, Callable[[], bytes]], commands: Sequence[str]) -> Iterator[Cost]:
    """Of every file and command, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, make) in enumerate(files.items()):
            path = Path(folder, f"{number}.mcap")
            path.write_bytes(make())
            yield from (cost(name, path, command) for command in commands)
            path.unlink()


def run(commands: tuple[str, ...] = COMMANDS) -> Measured:
    """All of it."""
    plain = {"a whole log": lambda: log(channel() + message())}
    baseline = list(costs(plain, commands))
    found = list(costs(HOSTILE, commands))
    worst, largest = max(found, key=lambda c: c.cpu_s), max(found, key=lambda c: c.mb)
    tracebacks = [c for c in found if c.traceback or c.status < 0]
    mutations = check(MUTATIONS)
    at_first = ", ".join(f"{c.command} {c.cpu_s:.2f} s {c.mb:.0f} MB" for c in baseline)
    return Measured(
        f"every file of 80 kB within {LIMIT_S:g} s and {LIMIT_MB} MB, 0 tracebacks",
        f"{len(found)} commands: most {worst.cpu_s:.2f} s of CPU ({worst.command}, {worst.file}), {largest.mb:.0f} MB "
        f"({largest.command}, {largest.file}), {len(tracebacks)} tracebacks; a whole log: {at_first}; "
        f"{MUTATIONS} altered logs: {mutations.faults.total()} uncaught",
        worst.cpu_s <= LIMIT_S and largest.mb <= LIMIT_MB and not tracebacks and not mutations.faults,
    )


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def main() -> None:
    """Print what every file costs."""
    for c in costs({"a whole log": lambda: log(channel() + message()), **HOSTILE}, COMMANDS):
        flag = "TRACEBACK" if c.traceback else ""
        took = f"{c.cpu_s:6.2f} s {c.wall_s:6.2f} s {c.mb:6.0f} MB {c.status:4} {c.command:7}"
        print(f"{took} {c.file}: {c.last[:110]} {flag}", flush=True)
    print(f"{ALL_MUTATIONS} altered logs: {check(ALL_MUTATIONS)}")


if __name__ == "__main__":
    main()
