from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.capture.source import CaptureReport
from agent.faults import Faults
from agent.health.health import Health, StreamState
from agent.streams import Stream
from drivers.driver import Sample

S = 1_000_000_000
T0 = 1_700_000_000 * S
RUNNING = CaptureReport("running", "", 0, {})
TABLE = {
    "camera": Stream("camera", "vision", 10.0, 10.0, 10**6, 0.2, "latest", 4, 0.2),
    "microphone": Stream("microphone", "audio", 16000.0, 50.0, 10**6, 2.0, "all", 64, 0.2),
}


class Rig:
    """A health that is fed one stream at the pace of the clock."""

    def __init__(self, sensor: str, *, live_hop_ns: int | None = None, **changes: Any) -> None:
        self.sensor = sensor
        self.faults = Faults()
        self.health = Health({sensor: replace(TABLE[sensor], **changes)}, self.faults, live_hop_ns=live_hop_ns)
        self.now_ns = T0
        self.rng = np.random.default_rng(0)
        self.report_of(RUNNING)

    def report_of(self, report: CaptureReport = RUNNING, drops: dict[str, int] | None = None) -> StreamState:
        return self.health.report(self.now_ns, {self.sensor: report}, {self.sensor: drops or {}})[self.sensor]

    def images(self, count: int, hz: float = 10.0, noise: float = 2.0, **fields: Any) -> None:
        for _ in range(count):
            self.now_ns += round(S / hz)
            picture = np.full((48, 64, 3), 100.0) + self.rng.normal(0, noise, (48, 64, 3)) if noise else 100
            data = np.broadcast_to(np.asarray(picture), (48, 64, 3)).astype(np.uint8)
            self.health.observe(self.sensor, Sample(self.now_ns, data, **fields), self.now_ns)

    def blocks(self, seconds: float, true_hz: float = 16000.0, jitter_s: float = 0.0) -> None:
        begin_ns = self.now_ns
        for n in range(1, round(seconds * 50) + 1):
            self.now_ns = begin_ns + round(n * 320 * S / true_hz)
            rows = self.rng.normal(0, 0.1, (320, 1)).astype(np.float32)
            late_ns = round(abs(self.rng.normal(0, jitter_s)) * S) if jitter_s else 0
            t_ns = self.now_ns - round(320 * S / true_hz)
            self.health.observe(self.sensor, Sample(t_ns, rows, 16000.0), self.now_ns + late_ns)


def test_a_stream_begins_as_starting_and_becomes_ok() -> None:
    rig = Rig("camera")
    first = rig.report_of(CaptureReport("starting", "", 0, {}))
    assert (first.state, first.reason, first.samples) == ("starting", "no samples yet", 0)
    rig.images(50)
    state = rig.report_of()
    assert (state.state, state.reason, state.samples, state.gaps) == ("ok", "", 50, 0)
    assert state.rate_hz == pytest.approx(10.0)
    assert state.age_s == 0.0
    assert state.expected_rate_hz == 10.0


@pytest.mark.parametrize(("hz", "state"), [(9.2, "ok"), (8.5, "degraded")])
def test_less_than_nine_tenths_of_the_rate_is_slow(hz: float, state: str) -> None:
    rig = Rig("camera")
    rig.images(60, hz=hz)
    found = rig.report_of()
    assert found.rate_hz == pytest.approx(hz)
    assert found.state == state
    assert ("slow" in found.reason) == (state == "degraded")


def test_silence_is_lost_after_ten_periods_and_at_least_a_second() -> None:
    rig = Rig("camera")
    rig.images(20)
    rig.now_ns += S
    assert rig.report_of().state == "ok"
    rig.now_ns += S // 10
    found = rig.report_of()
    assert (found.state, found.reason) == ("lost", "no samples for 1.1 s")
    assert found.rate_hz == 0.0


def test_a_regular_pause_is_neither_silence_nor_slowness() -> None:
    """A Lepton sends nothing for a second while it corrects itself, every three minutes."""
    rig = Rig("camera", pause_s=1.0, rate_hz=9.0, samples_hz=9.0)
    for pause_s in (1.0, 1.1):
        rig.images(45, hz=9.0)
        rig.now_ns += round(pause_s * S)
        assert rig.report_of().state == "ok"
        rig.images(5, hz=9.0)
        assert rig.report_of().state == "ok"
        assert rig.report_of().rate_hz == pytest.approx(9.0, abs=0.5)
    rig.now_ns += round(2.2 * S)
    assert rig.report_of().state == "lost"


def test_a_device_that_pauses_may_be_slow_all_the_same() -> None:
    rig = Rig("camera", pause_s=1.0)
    rig.images(60, hz=8.0)
    assert "slow: 8.1 of 10.0 Hz" in rig.report_of().reason


