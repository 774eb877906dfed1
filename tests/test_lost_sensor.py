"""Ticks wait no longer for a sensor that is lost, and wait again once it has come back."""

from __future__ import annotations

from recorded_run import one_of_each

from agent.capture.source import CaptureReport, CaptureState
from agent.clock import ManualClock
from agent.health.health import Health
from agent.run.sampler import HEALTH_PERIOD_NS, SampleStretch
from agent.streams import Stream
from agent.windows.windower import Windower
from drivers.driver import Sample

S = 1_000_000_000
LATENESS_S = 3.0


def test_a_lost_sensor_is_not_waited_for_until_it_comes_back() -> None:
    streams = {
        name: Stream(name, modality, 10.0, 10.0, 1 << 20, 0.0, "all", 8, LATENESS_S)
        for name, modality in (("depth", "depth"), ("thermal", "thermal"))
    }
    clock = ManualClock(100 * S)
    states: dict[str, CaptureState] = {"depth": "running", "thermal": "running"}
    stretch = SampleStretch(
        Windower(streams, S // 2, clock.start_ns),
        Health(streams, live_hop_ns=S // 2),
        lambda: {name: CaptureReport(state, "", 0, {}) for name, state in states.items()},
        clock,
    )
    pictures = {name: sample.data for name, sample in one_of_each(1)}

    def settled_at(tick_ns: int) -> tuple[float, str]:
        """How long after its time a tick came of which only depth is seen, and what it says of thermal."""
        for step in range(100):
            clock.sleep_until(tick_ns + step * S // 10)
            stretch.push(("depth", Sample(clock.now_ns(), pictures["depth"])))
            for tick in stretch.advance():
                if tick.t_ns == tick_ns:
                    return (clock.now_ns() - tick_ns) / S, tick.windows["thermal"].missing
        raise AssertionError("no tick came")

    assert settled_at(clock.start_ns + S // 2) == (LATENESS_S, "no samples yet")
    states["thermal"] = "lost"
    clock.sleep_until(clock.now_ns() + HEALTH_PERIOD_NS)
    stretch.changes()
    while stretch.advance():
        pass
    assert settled_at((clock.now_ns() // (S // 2) + 1) * S // 2) == (0.0, "lost")
    states["thermal"] = "running"
    clock.sleep_until(clock.now_ns() + HEALTH_PERIOD_NS)
    stretch.changes()
    assert settled_at((clock.now_ns() // (S // 2) + 1) * S // 2)[0] == LATENESS_S
