"""What comes of the faults of the table, injected one after the other on this machine, over loopback only.

    python -m benchmarks.faults [1 12 18 ...] [--markdown]

Every row runs in a process of its own. The exit status is 1 when a bar is not met. Times are of a quiet machine: what
else runs on it makes them longer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.measured import Measured
from benchmarks.faults.rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0
"""For one row: what hangs is a finding too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row gave; `met` is None for a row that cannot be run yet."""

    row: Row
    bar: str
    found: str
    met: bool | None
    took_s: float = 0.0

    @property
    def verdict(self) -> str:
        """One word."""
        return {True: "yes", False: "NO", None: "open"}[self.met]


def main() -> None:
    """Run rows, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, help="numbers of rows; without any, all")
    parser.add_argument("--markdown", action="store_true", help="print the table as README has it")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(asdict(run_here(asked.here))))
        return
    if unknown := set(asked.rows) - {row.number for row in ROWS}:
        parser.error(f"there is no row {unknown.pop()}; rows are 1 to {len(ROWS)}")
    outcomes = []
    for row in ROWS:
        if not asked.rows or row.number in asked.rows:
            outcomes.append(outcome_of(row))
            print(told(outcomes[-1]), file=sys.stderr if asked.markdown else sys.stdout, flush=True)
    if asked.markdown:
        print("| # | fault | bar | found | met |\n|---|---|---|---|---|")
        for o in outcomes:
            print(
                "|",
                " | ".join(_cell(text) for text in (str(o.row.number), o.row.fault, o.bar, o.found, o.verdict)),
                "|",
            )
    missed = [outcome.row.number for outcome in outcomes if outcome.met is False]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; not met: {missed or 'none'}", file=sys.stderr)
    sys.exit(1 if missed else 0)


def outcome_of(row: Row) -> Outcome:
    """Inject a fault."""
    began_s = time.monotonic()
    if row.file is not None:
        measured = _apart(row.file)
    elif row.tests:
        measured = _tested(row.tests)
    else:
        return Outcome(row, "", f"not built: {row.elsewhere}" if row.elsewhere else "not built", None)
    return Outcome(row, measured.bar, measured.found, measured.met, time.monotonic() - began_s)


def run_here(path: Path) -> Measured:
    """Inject the fault of a file in this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    measured: Measured = module.run()
    return measured


def told(outcome: Outcome) -> str:
    """The outcome for a terminal."""
    row = outcome.row
    lines = [f"{row.number:>2} {outcome.verdict:4} {row.fault} ({outcome.took_s:.0f} s)"]
    lines += [f"        {name}: {text}" for name, text in (("bar", outcome.bar), ("found", outcome.found)) if text]
    return "\n".join(lines)


def _apart(path: Path) -> Measured:
    command = [sys.executable, "-m", "benchmarks.faults", "--here", str(path)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Measured("it ends", f"did not end within {LIMIT_S:g} s", met=False)
    try:
        return Measured(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        *_, last = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        return Measured("it can be measured", f"ended with status {done.returncode}: {last.strip()}", met=False)


def _tested(tests: tuple[str, ...]) -> Measured:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
    *_, last = [line for line in done.stdout.splitlines() if line.strip()] or ["nothing"]
    files = ", ".join(dict.fromkeys(test.partition("::")[0] for test in tests))
    return Measured(f"tests in {files} pass", re.sub(r" in [\d.]+s.*", "", last.strip("= ")), met=done.returncode == 0)


def _environment() -> dict[str, str]:
    """With the tests' own sources and agents within reach, and this tree before any other that is installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
