"""Fuzz the targets one after the other, each in a process of its own: `PYTHONPATH=.:tests python -m fuzz`.

With atheris where it is installed, else with the built-in mutations. New findings are written to KEEP/findings/TARGET,
the corpus grows in KEEP/corpus/TARGET; the exit status is 1 when anything was found.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fuzz import scratch
from fuzz.built_in import fuzz, store
from fuzz.current import Current
from fuzz.judging import Finding
from fuzz.targets import TARGETS, target

HANG_S = 60.0
"""An input that takes longer by the clock ends its process, and is a finding."""


def main() -> None:
    """Fuzz, and print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; repeat")
    parser.add_argument("--executions", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--seconds", type=float, help="at most, for each target")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for findings and the corpus")
    parser.add_argument("--seed", type=int, default=0, help="of the built-in mutations")
    parser.add_argument("--built-in", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--store", action="store_true", help="add what KEEP has to tests/fuzz/corpus where it is new")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        _fuzz_here(asked)
        return
    if asked.store:
        for name in asked.target or TARGETS:
            print(f"{name:12} {store(target(name), asked.keep / 'corpus' / name)} inputs stored")
        return
    found = 0
    for name in asked.target or TARGETS:
        found += _fuzz_apart(name, asked)
    sys.exit(1 if found else 0)


def _fuzz_apart(name: str, asked: argparse.Namespace) -> int:
    """Fuzz one target in other processes, a new one whenever an input ends one; returns how many findings there are."""
    findings = asked.keep / "findings" / name
    before = set(findings.glob("*"))
    asked.keep.mkdir(parents=True, exist_ok=True)
    guided = not asked.built_in and importlib.util.find_spec("atheris") is not None
    began_s, done, round_ = time.monotonic(), 0, 0
    while done < asked.executions:
        left_s = None if asked.seconds is None else asked.seconds - (time.monotonic() - began_s)
        if left_s is not None and left_s <= 0:
            break
        current = Current.new(_current(asked.keep, name))
        command = [sys.executable, "-m", "fuzz", "--here", "--target", name, "--keep", str(asked.keep)]
        command += ["--executions", str(asked.executions - done), "--seed", str(asked.seed + round_)]
        command += [] if left_s is None else ["--seconds", str(left_s)]
        command += [] if guided else ["--built-in"]
        with (asked.keep / f"{name}.stderr").open("wb") as noise, scratch.new_folder() as folder:
            environment = {**os.environ, scratch.GIVEN: folder}
            # Decoders of pictures talk much.
            status = wait_for(subprocess.Popen(command, stderr=noise, env=environment), current)
        done += current.executions
        round_ += 1
        if status == 0:
            break
        kind = f"status-{status}" if status > 0 else signal.Signals(-status).name
        Finding(kind, f"its process ended with status {status}\n", current.data).keep(findings)
        if round_ > 20:
            break
    took_s = time.monotonic() - began_s
    new = sorted(path.name for path in set(findings.glob("*")) - before if path.suffix != ".txt")
    rate = done / took_s
    engine = "atheris" if guided else "built-in"
    print(
        f"{name:12} {done:>9} executions, {rate:7.0f}/s, {engine}; new findings: {', '.join(new) or 'none'}", flush=True
    )
    return len(new)


def wait_for(process: subprocess.Popen[bytes], current: Current, hang_s: float = HANG_S, look_s: float = 1.0) -> int:
    """Wait for a process and return its status; it is killed when it works on one input for too long."""
    count, since_s = 0, time.monotonic()
    while True:
        try:
            return process.wait(look_s)
        except subprocess.TimeoutExpired:
            if current.executions != count:
                count, since_s = current.executions, time.monotonic()
            elif time.monotonic() - since_s > hang_s:
                process.kill()


def _current(keep: Path, name: str) -> Path:
    return keep / f"{name}.current"


def _fuzz_here(asked: argparse.Namespace) -> None:
    """Fuzz one target in this process."""
    (name,) = asked.target
    findings, grown = asked.keep / "findings" / name, asked.keep / "corpus" / name

    def tell(finding: Finding) -> None:
        print(f"{name}: {finding.kind}: {finding.keep(findings)}", flush=True)

    current = Current(_current(asked.keep, name)).open()
    if asked.built_in:
        fuzz(
            target(name),
            asked.executions,
            seed=asked.seed,
            seconds=asked.seconds,
            grown=grown,
            tell=tell,
            current=current,
        )
        return
    from fuzz import guided

    guided.fuzz(name, asked.executions, asked.seconds, grown, tell, current)


if __name__ == "__main__":
    main()
