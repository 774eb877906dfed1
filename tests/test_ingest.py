"""What an Ingest call makes of what is pushed: stamps, losses, names of sensors."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from agent.clock import ManualClock
from agent.server.ingest import Intake, Pushed
from agent.server.refusal import Refusal
from agent.streams import Stream
from agent.windows.windower import Windower
from drivers.codec import encode_sample
from drivers.driver import Sample
from drivers.remote import Remote, RemoteOptions
from protos.sensors_pb2 import SensorSample

S = 1_000_000_000
T0 = 1_700_000_000 * S
RATE_HZ = 16_000.0
ROWS = 800
BLOCK_NS = 50_000_000


class Rig:
    """Two remote sensors, a clock, and one call."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.mic = Remote(RemoteOptions("audio", RATE_HZ, channels=1, queue_depth=10_000), self.clock)
        self.eye = Remote(RemoteOptions("vision", 10.0, queue_depth=10_000), self.clock)
        self.mic.connect()
        self.eye.connect()
        self.pushed = Pushed()
        self.call = self.another_call()

    def another_call(self) -> Intake:
        return Intake({"mic": self.mic, "eye": self.eye}, self.clock.now_ns, self.pushed)

    def block(self, t_ns: int, lost: int = 0, sensor: str = "mic") -> bytes:
        sample = Sample(t_ns, np.zeros((ROWS, 1), np.float32), RATE_HZ, lost)
        return encode_sample(sensor, "audio", sample).SerializeToString()

    def image(self, t_ns: int, lost: int = 0) -> bytes:
        return encode_sample(
            "eye", "vision", Sample(t_ns, np.zeros((4, 4, 3), np.uint8), lost=lost)
        ).SerializeToString()


@pytest.mark.parametrize("lost", [1, 4_294_967_295])
def test_no_more_is_lost_than_fits_between_two_samples(lost: int) -> None:
    rig = Rig()
    rig.call.take(rig.block(T0, lost))
    assert rig.mic.read(0).lost == 0, "before the first there is no gap"
    rig.clock.sleep_until(T0 + S)
    later_ns = T0 + 10 * BLOCK_NS
    rig.another_call().take(rig.block(later_ns, lost))
    assert rig.mic.read(0).lost == min(lost, 9 * ROWS + ROWS)
    rig.call.take(rig.block(later_ns + BLOCK_NS, lost))
    assert rig.mic.read(0).lost <= ROWS, "within the jitter of stamps"
    rig.call.take(rig.image(T0, lost))
    rig.call.take(rig.image(T0 + S // 2, lost))
    rig.eye.read(0)
    assert rig.eye.read(0).lost == min(lost, 550)


@pytest.mark.parametrize("seed", range(4))
def test_sound_that_we_stamp_has_no_gaps_from_how_it_arrives(seed: int) -> None:
    """Blocks are held up by up to a quarter of a second and come in bursts; all of their rows are there, in place.

    Those that come at once with the very first have its time: nothing tells yet how late that was, and none may end in
    the future.
    """
    rng = np.random.default_rng(seed)
    rig = Rig()
    arrived_ns = 0
    for number in range(1200):
        held_up_ns = round(rng.exponential(0.004) * S) if number % 100 else S // 4
        # What was held up is followed at once by what came after it.
        arrived_ns = max(arrived_ns, T0 + (number + 1) * BLOCK_NS + held_up_ns)
        rig.clock.sleep_until(arrived_ns)
        rig.call.take(rig.block(0))
    assert rig.call.finish().accepted == 1200
    stream = Stream("mic", "audio", RATE_HZ, 20.0, 1 << 20, 2.0, "all", 64, 0.2)
    windower = Windower({"mic": stream}, S // 2, T0)
    off_ns = []
    for number in range(1200):
        sample = rig.mic.read(0)
        assert sample.lost == 0
        off_ns.append(sample.t_ns - T0 - number * BLOCK_NS)
        windower.push("mic", sample)
    assert windower.drops() == {"mic": {"duplicate": S // 4 // BLOCK_NS - 1}}
    windows = [tick.windows["mic"] for tick in windower.advance(windower.newest_ns)]
    assert {window.missing for window in windows[5:]} == {""}
    assert max(window.filled for window in windows[5:]) == 0.0
    settled = np.array(off_ns[100:]) / 1e6
    assert np.ptp(settled) < 20.0
    assert abs(np.median(settled)) < 2.0


def test_a_pause_of_the_sender_is_a_gap_of_its_length() -> None:
    rig = Rig()
    numbers = [*range(100), *range(140, 300)]
    for number in numbers:
        rig.clock.sleep_until(T0 + (number + 1) * BLOCK_NS)
        rig.call.take(rig.block(0))
    samples = [rig.mic.read(0) for _ in numbers]
    assert sum(sample.lost for sample in samples) == pytest.approx(40 * ROWS, abs=ROWS / 50)
    assert samples[-1].t_ns == pytest.approx(T0 + 299 * BLOCK_NS, abs=BLOCK_NS / 50)


def test_a_sample_of_an_unknown_sensor_is_counted_and_the_rest_is_taken() -> None:
    rig = Rig()
    for sensor in ("moc", "mic", "moc", "mic"):
        rig.call.take(rig.block(0, sensor=sensor))
        rig.clock.sleep_until(rig.clock.now_ns() + 10 * S)
    response = rig.call.finish()
    assert response.accepted == 2
    assert dict(response.rejected) == {"unknown sensor": 2}
    assert response.first_faults["unknown sensor"] == "'moc' is not a remote sensor; the remote sensors are: eye, mic"


def test_a_call_of_unknown_sensors_alone_is_refused_and_within_seconds() -> None:
    rig = Rig()
    rig.call.take(rig.block(0, sensor="moc"))
    with pytest.raises(Refusal, match="'moc' is not a remote sensor") as refused:
        rig.call.finish()
    assert refused.value.status().code == grpc.StatusCode.NOT_FOUND
    endless = rig.another_call()

    def push_on() -> None:
        for _ in range(100):
            endless.take(rig.block(0, sensor="moc"))
            rig.clock.sleep_until(rig.clock.now_ns() + S)

    with pytest.raises(Refusal, match="'moc' is not a remote sensor"):
        push_on()
    assert rig.clock.now_ns() < T0 + 10 * S


@pytest.mark.parametrize("rate_hz", [0.0, 1e-300, -1.0, 1e9, float("inf"), float("nan")])
def test_a_rate_that_no_sensor_has_is_bad_data(rate_hz: float) -> None:
    rig = Rig()
    message = SensorSample.FromString(rig.block(T0))
    message.audio.rate_hz = rate_hz
    rig.call.take(message.SerializeToString())
    assert dict(rig.call.finish().rejected) == {"bad data": 1}


def test_a_fault_costs_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with monkeypatch.context() as broken:
        broken.setattr(rig.mic, "push", lambda _: 1 // 0)
        rig.call.take(rig.block(T0))
        rig.call.take(rig.block(T0))
    rig.call.take(rig.block(T0))
    response = rig.call.finish()
    assert (response.accepted, dict(response.rejected)) == (1, {"fault": 2})
    assert rig.pushed.faults.counts() == {"ingest": 2}
    assert response.first_faults["fault"] == "internal error: ZeroDivisionError; the agent's log says more"
