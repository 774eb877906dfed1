"""The sound server is killed, and started again after 3 s."""

from __future__ import annotations

import time

from real_sources import missing

from benchmarks.faults.live_agent import LIVES, LOST, seconds_to
from benchmarks.faults.measured import Measured
from benchmarks.faults.sound_server import hearing

TOLD_S, BACK_S = 1.5, 2.5
"""A second, and two; health is looked at every half second."""


def run() -> Measured:
    """Kill PulseAudio."""
    bar = f"told within {TOLD_S:g} s; sound {BACK_S:g} s after its return; others miss none"
    if absent := missing("pulseaudio", "portaudio"):
        return Measured(bar, absent, met=False)
    with hearing() as (source, live):
        mark = live.settle()
        killed_ns = time.time_ns()
        source.stop()
        told_s = seconds_to(live.turns("microphone", [LOST], mark), killed_ns)
        time.sleep(3.0)
        back = live.subscriber.mark()
        source.start()
        back_ns = time.time_ns()
        back_s = seconds_to(live.turns("microphone", LIVES, back), back_ns)
        missed = live.missed(mark, {"imu"})
    return Measured(
        bar,
        f"told after {told_s:.2f} s; sound {back_s:.2f} s after the server's return; others missed {missed} windows",
        told_s <= TOLD_S and back_s <= BACK_S and not missed,
    )
