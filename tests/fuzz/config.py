"""The configuration, as YAML."""

from __future__ import annotations

from importlib import resources

from agent.config.faults import ConfigError
from agent.config.parse import load
from fuzz import scratch
from fuzz.judging import check_told

TOKENS = (
    *(
        b"!!int ''",
        b"!!bool z",
        b"!!float abc",
        b"!!binary x",
        b"!!python/name:os.system",
        b"!!timestamp x",
        b"2026-13-01",
    ),
    *(b"0b_", b"9" * 5000, b"[" * 500, b"{a: " * 200, b"&a [*a]", b"<<: *a", b".inf", b".nan", b"1e-300", b"~", b"? "),
    *(b"- ", b"\n", b"type: "),
)


def one(data: bytes) -> None:
    """Load it."""
    try:
        load(scratch.file("agent.yaml", data))
    except ConfigError as error:
        check_told(error)


def seeds() -> list[bytes]:
    """A small one of everything, and the one of the synthetic world."""
    small = b"""sensors:
  cam: {type: synthetic_camera, width: 64, height: 48}
  imu: {type: imu_wit, port: /dev/ttyUSB0, baud: 115200, rate_hz: 100, axes: y -x z}
  depth: {type: remote, modality: depth, rate_hz: 10, max_lateness_s: 0.5}
  mic: {type: microphone, channels: 2, mic_positions_m: [[0, 0.05, 0], [0, -0.05, 0]]}
queries:
  - {text: a dog, threshold_on: 0.3, modalities: [vision], min_duration_s: 1}
windows: {hop_s: 0.5, audio_s: 2.0}
server: {listen: "127.0.0.1:0"}
record: {folder: x, split_s: 60, keep_gb: 1, colour: jpeg}
localization: {camera: cam}
"""
    aliases = b"a: &a [x, x]\nb: &b [*a, *a]\nsensors: {cam: {type: synthetic_camera, seed: *b}}\n"
    return [small, aliases, (resources.files("configs") / "synthetic.yaml").read_bytes()]
