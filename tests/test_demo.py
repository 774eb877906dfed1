"""The demo as a newcomer runs it: with the shipped weights, as plain lines, to its summary."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from agent.commands.demo import summarize
from agent.lab.assessment import Assessment, Counts
from protos import perception_pb2 as pb

SECONDS = 20


@pytest.mark.slow  # shows 20 s of a scene in real time
def test_the_demo_embeds_alerts_localizes_and_accounts_for_every_tick(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    command = [sys.executable, "-m", "agent.cli", "demo", "--seconds", str(SECONDS), "--picture", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    for sensor in ("camera", "microphone", "depth", "thermal", "imu"):
        embedded = re.search(rf"^embedded .*\b{sensor} (\d+)", done.stdout, re.MULTILINE)
        assert embedded, done.stdout
        assert int(embedded[1]) >= SECONDS / 2
    produced, delivered = map(int, re.findall(r"ticks +(\d+) produced = (\d+) delivered", done.stdout)[0])
    assert produced >= delivered >= SECONDS
    assert "of 0 within" not in done.stdout
    assert picture.read_text().startswith("<svg")


def test_where_there_was_nothing_to_judge_no_number_stands() -> None:
    screen = io.StringIO()
    result = Assessment(alerts={"heard": Counts()})
    summarize(Console(file=screen, width=200), pb.Status(), [], result)
    assert "nan" not in screen.getvalue()
    assert "F1 - over episodes, - over ticks" in screen.getvalue()
    assert "direction  none of 0 within 10 degrees" in screen.getvalue()
