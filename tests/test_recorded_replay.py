"""Samples of a replay are samples like any others: they can be changed by `replace`, and recorded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_run import SENSORS, facts, recorded, replayed, samples

from agent.config.recording import PictureFormat, RecordSettings
from agent.log import messages
from agent.log.format import LoggedSensor
from agent.log.recording.recorder import Recorder
from agent.log.replay.pictures import LoggedPicture, StoredPicture
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from drivers.driver import BadData, Sample

EXACT = RecordSettings(pictures=PictureFormat(colour="png"))


def stored(sample: Sample, modality: str = "vision", form: PictureFormat = EXACT.pictures) -> StoredPicture:
    sensor = LoggedSensor(modality, 10.0, scale=0.001)  # type: ignore[arg-type]
    _, message = messages.encode("camera", sensor, sample, form)
    return StoredPicture(message.DESCRIPTOR.full_name, sensor, message.SerializeToString())


def test_a_replay_is_recorded_as_it_is_played_and_the_copy_holds_the_same_samples(tmp_path: Path) -> None:
    handed = samples(12)
    handed[5] = handed[5][0], replace(handed[5][1], lost=2)  # a picture before which two are missing
    original = recorded(tmp_path / "original.mcap", handed, facts(), EXACT)
    replay = SampleReplay(original)
    with Recorder(tmp_path / "copy.mcap", facts(), EXACT, policy=LOSSLESS) as recorder:
        replay.start()
        while not replay.ended:
            for sensor, sample in replay.poll(0.0):
                recorder.write_sample(sensor, sample)
        replay.stop()
    assert not recorder.report().drops
    first, copy = replayed(SampleReplay(original)), replayed(SampleReplay(tmp_path / "copy.mcap"))
    assert {name for name, _ in copy} == set(SENSORS)
    assert len(copy) == len(handed)
    for (name, was), (copied_name, now) in zip(first, copy, strict=True):
        assert (copied_name, now.t_ns, now.rate_hz, now.lost) == (name, was.t_ns, was.rate_hz, was.lost)
        assert now.data.dtype == was.data.dtype
        assert np.array_equal(now.data, was.data)


@pytest.mark.parametrize("sensor", SENSORS)
def test_every_field_of_a_replayed_sample_can_be_replaced(tmp_path: Path, sensor: str) -> None:
    path = recorded(tmp_path / "run.mcap", samples(3), facts())
    sample = next(sample for name, sample in replayed(SampleReplay(path)) if name == sensor)
    moved = replace(sample, t_ns=sample.t_ns + 5, lost=3)
    assert (moved.t_ns, moved.lost, moved.rate_hz) == (sample.t_ns + 5, 3, sample.rate_hz)
    assert np.array_equal(moved.data, sample.data)
    other = np.ones_like(sample.data)
    assert np.array_equal(replace(sample, data=other).data, other)
    assert isinstance(moved.seen(), Sample)


def test_a_picture_is_decoded_once_and_only_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    sample_of = messages.sample_of

    def counted(message: messages.Message, sensor: LoggedSensor, t_ns: int) -> Sample:
        decoded.append(1)
        return sample_of(message, sensor, t_ns)

    monkeypatch.setattr(messages, "sample_of", counted)
    pixels = np.full((8, 12, 3), 77, np.uint8)
    picture = LoggedPicture(40, stored(Sample(40, pixels)), lost=1)
    assert (picture.t_ns, picture.end_ns, picture.lost) == (40, 40, 1)
    assert picture.seen().data.nbytes == 4
    assert not decoded
    assert np.array_equal(picture.data, pixels)
    assert picture.data is picture.data
    assert len(decoded) == 1


@pytest.mark.parametrize("form", ["jpeg", "png", "raw"])
def test_stand_ins_differ_where_pictures_differ_and_nowhere_else(form: str) -> None:
    pictures = PictureFormat(colour=form)  # type: ignore[arg-type]
    one, other = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 90, np.uint8)
    first, again, changed = (
        LoggedPicture(t_ns, stored(Sample(t_ns, pixels), form=pictures))
        for t_ns, pixels in ((1, one), (2, one), (3, other))
    )
    assert np.array_equal(first.seen().data, again.seen().data)
    assert not np.array_equal(first.seen().data, changed.seen().data)


def test_a_message_that_is_not_a_picture_is_refused_at_once() -> None:
    sensor = LoggedSensor("vision", 10.0)
    _, message = messages.encode("imu", LoggedSensor("imu", 100.0), Sample(1, np.zeros((2, 6), np.float32), 100.0))
    with pytest.raises(BadData, match="where a picture was wanted"):
        StoredPicture(messages.SAMPLE_SCHEMA, sensor, message.SerializeToString())
    with pytest.raises(BadData, match="not a message"):
        StoredPicture(messages.IMAGE_SCHEMA, sensor, b"\xff\xff")
    with pytest.raises(BadData, match=r"a message of nonsense; wanted foxglove\.CompressedImage"):
        messages.parse("nonsense", b"")
