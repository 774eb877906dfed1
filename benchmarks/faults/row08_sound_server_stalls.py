"""The sound server is stopped with SIGSTOP for 5 s: connected, and silent."""

from __future__ import annotations

import signal
import time

from real_sources import missing

from benchmarks.faults.live_agent import LIVES, LOST, present, seconds_to
from benchmarks.faults.measured import Measured
from benchmarks.faults.sound_server import hearing

STOPPED_S = 5.0
TOLD_S, BACK_S = 1.5, 2.5
"""A second, and two; health is looked at every half second."""


def run() -> Measured:
    """Stop PulseAudio."""
    bar = f"told within {TOLD_S:g} s; no old sound passes for live; sound {BACK_S:g} s after; others miss none"
    if absent := missing("pulseaudio", "portaudio"):
        return Measured(bar, absent, met=False)
    with hearing() as (source, live):
        mark = live.settle()
        stopped_ns = time.time_ns()
        source.freeze()
        told_s = seconds_to(live.turns("microphone", [LOST], mark), stopped_ns)
        time.sleep(max(0.0, STOPPED_S - told_s))
        back = live.subscriber.mark()
        assert source.process is not None
        source.process.send_signal(signal.SIGCONT)
        back_ns = time.time_ns()
        back_s = seconds_to(live.turns("microphone", LIVES, back), back_ns)
        old = [
            event
            for event in live.subscriber.since(mark)
            if "microphone" in present(event) and stopped_ns + 1.5e9 < event.capture_ns < back_ns
        ]
        missed = live.missed(mark, {"imu"})
    return Measured(
        bar,
        f"told after {told_s:.2f} s; {len(old)} windows of sound beyond 1.5 s into it; sound {back_s:.2f} s after it; "
        f"others missed {missed} windows",
        told_s <= TOLD_S and not old and back_s <= BACK_S and not missed,
    )
