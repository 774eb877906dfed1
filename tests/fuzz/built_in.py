"""The built-in fuzzer: seeded mutations, guided by the lines that some of the inputs reach."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from fuzz.coverage import Coverage
from fuzz.current import Current
from fuzz.judging import Finding, Judge
from fuzz.mutation import mutated
from fuzz.targets import CORPUS, Target

TRACED = 16
"""Of so many inputs, one is run again with its lines traced."""
STORED_BYTES = 4096
"""Longer inputs are not put into the corpus."""


def fuzz(
    target: Target,
    executions: int,
    *,
    seed: int = 0,
    seconds: float | None = None,
    grown: Path | None = None,
    tell: Callable[[Finding], None],
    current: Current | None = None,
) -> Judge:
    """Run the corpus, then mutations of it; `tell` is called with the first finding of each kind.

    Inputs that reach new lines are mutated too, and kept in `grown`. What is being run stands in `current`, for whoever
    watches this process: should an input end it, the input is known.
    """
    judge, coverage = Judge(target), Coverage()
    rng = random.Random(f"{target.name} {seed}")
    pool = target.corpus()
    if grown is not None:
        grown.mkdir(parents=True, exist_ok=True)
        pool += [path.read_bytes() for path in sorted(grown.iterdir())]
    fixed = list(pool)
    ends = None if seconds is None else time.monotonic() + seconds
    while judge.executions < executions and (ends is None or time.monotonic() < ends):
        at = judge.executions
        data = fixed[at] if at < len(fixed) else mutated(pool, target.tokens, rng)
        if current is not None:
            current.begin(data)
        finding = judge.run(data)
        if finding is not None:
            tell(finding)
        elif (at < len(fixed) or at % TRACED == 0) and coverage.is_new(lambda d=data: target.one(d)):
            if at >= len(fixed):
                pool.append(data)
            if at >= len(fixed) and grown is not None:
                (grown / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return judge


def store(target: Target, grown: Path) -> int:
    """Put into the corpus, the shortest first, what reaches lines that it does not reach; returns how many."""
    coverage = Coverage()
    for data in target.corpus():
        coverage.is_new(lambda d=data: target.one(d))
    folder, stored = CORPUS / target.name, 0
    for data in sorted((path.read_bytes() for path in grown.glob("*")), key=len):
        if len(data) <= STORED_BYTES and coverage.is_new(lambda d=data: target.one(d)):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            stored += 1
    return stored
