"""Sensor messages: decoded, encoded again, and pushed to a sensor of another process."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from agent.clock import ManualClock
from agent.faults import Faults
from agent.server.ingest import Intake, Pushed
from agent.server.refusal import Refusal
from drivers.codec import decode_sample, encode_sample
from drivers.driver import MODALITIES, BadData, Sample
from drivers.remote import Remote, RemoteOptions
from protos.sensors_pb2 import SensorSample

NOW_NS = 10_000_000_000
PEAK_MB = 500.0
"""As of pictures: one of 8K is allowed."""
_RATES_HZ = {"vision": 10.0, "audio": 16000.0, "depth": 10.0, "thermal": 10.0, "imu": 100.0}


class Raised(Faults):
    """Faults of the agent's own, which it would survive, are findings here."""

    def count(self, where: str, error: Exception) -> None:  # noqa: ARG002  (as the one it stands for)
        """Raise it."""
        raise error


def one(data: bytes) -> None:
    """As a message of a log, and as one that a client sends."""
    try:
        modality, sample = decode_sample(SensorSample.FromString(data))
        again, same = decode_sample(encode_sample("camera", modality, sample))
        assert again == modality
        assert (same.t_ns, same.lost, same.rate_hz) == (sample.t_ns, sample.lost, sample.rate_hz)
        assert np.array_equal(same.data, sample.data, equal_nan=True)
    except (BadData, DecodeError):
        pass
    intake = Intake(_REMOTES, lambda: NOW_NS, Pushed(Raised()))
    try:
        intake.take(data)
        response = intake.finish()
    except Refusal as refusal:
        refusal.status()
        return
    response.SerializeToString()


def _remotes() -> dict[str, Remote]:
    made = {}
    for modality in MODALITIES:
        options = RemoteOptions(modality, _RATES_HZ[modality], queue_depth=2)
        made[modality] = Remote(options, ManualClock())
        made[modality].connect()
    return made


_REMOTES = _remotes()


def seeds() -> list[bytes]:
    """One of each, in each encoding."""
    picture = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    plane = np.linspace(1, 3, 12, dtype=np.float32).reshape(3, 4)
    audio, imu = np.zeros((8, 1), np.float32), np.ones((3, 6), np.float32)
    t_ns = NOW_NS - 1_000_000
    messages = [
        encode_sample("vision", "vision", Sample(t_ns, picture)),
        encode_sample("vision", "vision", Sample(t_ns, picture), encoding="png"),
        encode_sample("vision", "vision", Sample(t_ns, picture), encoding="jpeg"),
        encode_sample("depth", "depth", Sample(t_ns, plane)),
        encode_sample("thermal", "thermal", Sample(t_ns, plane), encoding="png", scale=0.01, offset=-20.0),
        encode_sample("audio", "audio", Sample(0, audio, 16000.0, lost=3)),
        encode_sample("imu", "imu", Sample(t_ns, imu, 100.0)),
    ]
    return [message.SerializeToString() for message in messages]
