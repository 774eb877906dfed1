"""Run the tests against each mutant: `make mutants`, or `python -m mutants [WORD ...]` for those whose name has a word.

The tree is copied to a temporary folder, where one line is changed at a time; yours is not touched. Two run at a time.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LIMIT_S = 600.0
"""A mutant that hangs its tests is noticed."""
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "runs", "shards", "*.egg-info")

Outcome = Literal["killed", "SURVIVED", "FAILS ANYWAY"]


def passes(tree: Path, tests: str) -> bool:
    """Whether tests pass in a tree."""
    # Without bytecode: a change within the second of the file before it would not be seen.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest {tests}: exit status {done.returncode}\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


class Trees:
    """Copies of the tree, each for one mutant at a time. Tests pass in one before they judge a mutant."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            shutil.copytree(ROOT, folder / str(number), ignore=NOT_COPIED)
            self._free.put(folder / str(number))
        self._sound: dict[str, bool] = {}
        self._locks: dict[str, threading.Lock] = {mutant.tests: threading.Lock() for mutant in MUTANTS}

    def judge(self, mutant: Mutant) -> Outcome:
        """Whether the tests notice."""
        tree = self._free.get()
        try:
            with self._locks[mutant.tests]:
                if mutant.tests not in self._sound:
                    self._sound[mutant.tests] = passes(tree, mutant.tests)
            if not self._sound[mutant.tests]:
                return "FAILS ANYWAY"
            file = tree / mutant.file
            source = file.read_text()
            file.write_text(mutated(source, mutant))
            try:
                return "SURVIVED" if passes(tree, mutant.tests) else "killed"
            finally:
                file.write_text(source)
        finally:
            self._free.put(tree)


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the fault in it. Raises SystemExit unless the old text stands in it once."""
    if (count := source.count(mutant.old)) != 1:
        raise SystemExit(f"{mutant.file}: {mutant.old!r} stands there {count} times; mend tests/mutants/table.py")
    return source.replace(mutant.old, mutant.new)


def judged(mutants: list[Mutant], at_once: int) -> Iterator[tuple[Mutant, Outcome]]:
    """Each mutant and what became of it, in the order of the table."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(at_once) as pool:
        trees = Trees(Path(folder), at_once)
        yield from zip(mutants, pool.map(trees.judge, mutants), strict=True)


def main() -> int:
    """Return 0 when every mutant was killed."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these; default: all")
    parser.add_argument("--at-once", type=int, default=2, help="how many run at a time (default: 2)")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.words or any(word in m.name for word in asked.words)]
    alive = []
    for mutant, outcome in judged(chosen, asked.at_once):
        print(f"{outcome:12} {mutant.name}  ({mutant.file})", flush=True)
        if outcome != "killed":
            alive.append(mutant)
    for mutant in alive:
        print(f"\n{mutant.name}\n  {mutant.file}\n  - {mutant.old}\n  + {mutant.new}\n  pytest {mutant.tests}")
    print(f"\n{len(chosen) - len(alive)} of {len(chosen)} mutants killed")
    return 1 if alive or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main())
