"""The sensor that another process pushes into."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from agent.clock import ManualClock
from drivers.driver import BadData, BadOption, Disconnected, Modality, ReadTimeout, Sample
from drivers.remote import Remote, RemoteOptions


def image(t_ns: int, lost: int = 0) -> Sample:
    return Sample(t_ns, np.zeros((4, 6, 3), np.uint8), lost=lost)


def audio(t_ns: int, rows: int = 10) -> Sample:
    return Sample(t_ns, np.zeros((rows, 2), np.float32), 16_000.0)


def test_samples_come_in_order_at_their_time() -> None:
    with Remote(RemoteOptions("vision", rate_hz=10.0, latency_ms=20.0), ManualClock()) as remote:
        assert remote.modality == "vision"
        for k in range(3):
            remote.push(image(k * 100_000_000))
        assert [remote.read(0.0).t_ns for _ in range(3)] == [-20_000_000, 80_000_000, 180_000_000]
        with pytest.raises(ReadTimeout):
            remote.read(0.01)


def test_when_full_the_oldest_is_dropped_and_counted() -> None:
    with Remote(RemoteOptions("vision", rate_hz=10.0, queue_depth=3), ManualClock()) as remote:
        for k in range(8):
            remote.push(image(k, lost=1))
        samples = [remote.read(0.0) for _ in range(3)]
    assert [s.t_ns for s in samples] == [5, 6, 7]
    assert sum(s.lost for s in samples) == 5 + 8, "five dropped here, and what was lost before each of all eight"


def test_rows_are_counted_in_rows() -> None:
    with Remote(RemoteOptions("audio", rate_hz=16_000, channels=2, queue_depth=1), ManualClock()) as remote:
        remote.push(audio(0, rows=10))
        remote.push(audio(1, rows=7))
        assert remote.read(0.0).lost == 10


def test_a_waiting_reader_is_woken() -> None:
    with Remote(RemoteOptions("vision", rate_hz=10.0), ManualClock()) as remote:
        thread = threading.Timer(0.02, lambda: remote.push(image(42)))
        thread.start()
        assert remote.read(10.0).t_ns == 42
        thread.join()
        closer = threading.Timer(0.02, remote.close)
        closer.start()
        with pytest.raises(Disconnected):
            remote.read(10.0)
        closer.join()


def test_pushers_on_many_threads_lose_nothing_unseen() -> None:
    with Remote(RemoteOptions("vision", rate_hz=10.0, queue_depth=16), ManualClock()) as remote:

        def push_many() -> None:
            for k in range(500):
                remote.push(image(k))

        threads = [threading.Thread(target=push_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        seen = lost = 0
        while seen + lost < 2000:
            sample = remote.read(5.0)
            seen, lost = seen + 1, lost + sample.lost
        for thread in threads:
            thread.join()
        assert seen + lost == 2000


@pytest.mark.parametrize(
    ("modality", "data"),
    [
        ("vision", np.zeros((4, 6, 3), np.float32)),
        ("vision", np.zeros((4, 6), np.uint8)),
        ("vision", np.zeros((4, 7, 3), np.uint8)),
        ("depth", np.zeros((4, 6), np.uint16)),
        ("thermal", np.zeros((5, 6), np.float32)),
        ("audio", np.zeros((10, 3), np.float32)),
        ("audio", np.zeros((0, 2), np.float32)),
        ("imu", np.zeros((10, 5), np.float32)),
    ],
)
def test_what_does_not_fit_is_refused(modality: Modality, data: np.ndarray) -> None:
    options = RemoteOptions(modality, rate_hz=100.0, width=6, height=4, channels=2)
    with Remote(options, ManualClock()) as remote:
        with pytest.raises(BadData, match=f"remote {modality}: a sample of {data.dtype}"):
            remote.push(Sample(0, data, 0.0 if modality in ("vision", "depth", "thermal") else 100.0))
        with pytest.raises(ReadTimeout):
            remote.read(0.0)


def test_a_block_of_another_rate_is_refused() -> None:
    with (
        Remote(RemoteOptions("audio", rate_hz=48_000, channels=2), ManualClock()) as remote,
        pytest.raises(BadData, match="16000 rows a second came, wanted 48000"),
    ):
        remote.push(audio(0))


def test_pushing_before_it_runs_is_told() -> None:
    with pytest.raises(Disconnected, match="not running"):
        Remote(RemoteOptions("vision", rate_hz=10.0), ManualClock()).push(image(0))


def test_impossible_options() -> None:
    with pytest.raises(BadOption, match="queue_depth is 0"):
        Remote(RemoteOptions("vision", rate_hz=10.0, queue_depth=0), ManualClock())
    with pytest.raises(BadOption, match="rate_hz is -1"):
        Remote(RemoteOptions("vision", rate_hz=-1.0), ManualClock())
