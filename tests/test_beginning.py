"""What `sensebind run` says at a terminal until everything is there, and that it says no more into a file."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import threading
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import yaml
from running_agent import DEADLINE_S, SENSEBIND

from agent.commands import beginning
from agent.config.parse import parse
from agent.run import build

SENSORS: dict[str, Any] = {
    "heat": {"type": "synthetic_thermal", "seed": 3, "width": 64, "height": 64},
    "eye": {"type": "camera", "source": "/dev/video97"},
}


class Screen:
    """The terminal behind a process, read by a thread."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._text = ""
        self._more = threading.Condition()

    def follow(self) -> None:
        os.close(self.theirs)
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, pattern: str) -> None:
        with self._more:
            found = self._more.wait_for(lambda: re.search(pattern, self._text), DEADLINE_S)
        assert found, f"{pattern!r} is not in {self._text!r}"

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 4096)
            except OSError:  # the process has ended
                return os.close(self._ours)
            with self._more:
                self._text += part.decode()
                self._more.notify_all()


def test_a_terminal_is_told_of_the_weights_and_of_each_sensor(tmp_path: Path, nano_weights: Path) -> None:
    config = tmp_path / "robot.yaml"
    config.write_text(
        yaml.safe_dump({"model": {"weights": str(nano_weights), "device": "cpu"}, "sensors": SENSORS}, sort_keys=False)
    )
    screen = Screen()
    process = subprocess.Popen(
        [*SENSEBIND, "run", "--config", str(config), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=screen.theirs,
        text=True,
    )
    try:
        screen.follow()
        megabytes = f"{nano_weights.stat().st_size / 1e6:,.0f}"
        screen.wait(rf"sensebind starts heat, eye, and loads {re.escape(str(nano_weights))} \({megabytes} MB\)")
        screen.wait(r"sensebind: heat gives samples after \d+\.\d s")
        screen.wait(r"sensebind: eye is lost: .*/dev/video97")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sensebind listens at ")
        assert process.stdout.readline().startswith("sensebind runs ")
        process.send_signal(SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()


async def test_a_long_wait_is_told_anywhere_and_of_a_sensor_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(beginning, "SLOW_S", 0.3)
    monkeypatch.setattr(beginning, "PATIENCE_S", 0.5)
    monkeypatch.setattr(beginning, "LOOK_S", 0.05)
    run = build.live(parse({"sensors": {"eye": SENSORS["eye"]}}))  # neither started nor loaded
    try:
        telling = asyncio.ensure_future(beginning.tell_beginning(run))
        await asyncio.wait({telling}, timeout=1.2)
        telling.cancel()
    finally:
        run.stop()
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2
    assert re.fullmatch(
        r"sensebind waits for imagebind_nano \(22 MB\) to be loaded, samples of eye: \d+ s by now", said[0]
    )
    assert re.fullmatch(r"sensebind waits for imagebind_nano \(22 MB\) to be loaded: \d+ s by now", said[-1])
