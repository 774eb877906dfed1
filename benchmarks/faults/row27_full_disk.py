"""The disk is full while recording, and has room again; then the file is deleted.

A small file system is mounted, for which one must be root.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

from benchmarks.faults.measured import Measured
from benchmarks.faults.recorded import Recorded, is_recording, messages, ticks
from protos import perception_pb2 as pb

DISK_MB = 8
FULL_S = 4.0
BAR_RESUME_S = 12.0
"""Room is looked for after 5 s, then after 10."""
BAR_GONE_S = 2.0
STATES = pb.RecordingState


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of DISK_MB in memory. Raises CalledProcessError where that is not allowed."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def run() -> Measured:
    """Fill the disk, make room, delete the file."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, disk = Path(name), Path(name) / "disk"
        stack.enter_context(small_disk(disk))
        filler = disk / "filler"
        filler.write_bytes(bytes((DISK_MB - 3) * 2**20))
        agent = stack.enter_context(Recorded(folder, disk / "run.mcap", {"record": {"min_free_mb": 0}}))
        full = agent.wait("stopped", is_recording(STATES.STATE_STOPPED))
        time.sleep(FULL_S)
        live = ticks(agent.events[full:])
        filler.unlink()
        began_s = time.monotonic()
        resumed = agent.wait("recording again", is_recording(STATES.STATE_RECORDING), full)
        resumed_s = time.monotonic() - began_s
        first = messages([disk / "run.mcap"])
        second = disk / "run_0002.mcap"
        time.sleep(1.0)
        second.unlink()
        began_s = time.monotonic()
        gone = agent.wait("deleted", lambda e: "deleted it" in e.recording.reason, resumed)
        gone_s = time.monotonic() - began_s
        reason = agent.events[gone - 1].recording.reason
        status, _, took_s = agent.end(SIGTERM)
        third = messages([disk / "run_0003.mcap"])
    met = live > 0 and resumed_s < BAR_RESUME_S and first > 0 and gone_s < BAR_GONE_S and third > 0 and status == 1
    return Measured(
        f"said; no tick is lost; goes on in a new file, {BAR_RESUME_S:g} s after there is room and {BAR_GONE_S:g} s "
        "after the file is gone; every file is read",
        f"{live} ticks while full (0: some missing); on again {resumed_s:.1f} s after there was room; {first} messages "
        f"read; deleted: said after {gone_s:.1f} s ({reason.split(': ')[-1]}), {third} messages read from the next "
        f"file; ended after {took_s:.1f} s with status {status}",
        met,
    )


if __name__ == "__main__":
    print(run())
