"""A log whose lengths and checksums are right, as `sensebind log export --to foxglove` reads it."""

from __future__ import annotations

import contextlib
import functools
import shutil

import numpy as np

from agent.config.recording import PictureFormat, RecordSettings
from agent.exchange.foxglove import export_for_viewers
from agent.log.format import LogError, LoggedSensor, RunFacts
from agent.log.recording.recorder import Recorder
from agent.policy import LOSSLESS
from drivers.driver import Sample
from fuzz import scratch
from fuzz.log_recipe import APART, log_of, recipe_of
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO

TOKENS = (APART, b"/sensors/", b"/events/scores/", b"/transforms", b"hfov_deg", b"mic_positions_m", b"NaN", b"1e999")
PEAK_MB = 300.0


def one(data: bytes) -> None:
    """Export it, and the export again, which must be a log."""
    path = scratch.file("log.mcap", log_of(data))
    out = scratch.folder() / "viewed"
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.suppress(LogError):
        export_for_viewers(path, out)
    if (out / path.name).exists():
        shutil.rmtree(out / "again", ignore_errors=True)
        export_for_viewers(out / path.name, out / "again")


@functools.cache
def small_log() -> bytes:
    """A log of 3 kB with a row, a picture and an event of each kind that viewers show."""
    config = {
        "sensors": {
            "eye": {"type": "remote", "hfov_deg": 70},
            "ears": {"type": "remote", "mic_positions_m": [[0, 0.1, 0], [0, -0.1, 0]]},
        },
        "queries": [{"id": "dog", "text": "a dog barking"}],
    }
    sensors = {
        "eye": LoggedSensor("vision", 5.0),
        "ears": LoggedSensor("audio", 8000.0),
        "imu": LoggedSensor("imu", 100.0),
    }
    facts = RunFacts("a1b2c3", 10**18, 0, sensors, config, {})
    path = scratch.file("small.mcap", b"")
    path.unlink()
    score = pb.QueryScore(query_id="dog", modality=MODALITY_AUDIO, score=0.9)
    table = pb.ScoreTable(query_ids=["dog"], modalities=[MODALITY_AUDIO], values=np.float32([0.9]).tobytes())
    source = pb.AudioSource(tick=1, camera="eye", state=pb.SOURCE_STATE_IN_VIEW, box=pb.Box(x1=4, y1=4))
    alert = pb.AlertTransition(query_id="dog", text="a dog", phase=pb.ALERT_PHASE_BEGIN, modalities=[MODALITY_AUDIO])
    settings = RecordSettings(chunk_bytes=500, pictures=PictureFormat(colour="raw"))
    with Recorder(path, facts, settings, policy=LOSSLESS) as recorder:
        recorder.write_sample("eye", Sample(10**18, np.zeros((8, 8, 3), np.uint8)))
        recorder.write_sample("imu", Sample(10**18, np.ones((5, 6), np.float32), 100.0))
        for seq, event in enumerate(
            (
                pb.Event(embedding=pb.Embedding(tick=1, scores=[score], score_table=table)),
                pb.Event(audio_source=source),
                pb.Event(alert=alert),
                pb.Event(health=pb.StreamHealth(sensor="eye", state=pb.StreamHealth.STATE_LOST)),
                pb.Event(model=pb.ModelState(state=pb.ModelState.STATE_HUNG, reason="slow")),
            ),
            1,
        ):
            event.seq, event.capture_ns, event.publish_ns = seq, 10**18 + seq, 10**18 + seq
            recorder.write_event(event)
    return path.read_bytes()


def seeds() -> list[bytes]:
    """The recipe of such a log."""
    return [recipe_of(small_log())]
