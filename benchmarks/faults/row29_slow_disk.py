"""Every write to the disk takes 2 s while recording."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from signal import SIGTERM

from benchmarks.faults.measured import Measured
from benchmarks.faults.recorded import Recorded, messages, ticks

WRITE_S = 2.0
RUNS_S = 12.0
BAR_S = 5.0
PROGRAM = f"""
import os, time
from agent.cli import main

write = os.write

def slowly(fd, data):
    if os.readlink(f"/proc/self/fd/{{fd}}").endswith(".mcap"):
        time.sleep({WRITE_S})
    return write(fd, data)

os.write = slowly
main()
"""


def run() -> Measured:
    """Record for a while, and end it."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "run.mcap"
        with Recorded(Path(name), log, program=PROGRAM) as agent:
            first = agent.wait("a tick", lambda event: event.HasField("embedding"))
            time.sleep(RUNS_S)
            live = ticks(agent.events[first:])
            status, errors, took_s = agent.end(SIGTERM)
        read = messages([log])
    said = re.search(r"disk was too slow at the end: (\d+) messages are lost", errors)
    met = took_s <= BAR_S and live > 0 and read > 0 and said is not None and status == 1
    return Measured(
        f"ticks go on without a gap; ended within {BAR_S:g} s; what the disk did not take is counted and said",
        f"{live} ticks of {RUNS_S:g} s (0: some missing); ended after {took_s:.1f} s with status {status}; "
        f"{read} messages are read, {said[1] if said else 'none'} said to be lost",
        met,
    )


if __name__ == "__main__":
    print(run())
