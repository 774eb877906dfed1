"""One agent, as a user starts it, on real inputs, each of which is taken away and brought back."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from real_sources import MjpegServer, NullSinkMicrophone, PngSequence, PtyImu, Source, missing
from running_agent import RunningAgent, Subscriber, busy_factor

from agent.client.client import vector_of
from protos import perception_pb2 as pb

ABSENT = missing("ffmpeg", "pulseaudio", "portaudio")
pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT)),
    pytest.mark.slow,  # an agent is started, and windows of up to 5 s fill again after each outage
]

AZIMUTH_DEG = 60.0
MIC_POSITIONS_M = ((0.0323, 0.0323, 0.0), (0.0323, -0.0323, 0.0), (-0.0323, 0.0323, 0.0), (-0.0323, -0.0323, 0.0))
SENSORS = {"camera", "damaged_camera", "microphone", "depth", "thermal", "imu"}
RECOVERS_S = 2.0
HEALTH_PERIOD_S = 0.5
LIVES = (pb.StreamHealth.STATE_OK, pb.StreamHealth.STATE_DEGRADED)


@dataclass
class Rig:
    sources: dict[str, Source]
    agent: RunningAgent
    subscriber: Subscriber

    def stream(self, sensor: str) -> pb.StreamHealth:
        return next(stream for stream in self.agent.status().streams if stream.sensor == sensor)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, nano_weights: Path) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("real_inputs")
    sources = {
        "camera": MjpegServer(),
        "damaged_camera": DamagedCamera(),
        "microphone": NullSinkMicrophone(folder, plane_wave(AZIMUTH_DEG)),
        "depth": PngSequence(folder / "depth", first=1000, step=100),
        "thermal": PngSequence(folder / "thermal", first=29_315, step=50),
        "imu": PtyImu(folder / "ttyIMU", rate_hz=200.0),
    }
    with ExitStack() as stack:
        for source in sources.values():
            stack.enter_context(source)
        for recording in ("depth", "thermal"):
            (folder / recording / "0.png").unlink()  # the same value everywhere: rightly taken to be a fault
        agent = stack.enter_context(
            RunningAgent(config(sources, nano_weights), folder, sources["microphone"].environment)
        )
        subscriber = stack.enter_context(Subscriber(agent.address))
        yield Rig(sources, agent, subscriber)


def config(sources: dict[str, Source], weights: Path) -> dict[str, object]:
    return {
        "model": {"weights": str(weights), "device": "cpu", "leave_out": False},
        "sensors": {
            "camera": {"type": "camera", "source": sources["camera"].url, "rate_hz": 15},
            "damaged_camera": {"type": "camera", "source": sources["damaged_camera"].url, "rate_hz": 10},
            "microphone": {
                "type": "microphone",
                "device": NullSinkMicrophone.device,
                "channels": NullSinkMicrophone.channels,
                "mic_positions_m": [list(position) for position in MIC_POSITIONS_M],
            },
            "depth": {"type": "depth_png", "path": str(sources["depth"].directory)},
            "thermal": {
                "type": "thermal_png",
                "path": str(sources["thermal"].directory),
                "scale_c": 0.01,
                "offset_c": -273.15,
            },
            "imu": {"type": "imu_wit", "port": str(sources["imu"].link), "baud": 115_200, "rate_hz": 200},
        },
        "localization": {"camera": "camera"},
    }


def plane_wave(
    azimuth_deg: float, seconds: float = 20.0, rate_hz: int = NullSinkMicrophone.rate_hz
) -> NDArray[np.float32]:
    """Bursts of noise from far away, float32 [n, 4]: each microphone hears them earlier the nearer it is to them."""
    n = round(seconds * rate_hz)
    bursts = np.random.default_rng(1).normal(size=n) * (0.55 + 0.45 * np.sin(2 * np.pi * 2.5 * np.arange(n) / rate_hz))
    azimuth = np.radians(azimuth_deg)
    lead_s = np.array(MIC_POSITIONS_M) @ [np.cos(azimuth), np.sin(azimuth), 0.0] / 343.0
    phase = np.exp(2j * np.pi * np.fft.rfftfreq(n, 1 / rate_hz)[:, None] * lead_s)
    heard = np.fft.irfft(np.fft.rfft(bursts)[:, None] * phase, n, axis=0)
    return (0.3 * heard / np.abs(heard).max()).astype(np.float32)


class DamagedCamera(Source):
    """An HTTP Motion JPEG camera of 10 Hz that cuts every other picture short."""

    def __init__(self) -> None:
        picture = np.random.default_rng(2).integers(0, 255, (120, 160, 3), np.uint8)
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        stopping = self._stopping = threading.Event()

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                part = 0
                while not stopping.wait(0.05):
                    body = jpeg if part % 2 else jpeg[: len(jpeg) // 2]
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body)
                    try:
                        self.wfile.write(head + body + b"\r\n")
                    except OSError:
                        return
                    part += 1

            def log_message(self, *_words: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


def present(event: pb.Event) -> set[str]:
    return {window.sensor for window in event.embedding.windows if window.present}


def complete(event: pb.Event) -> bool:
    return event.HasField("embedding") and present(event) == SENSORS


def test_all_five_modalities_are_embedded(rig: Rig) -> None:
    event = rig.subscriber.wait("every sensor in one tick", complete)
    assert {window.modality for window in event.embedding.windows} == {1, 2, 3, 4, 5}
    vectors = [vector_of(window.vector) for window in event.embedding.windows]
    for vector in [*vectors, vector_of(event.embedding.fused)]:
        assert np.isfinite(vector).all()
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=2e-3)  # float16


def test_the_direction_of_the_sound_is_that_of_the_delays(rig: Rig) -> None:
    after = rig.subscriber.mark()
    for _ in range(4):
        event = rig.subscriber.wait(
            "a direction", lambda e: e.HasField("audio_source") and e.audio_source.HasField("direction"), after
        )
        assert event.audio_source.direction.azimuth_deg == pytest.approx(AZIMUTH_DEG, abs=15)
        after = rig.subscriber.events.index(event) + 1


def test_damaged_data_is_counted_and_costs_nothing_else(rig: Rig) -> None:
    rig.subscriber.wait("every sensor in one tick", complete, rig.subscriber.mark())
    mark, before = rig.subscriber.mark(), {s.sensor: s.drops["bad data"] for s in rig.agent.status().streams}
    imu, depth = rig.sources["imu"], rig.sources["depth"]
    file = depth.directory / "7.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    imu.inject(bytes(range(256)) * 2)
    imu.inject(b"\x55\x51 no frame at all")
    damaged = ("imu", "depth", "damaged_camera")
    deadline = time.monotonic() + 60
    while not all(rig.stream(sensor).drops["bad data"] > before[sensor] for sensor in damaged):
        assert time.monotonic() < deadline, rig.agent.status()
        rig.subscriber.wait("a tick", lambda e: e.HasField("embedding"), rig.subscriber.mark())
    file.write_bytes(whole)
    assert_undisturbed(rig.subscriber.since(mark), SENSORS)
    assert not [stream for stream in rig.agent.status().streams if stream.state == pb.StreamHealth.STATE_LOST]


@pytest.mark.parametrize(("sensor", "window_s"), [("camera", 0.25), ("depth", 0.0), ("microphone", 2.0), ("imu", 5.0)])
def test_a_source_that_is_killed_costs_its_modality_only_and_comes_back(sensor: str, window_s: float, rig: Rig) -> None:
    subscriber, source = rig.subscriber, rig.sources[sensor]
    subscriber.wait("every sensor in one tick", complete, subscriber.mark())
    killed = subscriber.mark()
    source.stop()
    lost = subscriber.wait("its loss in health", lambda e: health_of(e, sensor, pb.StreamHealth.STATE_LOST), killed)
    assert lost.health.reason
    assert "\n" not in lost.health.reason
    first_without = subscriber.wait("a tick without it", lambda e: lacks(e, sensor), killed)
    subscriber.wait("another tick without it", lambda e: lacks(e, sensor), subscriber.mark())
    window = next(window for window in first_without.embedding.windows if window.sensor == sensor)
    assert window.missing_reason in ("stale", "gap", "lost")

    back = subscriber.mark()
    source.start()
    back_ns = time.time_ns()
    lives = subscriber.wait("its return in health", lambda e: health_of(e, sensor, *LIVES), back)
    seen = subscriber.wait("its window", lambda e: e.HasField("embedding") and sensor in present(e), back)
    recovered_s, seen_s = (lives.publish_ns - back_ns) / 1e9, (seen.capture_ns - back_ns) / 1e9
    print(f"{sensor}: samples {recovered_s:.2f} s, a window {seen_s:.2f} s after its return")
    limit_s = RECOVERS_S * busy_factor()
    assert recovered_s < limit_s + HEALTH_PERIOD_S
    assert seen_s < limit_s + window_s + HEALTH_PERIOD_S

    assert_undisturbed(subscriber.since(killed, seen), SENSORS - {sensor})
    status = rig.agent.status()
    assert status.ticks_produced == status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight


def assert_undisturbed(events: Sequence[pb.Event], sensors: set[str]) -> None:
    """That none of some sensors was lost, and none was missing from any tick."""
    assert not [event.health for event in events for s in sensors if health_of(event, s, pb.StreamHealth.STATE_LOST)]
    # Starved of processor time, this very process cannot send 200 measurements a second without gaps.
    if busy_factor() < 1.5:
        ticks = [event for event in events if event.HasField("embedding")]
        assert [sensors - present(tick) for tick in ticks] == [set()] * len(ticks)


def health_of(event: pb.Event, sensor: str, *states: pb.StreamHealth.State.ValueType) -> bool:
    return event.HasField("health") and event.health.sensor == sensor and event.health.state in states


def lacks(event: pb.Event, sensor: str) -> bool:
    return event.HasField("embedding") and sensor not in present(event)
