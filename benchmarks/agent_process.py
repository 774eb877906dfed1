"""An agent in a process of its own, run from any tree of this repository, and the processor time of its parts.

Only the command line and the protocol are used, so that two versions can be measured by the same code.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LAUNCH = """
import ctypes, sys, threading
name = ctypes.CDLL(None).prctl
begin = threading.Thread.run
def run(thread):
    name(15, thread.name.encode()[:15])  # PR_SET_NAME: Python's names are not the kernel's
    begin(thread)
threading.Thread.run = run
from agent.cli import main
main()
"""
"""Runs the command line, with threads that the kernel knows by name; those of libraries have their creator's."""
CAPTURES = "captures"
REST_NICE = 19
"""Priority of what renders the scene: it stands in for devices, which take no core from an agent."""
END_S = 15.0
LOOK_S = 0.02


@contextmanager
def running(tree: Path, config: Path) -> Iterator[tuple[int, str]]:
    """Start `sensebind run` of a tree; its process id and its address, once it listens. It is ended afterwards."""
    address = f"127.0.0.1:{_free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "run", "--config", str(config), "--listen", address],
        cwd=tree,
        env=_environment() | {"PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(address, process)
        yield process.pid, address
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def put_captures_at_rest(pid: int) -> None:
    """Give all capture processes of an agent, with their threads, the lowest priority."""
    for child in _children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for task in Path(f"/proc/{child}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), REST_NICE)


def processor_s(pid: int) -> dict[str, float]:
    """Seconds on a core so far, by thread of the agent, and of all capture processes together under CAPTURES."""
    return {**_threads(pid), CAPTURES: sum(sum(_threads(child).values()) for child in _children(pid))}


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that takes a core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _threads(pid: int) -> dict[str, float]:
    """By name; fields as in the kernel's Documentation/scheduler/sched-stats.rst."""
    spent: defaultdict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            name = "asyncio" if task.name == str(pid) else (task / "comm").read_text().strip()
            spent[name] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent


def _children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def _environment() -> dict[str, str]:
    """As this process was given it: this tree's agent has told its libraries things that another tree's does not."""
    lines = Path("/proc/self/environ").read_bytes().rstrip(b"\0").split(b"\0")
    return dict(os.fsdecode(line).split("=", 1) for line in lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, port = address.split(":")
    while process.poll() is None:
        try:
            socket.create_connection((host, int(port)), 0.2).close()
        except OSError:
            time.sleep(LOOK_S)
        else:
            return
    raise RuntimeError(f"the agent ended with status {process.returncode} before it listened")