def test_stamps_far_from_the_clock_are_told_apart_from_silence() -> None:
    behind = Rig("camera")
    for _ in range(20):
        behind.now_ns += S // 10
        picture = behind.rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        behind.health.observe("camera", Sample(behind.now_ns - 5 * S, picture), behind.now_ns)
    found = behind.report_of()
    assert (found.state, found.reason) == ("lost", "samples come, but their time stamps are 5.0 s behind the clock")
    ahead = Rig("camera")
    ahead.health.observe("camera", Sample(ahead.now_ns + 60 * S, picture), ahead.now_ns)
    found = ahead.report_of()
    assert (found.state, found.reason) == ("starting", "its time stamps are ahead of the clock")


def test_what_capture_knows_comes_first() -> None:
    rig = Rig("camera")
    rig.images(20)
    lost = CaptureReport("lost", "camera: no such device", 3, {"ring full": 2})
    found = rig.report_of(lost, {"late": 5})
    assert (found.state, found.reason, found.restarts) == ("lost", "camera: no such device", 3)
    assert (found.dropped, found.drops) == (7, {"ring full": 2, "late": 5})
    assert rig.report_of(CaptureReport("ended", "", 0, {})).state == "ended"


def test_a_frozen_picture_is_stuck_but_a_still_scene_with_noise_is_not() -> None:
    rig = Rig("camera")
    rig.images(100, noise=0.6)
    assert rig.report_of().state == "ok"
    rig.images(20, noise=0.0)
    assert rig.report_of().state == "ok"
    rig.images(3, noise=0.0)
    found = rig.report_of()
    assert found.state == "degraded"
    assert found.reason == "stuck: the same for 2.2 s"
    rig.images(1)
    assert rig.report_of().state == "ok"


