"""A log whose lengths and checksums are right, as `sensebind log info` reads it. The first bit says whether as JSON."""

from __future__ import annotations

import contextlib
import functools
import io
import struct

import numpy as np
from mcap.opcode import Opcode

from agent.commands import log as commands
from agent.config.recording import RecordSettings
from agent.log.format import LogError, LoggedSensor, RunFacts
from agent.log.reading import frames
from agent.log.recording.recorder import Recorder
from agent.policy import LOSSLESS
from drivers.driver import Sample
from fuzz import scratch
from fuzz.log_recipe import APART, log_of, recipe_of, step

TOKENS = (
    APART,
    b"start_ns",
    b"1" + b"0" * 40,
    b"-1",
    b"[" * 900,
    b'{"a":' * 300,
    b"/sensors/",
    b"/events",
    b"\x1b]0;x\x07",
)
PEAK_MB = 300.0


def one(data: bytes) -> None:
    """Tell what is in it."""
    path = scratch.file("log.mcap", log_of(data[1:]))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(LogError):
        commands.info(path, as_json=bool(data[:1] and data[0] & 1))


@functools.cache
def small_log() -> bytes:
    """A log of 2 kB that the program wrote."""
    config = {"sensors": {"imu": {"type": "synthetic_imu"}}}
    facts = RunFacts("a1b2c3", 10**18, 0, {"imu": LoggedSensor("imu", 100.0)}, config, {})
    path = scratch.file("small.mcap", b"")
    path.unlink()
    with Recorder(path, facts, RecordSettings(chunk_bytes=500), policy=LOSSLESS) as recorder:
        recorder.write_model("imagebind_nano 0123")
        for i in range(8):
            recorder.write_sample(
                "imu", Sample(10**18 + i * 50_000_000, np.ones((5, 6), np.float32), 100.0, lost=i % 2)
            )
    return path.read_bytes()


def seeds() -> list[bytes]:
    """Recipes of such a log, and of one that has everything outside of chunks."""
    recipe = recipe_of(small_log())
    message = step(Opcode.MESSAGE, struct.pack("<HIQQ", 1, 0, 10**18, 10**18) + b"x")
    channel = step(Opcode.CHANNEL, struct.pack("<HH", 1, 0) + APART.join([b"/sensors/imu", b"protobuf", b"a", b"b"]))
    facts = next(
        step(kind, _facts_content()) for _, kind, _ in frames(io.BytesIO(small_log())) if kind == Opcode.METADATA
    )
    return [b"\x00" + recipe, b"\x01" + recipe, b"\x01" + facts + channel + message * 2]


def _facts_content() -> bytes:
    record = RunFacts("a1", 10**18, 0, {"imu": LoggedSensor("imu", 100.0)}, {}, {}).to_record()
    return APART.join([b"sensebind.run", *(part.encode() for field in record.items() for part in field)])
