"""Progress on a terminal, which has a line of its width, and in a pipe, which has a plain line now and then."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from recorded_run import record, samples

from agent.backtest.recordings import recordings_in
from agent.backtest.run import backtest
from agent.commands.progress import PLAIN_EVERY_S, amount, left, show_progress
from agent.exchange.media import export_media, import_folder
from agent.exchange.rosbag import import_bag
from agent.query import Query

GOLDEN = Path(__file__).parent / "data/golden/events.mcap"

WIDTH = 57
PROGRAM = """
import time
from agent.commands.progress import show_progress

with show_progress() as progress:
    for step in range(4, 25):
        progress("examples of a recording with a long name", step, 32)
        time.sleep(0.05)
    print("a line of the result")
    progress("steps", 1, None)
    time.sleep(0.5)
print("the end")
"""


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pipe_gets_a_plain_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Hand()
    with show_progress(clock=clock) as progress:
        for second in range(36):
            clock.now_s = 100.0 + second
            progress("steps", 500 + 2 * second, 600)  # 500 of them are of an earlier run
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "steps: 520 of 600, 0:40 left",
        "steps: 540 of 600, 0:30 left",
        "steps: 560 of 600, 0:20 left",
    ]


def test_what_is_not_known_is_not_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Hand()
    with show_progress("B", clock=clock) as progress:
        progress("converting", 0, None)
        clock.now_s += PLAIN_EVERY_S
        progress("converting", 2.5e6, None)
        clock.now_s += PLAIN_EVERY_S
        progress("checking", 0, 4.8e9)  # a step of its own, of which nothing is known yet
    assert capsys.readouterr().err.splitlines() == ["converting: 2.5 MB, ? left", "checking: 0.0 of 4.8 GB, ? left"]


def test_work_that_ends_soon_says_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as progress:
        progress("examples read", 64, 64)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "? left"), (4.4, "0:04 left"), (125.0, "2:05 left"), (7261.0, "2:01:01 left")]
)
def test_the_time_left_in_words(seconds: float | None, text: str) -> None:
    assert left(seconds) == text


def test_amounts_of_bytes_and_of_others() -> None:
    assert amount(12, 64, "") == "12 of 64"
    assert amount(7.6, None, "") == "8"
    assert amount(1.25e6, 40e6, "B") == "1.2 of 40.0 MB"


def on_a_terminal(terminal: str) -> tuple[str, str]:
    """What the program writes to the terminal behind stderr, and to the pipe behind stdout."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    words = [sys.executable, "-c", PROGRAM]
    written = b""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**environment, "TERM": terminal}
    ) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            written += part
        out, _ = process.communicate()
    os.close(ours)
    assert process.returncode == 0
    return written.decode(), out


def test_a_terminal_has_one_line_that_fits_and_the_result_goes_elsewhere() -> None:
    written, out = on_a_terminal("xterm")
    assert out == "a line of the result\nthe end\n"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert any(re.search(r"\b\d+ of 32 +(\?|0:0\d) left", line) for line in lines), lines
    assert any(line.startswith("steps") and line.rstrip().endswith("? left") for line in lines), lines
    assert all(len(line) <= WIDTH for line in lines), lines
    assert "result" not in plain
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")  # the cursor is back


def test_a_terminal_that_cannot_go_back_gets_plain_lines() -> None:
    assert on_a_terminal("dumb") == ("", "a line of the result\nthe end\n")


def test_exports_and_imports_tell_how_far_they_are(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(20))
    told: list[tuple[str, float, float | None]] = []

    def tell(what: str, done: float, of: float | None) -> None:
        told.append((what, done, of))

    export_media(tmp_path / "run.mcap", tmp_path / "media", progress=tell)
    import_folder(tmp_path / "media", tmp_path / "back.mcap", progress=tell)
    exported, imported = told[:100], told[100:]
    for steps in (exported, imported):
        assert {(what, of and round(of, 1)) for what, _, of in steps} == {("seconds of the recording", 2.0)}
        assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
        assert steps[-1][1] == pytest.approx(2.0, abs=0.11)
    told.clear()
    import_bag(tmp_path / "run.mcap", tmp_path / "again.mcap", progress=tell)
    assert told == [("messages", number, 100) for number in range(1, 101)]


def test_a_backtest_tells_the_seconds_of_all_recordings() -> None:
    told: list[tuple[str, float, float | None]] = []
    recordings = recordings_in([GOLDEN]) * 2
    backtest(recordings, [Query("q", "a dog")], reuse_embeddings=True, progress=lambda *step: told.append(step))
    whole_s = 2 * (recordings[0].end_ns - recordings[0].start_ns) / 1e9
    assert {(what, of) for what, _, of in told} == {("seconds of the recordings", whole_s)}
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert whole_s / 4 < done[len(done) // 2] < 3 * whole_s / 4
    assert done[-1] == pytest.approx(whole_s, abs=2.0)
