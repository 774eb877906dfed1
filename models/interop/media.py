"""Files as the published ImageBind code reads them: whole recordings, and the frames of videos that make clips.

    image   `common.media.picture`              -> uint8   [H, W, 3] RGB
    audio   WAV, FLAC, Ogg, MP3 (libsndfile)    -> float32 [n, channels] in -1..1, and its rate
    video   MP4, MKV, WebM, AVI ... (FFmpeg)    -> uint8   [clips, 2, H, W, 3] RGB

Whatever is wrong with a file raises MediaError. A video's turn is made: FFmpeg hands out turned frames.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.media.fault import FilePath, MediaError
from common.media.sound import read_sound
from common.media.video import VideoReader

CLIP_S: Final = 2
AUDIO_VALUES_MAX: Final = 2**28
"""Samples of all channels, 1 GiB as float32: 4.6 hours of 16 kHz mono."""
_WHOLE: Final = 0.9
"""A video whose last frame comes before this part of the length that its header states was cut."""
_TICKS: Final = 4
"""A stated rate that is this many times the mean one is that of a clock, not of frames."""

_log = logging.getLogger(__name__)


def read_audio(path: FilePath) -> tuple[NDArray[np.float32], float]:
    """The whole recording, float32 [n, channels] with full scale -1..1, and its rate in Hz.

    Raises MediaError, also when it is longer than AUDIO_VALUES_MAX, or ends before the length that it states.
    """
    return read_sound(path, AUDIO_VALUES_MAX)


def read_clips(path: FilePath, clips: int) -> NDArray[np.uint8]:
    """The frames that `clip_frames` chooses, uint8 [clips, 2, H, W, 3] RGB. Raises MediaError.

    The rate is the average one that the file states and frames are counted, so a varying rate is taken as even, as
    the published code does. The video is decoded once, or twice where its header does not state how many frames it
    has, or at which rate: many containers state an estimate, or nothing.
    """
    with VideoReader(path) as video:
        stated, rate_hz = video.stated_pictures, video.stated_rate_hz or video.rate_hz
        frames, count, end_s = _decoded(video, _wanted(max(stated, 1), rate_hz, clips))
        if 0 < end_s < _WHOLE * stated / rate_hz:
            _log.warning("%s: ends after %.1f of %.1f s, it may be truncated", path, end_s, stated / rate_hz)
        if not video.has_times:
            _log.warning("%s: holds no times of its frames; they are taken for %.3g a second", path, rate_hz)
        elif rate_hz > _TICKS * video.rate_hz:
            rate_hz = video.rate_hz
        wanted = _wanted(count, rate_hz, clips)
        if not wanted <= frames.keys():
            video.rewind()
            frames, _, _ = _decoded(video, wanted)
    if len(shapes := {frame.shape for frame in frames.values()}) > 1:
        sizes = ", ".join(sorted(f"{width}x{height}" for height, width, _ in shapes))
        raise MediaError(f"{path}: its frames have different sizes ({sizes}); convert it to one size")
    return np.stack([np.stack([frames[i] for i in pair]) for pair in clip_frames(count, rate_hz, clips)])


def clip_frames(count: int, rate_hz: float, clips: int) -> list[tuple[int, int]]:
    """First and last frame of each of `clips` clips of 2 s in a video of `count` frames, as pytorchvideo chooses them.

    Clip i starts at i / clips of the room that the video has beyond 2 s, so the last one ends before the video does;
    it takes the frames of [ceil(rate * start), ceil(rate * end)), or the next one where there are none. In a video
    of 2 s or less all clips are the whole of it.

    >>> clip_frames(count=300, rate_hz=30.0, clips=5)
    [(0, 59), (48, 107), (96, 155), (144, 203), (192, 251)]
    """
    room_s = max(Fraction(count / rate_hz) - CLIP_S, Fraction(0))
    pairs = []
    for i in range(clips):
        start_s = room_s * i / clips
        first = min(math.ceil(rate_hz * start_s), count - 1)
        pairs.append((first, max(first, min(math.ceil(rate_hz * (start_s + CLIP_S)), count) - 1)))
    return pairs


def _wanted(count: int, rate_hz: float, clips: int) -> set[int]:
    return {i for pair in clip_frames(count, rate_hz, clips) for i in pair}


def _decoded(video: VideoReader, wanted: Collection[int]) -> tuple[dict[int, NDArray[np.uint8]], int, float]:
    """The wanted frames, uint8 [H, W, 3] RGB by number; how many frames there are; seconds to the last one's end."""
    frames: dict[int, NDArray[np.uint8]] = {}
    count, first_ns = 0, None
    while (t_ns := video.grab()) is not None:
        first_ns = t_ns if first_ns is None else first_ns
        if count in wanted:
            frames[count] = video.picture()[..., ::-1]
        count += 1
    return frames, count, (video.read_ns - (first_ns or 0)) / 1e9
