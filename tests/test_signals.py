"""Signals at every stage of a command, to real processes: in order, in time, without a word too many."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, Signals

import pytest
import yaml
from running_agent import DEADLINE_S, SENSEBIND, busy_factor

from agent.config import parse
from agent.log.editing.survey import survey
from agent.pipeline import Pipeline

STOPS_S = 5.0
THERMAL = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}
AGENT = ["--config", "agent.yaml", "--listen", "127.0.0.1:0"]
RECORD = ["record", "--out", "run.mcap", *AGENT]


class Command:
    """`sensebind` as a process, whose stdout is a pipe that is read line by line."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [*SENSEBIND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )

    def handles_signals(self) -> None:
        """Wait until it does: nothing else has happened then."""
        status = Path(f"/proc/{self.process.pid}/status")
        self._until(lambda: bool(int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (SIGTERM - 1) & 1))

    def has_mapped(self, library: str) -> None:
        """Wait until it imports a library."""
        self._until(lambda: library in Path(f"/proc/{self.process.pid}/maps").read_text())

    def says(self, begin: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(begin):
                return
        raise AssertionError(f"never said {begin!r}")

    def end(self, *signals: Signals, apart_s: float = 0.1) -> tuple[int, str]:
        """Send signals; the exit status and what was said on stderr."""
        began_s = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
            time.sleep(apart_s if len(signals) > 1 else 0.0)
        try:
            _, errors = self.process.communicate(timeout=DEADLINE_S)
        finally:
            self.process.kill()
        assert time.monotonic() - began_s < STOPS_S * busy_factor()
        return self.process.returncode, errors

    def _until(self, met: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not met():
            assert time.monotonic() < deadline_s
            assert self.process.poll() is None
            time.sleep(0.002)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, nano_weights: Path) -> Path:
    """With a configuration, and a log of two seconds."""
    folder = tmp_path_factory.mktemp("signals")
    model = {"weights": str(nano_weights), "device": "cpu"}
    (folder / "agent.yaml").write_text(yaml.safe_dump({"model": model, "sensors": {"thermal": THERMAL}}))
    fast = {"thermal": {**THERMAL, "pace": "fast", "duration_s": 2}}
    pipeline = Pipeline.offline(parse({"model": model, "sensors": fast}), log_to=folder / "old.mcap")
    pipeline.start()
    pipeline.wait()
    pipeline.stop()
    return folder


AT_ONCE = Command.handles_signals


def imports(command: Command) -> None:
    command.has_mapped("libtorch_cpu")


def listens(command: Command) -> None:
    command.says("sensebind listens")


def runs(command: Command) -> None:
    command.says("sensebind runs")


def replays(command: Command) -> None:
    command.says("")


@pytest.mark.parametrize(
    ("words", "stage", "signals", "status"),
    [
        (RECORD, AT_ONCE, [SIGINT], 130),
        (RECORD, imports, [SIGHUP], 0),
        (RECORD, listens, [SIGTERM], 0),
        (RECORD, runs, [SIGHUP], 0),
        (RECORD, runs, [SIGUSR1, SIGTERM, SIGINT], 128 + SIGUSR1),
        (["replay", "old.mcap", "--loop", "--speed", "1"], replays, [SIGINT], 130),
        (["replay", "old.mcap", "--serve", *AGENT[2:]], listens, [SIGQUIT], 128 + SIGQUIT),
        (["demo"], imports, [SIGHUP], 129),
        (["log", "info", "old.mcap"], AT_ONCE, [SIGTERM], 143),
    ],
)
def test_a_signal_at_any_stage_ends_in_order(
    words: list[str], stage: Callable[[Command], None], signals: list[Signals], status: int, folder: Path
) -> None:
    log = folder / "run.mcap"
    log.unlink(missing_ok=True)
    command = Command(words, folder)
    stage(command)
    assert command.end(*signals) == (status, "")
    if stage is runs and words is RECORD:
        assert not survey([log]).damages
    assert sorted(path.name for path in folder.iterdir()) in (
        ["agent.yaml", "old.mcap"],
        ["agent.yaml", "old.mcap", "run.mcap"],
    )


def test_a_command_whose_reader_has_gone_ends_without_a_word(folder: Path) -> None:
    with Command(["replay", "old.mcap", "--loop", "--speed", "10"], folder).process as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode != 0


def test_nohup_holds(folder: Path) -> None:
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from agent.cli import main; main()"
    words = [sys.executable, "-c", program, "replay", "old.mcap", "--serve", *AGENT[2:]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sensebind listens")
        process.send_signal(SIGHUP)
        assert process.stdout.readline().startswith("sensebind runs")
        process.send_signal(SIGTERM)
        assert process.wait(DEADLINE_S) == 0
