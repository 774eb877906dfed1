"""Picture and sound around a time, taken out of a recording."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.config.parse import Config
from agent.log import messages
from agent.log.format import LoggedSensor, sensor_of
from agent.log.replay.source import LATEST_NS
from agent.log.timeline import Entry, Timeline
from drivers import codec
from drivers.driver import BadData, Modality, Sample
from drivers.forms import check_form

PICTURE_BEFORE_NS = 5_000_000_000
"""A picture that is older than this shows something else."""
SOUND_BEFORE_NS = 4_000_000_000
"""The window of a tick is the 2 s before it; as much again lets one hear how it began."""
SOUND_AFTER_NS = 2_000_000_000
_FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class Moment:
    """Files' contents; None where the recording holds nothing, or nothing that can be decoded."""

    picture: bytes | None
    """JPEG: the newest picture by then."""
    sound: bytes | None
    """WAV: the first channel, from SOUND_BEFORE_NS before to SOUND_AFTER_NS after; missing samples are silence."""


def moment(timeline: Timeline, config: Config, t_ns: int) -> Moment:
    """Look up a time. Memory is bounded by what lies in those seconds. Raises ReplayError."""
    camera, microphone = _first(timeline, config, "vision"), _first(timeline, config, "audio")
    newest: Entry | None = None
    blocks: list[Entry] = []
    for entry in timeline.read(t_ns - max(PICTURE_BEFORE_NS, SOUND_BEFORE_NS)):
        name, at_ns = sensor_of(entry.topic), entry.message.log_time
        if at_ns > t_ns + SOUND_AFTER_NS + LATEST_NS:
            break
        if name == microphone and abs(at_ns - t_ns) < 2 * SOUND_BEFORE_NS:
            blocks.append(entry)
        elif name == camera and t_ns - PICTURE_BEFORE_NS <= at_ns <= t_ns:
            newest = entry if newest is None or at_ns >= newest.message.log_time else newest
    picture = None if newest is None or camera is None else _sample(timeline.sensors[camera], newest)
    jpeg = None if picture is None else codec.encode_colour(picture.data, "jpeg").data
    sounds = [] if microphone is None else [_sample(timeline.sensors[microphone], block) for block in blocks]
    return Moment(jpeg, _wav([sound for sound in sounds if sound is not None], t_ns))


def _first(timeline: Timeline, config: Config, modality: Modality) -> str | None:
    """The first sensor of a kind in the configuration that the recording has."""
    return next((n for n in config.sensors if n in timeline.sensors and timeline.sensors[n].modality == modality), None)


def _sample(sensor: LoggedSensor, entry: Entry) -> Sample | None:
    try:
        sample = messages.decode(entry.schema, sensor, entry.message.log_time, entry.message.data)
        check_form(sample, sensor.modality)
    except BadData:
        return None
    return sample


def _wav(blocks: list[Sample], t_ns: int) -> bytes | None:
    """Blocks at the rate of the first, each at its time."""
    if not blocks:
        return None
    rate_hz = round(blocks[0].rate_hz)
    pcm: NDArray[np.int16] = np.zeros((SOUND_BEFORE_NS + SOUND_AFTER_NS) * rate_hz // 10**9, np.int16)
    heard = False
    for block in blocks:
        first = round((block.t_ns - (t_ns - SOUND_BEFORE_NS)) * rate_hz / 1e9)
        begin, end = max(first, 0), min(first + len(block.data), len(pcm))
        if begin < end and round(block.rate_hz) == rate_hz:
            rows = np.nan_to_num(block.data[begin - first : end - first, 0], posinf=1.0, neginf=-1.0)
            pcm[begin:end] = np.rint(np.clip(rows, -1, 1) * _FULL_SCALE)
            heard = True
    if not heard:
        return None
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()
