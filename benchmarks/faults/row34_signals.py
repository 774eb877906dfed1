"""A signal ends a command at any stage, once and three times within 0.3 s.

    python -m benchmarks.faults.row34_signals [--all]

Without --all every stage of every command gets one signal, and every signal comes; with it, each gets every one.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, Signals

import yaml

from agent.config.parse import parse
from agent.log.editing.survey import survey
from agent.run import build
from benchmarks.faults.commands import Command
from benchmarks.faults.measured import Measured

BAR_S = 5.0
AT_A_TIME = max(1, (os.cpu_count() or 1) // 2)
SIGNALS = (SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2)
THERMAL = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}
AGENT = ("--config", "agent.yaml", "--listen", "127.0.0.1:0")

Stage = Callable[[Command], object]


def listens(command: Command) -> None:
    """Its model is being loaded."""
    command.says("sensebind listens at")


def runs(command: Command) -> None:
    """It perceives."""
    command.says("sensebind runs")


def imports(command: Command) -> None:
    """It imports torch."""
    command.has_mapped("libtorch_cpu")


def starts(command: Command) -> None:
    """It imports NumPy."""
    command.has_mapped("_multiarray_umath")


def speaks(command: Command) -> None:
    """It has printed something."""
    command.says("")


@dataclass(frozen=True, slots=True)
class Case:
    """A command at a stage; `meant` when it runs until it is told to end."""

    words: tuple[str, ...]
    stage: Stage
    signals: tuple[Signals, ...]
    meant: bool

    def __str__(self) -> str:
        return f"{self.words[0]}, {self.stage.__name__}, {'+'.join(number.name for number in self.signals)}"

    def status(self) -> set[int]:
        """What it may end with."""
        number = self.signals[0]
        as_shells = 128 + number
        if not self.meant or number not in (SIGHUP, SIGINT, SIGTERM):
            return {as_shells}
        return {as_shells} if self.stage is Command.handles_signals else {0}


def cases(every: bool) -> Iterator[Case]:
    """All, or one a stage."""
    serving: Sequence[Stage] = (Command.handles_signals, imports, listens, runs)
    loop = ("replay", "old.mcap", "--loop", "--speed", "1")
    table: list[tuple[tuple[str, ...], Sequence[Stage], bool]] = [
        (("record", "--out", "{}.mcap", *AGENT), serving, True),
        (("run", *AGENT), serving, True),
        (("replay", "old.mcap", "--serve", *AGENT[2:]), serving, True),
        (loop, (Command.handles_signals, imports, speaks), False),
        (("demo", "--seconds", "60"), (Command.handles_signals, imports, speaks), False),
        (("backtest", "old.mcap", "--query", "a dog", "--out", "{}"), (Command.handles_signals, imports), False),
        (("simulate", "--out", "{}", "--windows", "1000"), (Command.handles_signals, starts), False),
        (("train", "--shards", "none", "--out", "{}"), (Command.handles_signals,), False),
        (("log", "info", "old.mcap"), (Command.handles_signals, starts), False),
        (("log", "cut", "old.mcap", "{}.mcap", "--to", "1"), (Command.handles_signals, starts), False),
        (("watch", "--address", "127.0.0.1:1"), (Command.handles_signals,), False),
    ]
    number = 0
    for words, stages, meant in table:
        for stage in stages:
            for first in SIGNALS if every else SIGNALS[number % len(SIGNALS) :][:1]:
                number += 1
                again = (SIGTERM, SIGTERM) if stage in (runs, speaks) and (every or number % 2) else ()
                name = f"{number}-{first.name}"
                yield Case(tuple(word.format(name) for word in words), stage, (first, *again), meant)


def outcome(case: Case, folder: Path) -> tuple[str, float]:
    """What was wrong, and how long the end took."""
    with Command(case.words, folder) as command:
        try:
            case.stage(command)
        except RuntimeError:
            return ("" if case.words[0] == "log" else f"{case}: was over before"), 0.0
        status, errors, took_s = command.end(*case.signals)
    if status not in case.status():
        return f"{case}: status {status}", took_s
    if errors:
        return f"{case}: said {errors.splitlines()[-1]!r}", took_s
    if took_s > BAR_S:
        return f"{case}: took {took_s:.1f} s", took_s
    log = folder / case.words[2] if case.words[0] == "record" else None
    if log and log.exists() and (damages := survey([log]).damages):
        return f"{case}: {damages[0]}", took_s
    return "", took_s


def prepare(folder: Path) -> None:
    """A configuration, and a log of two seconds."""
    (folder / "agent.yaml").write_text(yaml.safe_dump({"sensors": {"thermal": THERMAL}}))
    fast = {"thermal": {**THERMAL, "pace": "fast", "duration_s": 2}}
    pipeline = build.offline(parse({"sensors": fast}), log_to=folder / "old.mcap")
    pipeline.start()
    pipeline.wait()
    pipeline.stop()


def run(every: bool = False) -> Measured:
    """Go through the table."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(AT_A_TIME) as pool:
        folder = Path(name)
        prepare(folder)
        table = list(cases(every))
        found = list(pool.map(lambda case: outcome(case, folder), table))
        left = [path.name for path in folder.rglob("*.part")]
    faults = [fault for fault, _ in found if fault] + [f"{name} is left" for name in left]
    commands, slowest_s = len({case.words[0] for case in table}), max(took_s for _, took_s in found)
    said = f"{len(found)} ends, {len(SIGNALS)} signals, {commands} commands: slowest {slowest_s:.2f} s; "
    return Measured(
        f"ends within {BAR_S:g} s, without a word, with the status that shells expect, the log complete",
        said + ("none out of order" if not faults else "; ".join(faults)),
        not faults,
    )


if __name__ == "__main__":
    signal.signal(SIGHUP, signal.SIG_DFL)  # a command started by one that ignores it would ignore it as well
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    print(run(parser.parse_args().all))
