"""Signals at every stage of a command, to real processes: in order, in time, without a word too many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, Signals

import pytest
import yaml
from running_agent import DEADLINE_S, busy_factor

from agent.config.parse import parse
from agent.log.editing.survey import survey
from agent.run import build
from benchmarks.faults.commands import Command

STOPS_S = 5.0
THERMAL = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}
AGENT = ["--config", "agent.yaml", "--listen", "127.0.0.1:0"]
RECORD = ["record", "--out", "run.mcap", *AGENT]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a configuration, and a log of two seconds."""
    folder = tmp_path_factory.mktemp("signals")
    model = {"device": "cpu"}
    (folder / "agent.yaml").write_text(yaml.safe_dump({"model": model, "sensors": {"thermal": THERMAL}}))
    fast = {"thermal": {**THERMAL, "pace": "fast", "duration_s": 2}}
    # Without `model`: of weights that a log names by a path nothing is read.
    pipeline = build.offline(parse({"sensors": fast}), log_to=folder / "old.mcap")
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
    with Command(words, folder) as command:
        stage(command)
        ended, errors, took_s = command.end(*signals)
    assert (ended, errors) == (status, "")
    assert took_s < STOPS_S * busy_factor()
    if stage is runs and words is RECORD:
        assert not survey([log]).damages
    assert sorted(path.name for path in folder.iterdir()) in (
        ["agent.yaml", "old.mcap"],
        ["agent.yaml", "old.mcap", "run.mcap"],
    )


def assert_ends_without_a_word_when_its_reader_goes(command: Command) -> None:
    with command:
        command.says("")
        process = command.process
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE_S) > 0
        process.stdout = None


def test_a_command_whose_reader_has_gone_ends_without_a_word(folder: Path) -> None:
    words = ["replay", "old.mcap", "--loop", "--speed", "10"]
    assert_ends_without_a_word_when_its_reader_goes(Command(words, folder))


def test_nohup_holds_and_so_does_an_agent_whose_watchers_go(folder: Path) -> None:
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from agent.cli import main; main()"
    with Command(["replay", "old.mcap", "--serve", "--loop", *AGENT[2:]], folder, program) as command:
        address = command.says("sensebind listens at ")
        command.process.send_signal(SIGHUP)
        command.says("sensebind runs")
        assert_ends_without_a_word_when_its_reader_goes(Command(["watch", "--address", address], folder))
        assert command.end(SIGTERM)[0] == 0


def test_an_end_that_hangs_is_cut_short(folder: Path) -> None:
    program = """
import threading
from agent.cli import main
from agent.server.server import Server

async def hang(self, grace_s):
    threading.Event().wait(600)

Server.stop = hang
main()
"""
    with Command(["replay", "old.mcap", "--serve", *AGENT[2:]], folder, program) as command:
        command.says("sensebind listens")
        status, errors, took_s = command.end(SIGTERM)
    assert (status, errors) == (1, "sensebind: not ended in order within 4.7 s; cut short\n")
    assert took_s < STOPS_S * busy_factor()