def test_a_dead_microphone_is_stuck_a_muted_one_silent_and_a_periodic_tone_neither() -> None:
    rig = Rig("microphone")
    tone = np.sin(np.arange(320)[:, None] * 2 * np.pi / 32).astype(np.float32)
    dead, muted = np.full((320, 1), 0.25, np.float32), np.zeros((320, 1), np.float32)
    for data, state, reason in (
        (tone, "ok", ""),
        (muted, "degraded", "silent: zeros for 3.0 s"),
        (dead, "degraded", "stuck: the same for 3.0 s"),
    ):
        for _ in range(150):
            rig.health.observe("microphone", Sample(rig.now_ns, data, 16000.0), rig.now_ns + S // 50)
            rig.now_ns += S // 50
        assert (rig.report_of().state, rig.report_of().reason) == (state, reason)


def test_gaps_are_counted_and_many_of_them_degrade() -> None:
    rig = Rig("camera")
    rig.images(40)
    for count in (1, 2):
        rig.now_ns += 2 * S // 10
        rig.images(10)
        assert (rig.report_of().gaps, rig.report_of().state) == (count, "ok")
    rig.images(1, lost=1)
    rig.images(9)
    found = rig.report_of()
    assert found.gaps == 3
    assert "gaps" in found.reason
    rig.images(100)
    assert rig.report_of().state == "ok"
    assert rig.report_of().gaps == 3


@pytest.mark.parametrize("ppm", [-10_000, 0, 200, 10_000])
def test_skew_is_measured_against_the_clock_within_10_s(ppm: float) -> None:
    rig = Rig("microphone")
    rig.blocks(10.0, true_hz=16000.0 * (1 + ppm / 1e6), jitter_s=0.004)
    found = rig.report_of()
    assert found.skew_ppm == pytest.approx(ppm, abs=100)
    assert ("skewed" in found.reason) == (abs(ppm) > 1000)


def test_a_slow_start_is_no_skew() -> None:
    rig = Rig("camera")
    begin_ns = rig.now_ns
    for n in range(100):
        late_ns = max(0, S - n * S // 10)  # the first second comes up to a second late
        rig.now_ns = begin_ns + n * S // 10
        data = rig.rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        rig.health.observe("camera", Sample(rig.now_ns, data), rig.now_ns + late_ns)
    assert abs(rig.report_of().skew_ppm) < 50
    assert rig.report_of().state == "ok"


def test_a_stamp_from_the_far_future_does_not_make_a_stream_young() -> None:
    rig = Rig("camera")
    rig.images(20)
    data = np.zeros((48, 64, 3), np.uint8)
    rig.health.observe("camera", Sample(rig.now_ns + 3600 * S, data), rig.now_ns)
    rig.now_ns += 2 * S
    assert rig.report_of().state == "lost"
    assert rig.report_of().age_s == pytest.approx(2.0)


def test_changes_are_told_once() -> None:
    rig = Rig("camera")
    assert [state.state for state in rig.health.changes()] == ["starting"]
    assert rig.health.changes() == []
    rig.images(20)
    rig.report_of()
    assert [state.state for state in rig.health.changes()] == ["ok"]
    rig.images(20)
    rig.report_of()
    assert rig.health.changes() == []


def test_a_fault_degrades_its_stream_for_a_while_and_both_changes_are_told() -> None:
    rig = Rig("camera")
    rig.images(40)
    rig.report_of()
    rig.health.changes()
    for fault in ("the first", "the second"):
        rig.faults.count("camera", ValueError(fault))
    rig.faults.count("elsewhere", ValueError("not of a stream"))
    rig.health.note_faults(rig.now_ns)
    found = rig.report_of()
    assert (found.state, found.faults, found.first_fault) == ("degraded", 2, "ValueError: the first")
    assert found.reason == "faults: 2 of the agent's own, the first ValueError: the first"
    assert [state.faults for state in rig.health.changes()] == [2]
    rig.images(105)
    found = rig.report_of()
    assert (found.state, found.faults) == ("ok", 2)
    assert [state.state for state in rig.health.changes()] == ["ok"]


def test_faults_of_a_stream_that_is_degraded_already_are_told_too() -> None:
    rig = Rig("camera")
    rig.images(60, hz=8.0)
    assert rig.report_of().state == "degraded"
    rig.health.changes()
    rig.faults.count("camera", ValueError("now"))
    rig.health.note_faults(rig.now_ns)
    rig.report_of()
    (told,) = rig.health.changes()
    assert "slow" in told.reason
    assert "faults: 1" in told.reason


def test_a_new_stretch_does_not_tell_of_faults_of_before() -> None:
    rig = Rig("camera")
    rig.faults.count("camera", ValueError("before"))
    rig.health = Health({"camera": TABLE["camera"]}, rig.faults)
    rig.images(40)
    rig.health.note_faults(rig.now_ns)
    found = rig.report_of()
    assert (found.state, found.faults, found.first_fault) == ("ok", 0, "")


def test_a_stream_whose_health_cannot_be_told_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health(TABLE, faults := Faults())
    reports = dict.fromkeys(TABLE, RUNNING)
    data = np.zeros((48, 64, 3), np.uint8)
    health.observe("camera", Sample(T0, data), T0)
    monkeypatch.setattr(health._seen["microphone"], "newest_ns", "no number")
    states = health.report(T0 + 1, reports)
    assert states["camera"].samples == 1
    assert states["microphone"].state == "degraded"
    assert states["microphone"].reason.startswith("its health cannot be told: TypeError")
    assert faults.counts() == {"health of microphone": 1}
    assert [state.sensor for state in health.changes()] == ["camera", "microphone"]


def arrive(rig: Rig, delays_s: Any, count: int = 60, hz: float = 10.0) -> StreamState:
    """Images that come after the time on their stamps by what `delays_s` gives."""
    for _ in range(count):
        rig.now_ns += round(S / hz)
        data = rig.rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        rig.health.observe("camera", Sample(rig.now_ns - round(delays_s() * S), data), rig.now_ns)
    return rig.report_of()


HOP_NS = 400_000_000


@pytest.mark.parametrize(
    ("offset_s", "changes", "reason"),
    [
        (0.31, {}, "its time stamps lag the clock by 0.31 s (half a hop is 0.2 s)"),
        (0.15, {}, ""),
        (0.31, {"latency_s": 0.15}, ""),
        (0.46, {"latency_s": 0.15}, "its time stamps lag the clock by 0.31 s"),
        (0.31, {"max_lateness_s": 0.5}, ""),
        (-0.3, {}, "its time stamps are 0.3"),
        (-0.02, {}, ""),
    ],
)
def test_stamps_that_are_off_the_clock_are_flagged(offset_s: float, changes: dict[str, Any], reason: str) -> None:
    rig = Rig("camera", live_hop_ns=HOP_NS, **changes)
    found = arrive(rig, lambda: offset_s + rig.rng.exponential(0.005))
    assert found.delay_s == pytest.approx(offset_s + 0.0035, abs=0.004)
    assert found.state == ("degraded" if reason else "ok")
    assert found.reason.startswith(reason)


def test_load_is_no_offset_of_stamps_though_its_delay_is_told() -> None:
    rig = Rig("camera", live_hop_ns=HOP_NS)
    begin_ns = rig.now_ns
    for number in range(200):
        stamp_ns = begin_ns + number * S // 10
        rig.now_ns = max(rig.now_ns, stamp_ns + round(rig.rng.uniform(0.0, 0.6) * S))
        data = rig.rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        rig.health.observe("camera", Sample(stamp_ns, data), rig.now_ns)
    found = rig.report_of()
    assert found.delay_s > 0.25
    assert "lag" not in found.reason


def test_in_a_replay_arrivals_say_nothing_about_stamps() -> None:
    rig = Rig("camera")
    found = arrive(rig, lambda: 0.5)
    assert (found.state, found.delay_s) == ("ok", 0.0)
