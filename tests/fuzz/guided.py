"""Atheris, which is libFuzzer for Python: guided by the branches that every input takes. For x86-64 only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fuzz.current import Current
from fuzz.judging import Finding, Judge
from fuzz.mutation import MOST_BYTES
from fuzz.targets import TARGETS, target

HANG_S = 60
"""By the clock of the machine, which may be busy; what is merely slow is found by its processor time."""


def fuzz(
    name: str, executions: int, seconds: float | None, grown: Path, tell: Callable[[Finding], None], current: Current
) -> None:
    """Fuzz in this process, and end it."""
    import atheris

    assert name in TARGETS
    with atheris.instrument_imports(include=["agent", "drivers", "models"]):
        chosen = target(name)
    grown.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(chosen.corpus()):
        (grown / f"kept-{number:03}").write_bytes(data)
    judge = Judge(chosen)

    def run(data: bytes) -> None:
        current.begin(data)
        finding = judge.run(data)
        if finding is not None:
            tell(finding)

    options = [f"-runs={executions}", f"-max_len={MOST_BYTES}", f"-timeout={HANG_S}", "-rss_limit_mb=4096"]
    options += [f"-artifact_prefix={grown.with_name(name)}-", "-print_final_stats=1", "-verbosity=0"]
    if chosen.tokens:
        words = grown.with_name(f"{name}.words")
        words.write_text("".join(map(_word, chosen.tokens)))
        options.append(f"-dict={words}")
    if seconds is not None:
        options.append(f"-max_total_time={max(1, round(seconds))}")
    atheris.Setup([sys.argv[0], *options, str(grown)], run)
    atheris.Fuzz()


def _word(token: bytes) -> str:
    """A line of libFuzzer's dictionary, whose words have at most 64 bytes."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token[:64]) + '"\n'
