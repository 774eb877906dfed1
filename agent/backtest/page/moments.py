"""Picture and sound around a time, taken out of a recording."""

from __future__ import annotations

import io
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
MOST_SIDE = 640
"""Pixels of the longer side of a picture; a larger one is made smaller, with the same ratio of its sides."""
JPEG_QUALITY = 80
_FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class Picture:
    """Newest picture of the first camera by a time."""

    jpeg: bytes
    width: int
    height: int
    t_ns: int
    """Capture time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Contents of a recording; None where it holds nothing, or nothing that can be decoded."""

    picture: Picture | None
    sound: bytes | None
    """FLAC: the first channel, from SOUND_BEFORE_NS before to SOUND_AFTER_NS after; missing samples are silence."""


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
    sounds = [] if microphone is None else [_sample(timeline.sensors[microphone], block) for block in blocks]
    return Moment(
        None if picture is None else _picture(picture),
        _flac([sound for sound in sounds if sound is not None], t_ns),
    )


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


def _picture(sample: Sample) -> Picture:
    import cv2

    height, width = sample.data.shape[:2]
    shrunk = MOST_SIDE / max(height, width)
    pixels = sample.data
    if shrunk < 1:
        width, height = max(1, round(width * shrunk)), max(1, round(height * shrunk))
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return Picture(codec.encode_colour(pixels, "jpeg", JPEG_QUALITY).data, width, height, sample.t_ns)


def _flac(blocks: list[Sample], t_ns: int) -> bytes | None:
    """Blocks at the rate of the first, each at its time; None at a rate that FLAC does not have."""
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
    return _encoded(pcm, rate_hz) if heard else None


def _encoded(pcm: NDArray[np.int16], rate_hz: int) -> bytes | None:
    import soundfile

    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, pcm, rate_hz, "PCM_16", format="FLAC")
    except (soundfile.SoundFileError, ValueError):
        return None
    return buffer.getvalue()
