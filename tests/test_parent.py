"""Processes that live as long as their parent, whatever ends that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from running_agent import DEADLINE_S

from agent.child import launch_line

BOUND = "import sys, time; from agent.parent import die_with; die_with(int(sys.argv[1])); "
CHILD = BOUND + "print(flush=True); time.sleep(600)"
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def lives(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def test_a_process_dies_with_its_parent() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        assert lives(child)
        parent.send_signal(signal.SIGKILL)
        deadline_s = time.monotonic() + DEADLINE_S
        while lives(child):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_process_whose_parent_has_gone_already_ends_before_it_does_anything() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = launch_line("agent.capture.process")
    words = [sys.executable, "-X", "importtime", "-c", line, json.dumps(sys.path), str(os.getpid() + 1)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "agent.parent" in done.stderr
    assert "numpy" not in done.stderr, "it had nothing to do with samples yet"
