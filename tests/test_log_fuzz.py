"""Logs that are cut off or damaged at random: each opens or fails with an error of its own; nothing hangs or swells."""

from __future__ import annotations

import contextlib
import random
import resource
from pathlib import Path

import pytest
from other_reader import messages
from recorded_run import SENSORS, event, facts, samples

from agent.config.recording import Compression, PictureFormat, RecordSettings
from agent.log import messages as log_messages
from agent.log.editing.copying import Copied, contents
from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.format import ReplayError
from agent.log.reading import facts_of, frames
from agent.log.recording.recorder import Recorder
from agent.log.unpacking import Damaged
from agent.policy import LOSSLESS
from drivers.driver import BadData

TRIALS = 500
"""Of each kind of log: 1,000 together."""
MAX_BYTES = 400 * 2**20
"""Beyond what the tests before took: a chunk may be 256 MiB."""


def whole_log(path: Path, compression: Compression) -> bytes:
    settings = RecordSettings(
        chunk_bytes=20_000, compression=dict.fromkeys(SENSORS, compression), pictures=PictureFormat(jpeg_quality=50)
    )
    with Recorder(path, facts(), settings, policy=LOSSLESS) as recorder:
        recorder.write_model("imagebind_nano 0123")
        for name, sample in samples(5):
            recorder.write_sample(name, sample)
        recorder.write_event(event(1))
    return path.read_bytes()


def damaged(data: bytes, heads: list[int], rng: random.Random) -> bytes:
    """A part of the data, or the data with something wrong in it; `heads` is where records begin."""
    out = bytearray(data)
    at = rng.randrange(len(out))
    match rng.randrange(6):
        case 0:
            return data[:at]
        case 1:
            for _ in range(rng.randint(1, 8)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 2:
            out[rng.choice(heads) + rng.randrange(9)] = rng.randrange(256)
        case 3:
            out[at : at + rng.randint(1, 5000)] = b""
        case 4:
            out[at:at] = rng.randbytes(rng.randint(1, 5000))
        case 5:
            out[at : at + 2000] = rng.choice([bytes(2000), b"\xff" * 2000, out[:2000]])
    return bytes(out)


def read(path: Path) -> None:
    """Whatever is done with a log."""
    with path.open("rb") as stream:
        try:
            sensors = facts_of(path).sensors
            for item in contents(frames(stream)):
                if isinstance(item, Copied) and item.sensor in sensors:
                    sensor = sensors[item.sensor]
                    try:
                        log_messages.decode(item.channel.schema, sensor, item.message.log_time, item.message.data)
                    except BadData:
                        continue
        except (Damaged, ReplayError):
            return


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_random_damage(tmp_path: Path, compression: Compression) -> None:
    rng = random.Random(f"damage {compression}")
    data = whole_log(tmp_path / "whole.mcap", compression)
    whole = messages(tmp_path / "whole.mcap")
    with (tmp_path / "whole.mcap").open("rb") as stream:
        heads = [offset for offset, _, _ in frames(stream)]
    path, out = tmp_path / "damaged.mcap", tmp_path / "out.mcap"
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = repaired = 0
    for _ in range(TRIALS):
        path.write_bytes(damaged(data, heads, rng))
        read(path)
        with contextlib.suppress(ReplayError):  # its facts are gone
            opened += sum(topic.count for topic in survey([path]).topics.values()) > 0
        try:
            repair(path, out)
        except ReplayError:
            assert not out.exists()
            continue
        found = messages(out)
        repaired += bool(found)
        assert {content for *_, content in found} <= {content for *_, content in whole}
        out.unlink()
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after_kib - before_kib < MAX_BYTES / 1024
    assert TRIALS // 2 < opened <= TRIALS
    assert opened <= repaired
