"""Image, audio and video files -> arrays, and which frames of a video make clips.

    image   any of IMAGE_FORMATS                -> uint8   [H, W, 3] RGB
    audio   WAV, FLAC, Ogg, MP3 (libsndfile)    -> float32 [n, channels] in -1..1, and its rate
    video   MP4, MKV, WebM, AVI ... (FFmpeg)    -> uint8   [clips, 2, H, W, 3] RGB

Whatever is wrong with a file raises MediaError. Pictures are as they are stored: an EXIF turn is not made, as the
published ImageBind code makes none. A video's turn is made: FFmpeg hands out turned frames.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Collection
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import UserFault

FilePath = str | os.PathLike[str]

IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA")
"""Formats that Pillow may decode; of others, EPS would start Ghostscript on the file."""
CLIP_S: Final = 2
AUDIO_VALUES_MAX: Final = 2**28
"""Samples of all channels, 1 GiB as float32: 4.6 hours of 16 kHz mono."""
_UNSTATED: Final = 2**62
"""libsndfile gives the largest int64 for a FLAC without a length, and cannot read to its end."""
_WHOLE: Final = 0.9
"""A video whose last frame comes before this part of the length that its header states was cut."""

_log = logging.getLogger(__name__)


class MediaError(UserFault, ValueError):
    """A file cannot be read as what it should be; one line: which file, what is wrong, what to do."""


def read_image(path: FilePath) -> NDArray[np.uint8]:
    """The picture as RGB, uint8 [H, W, 3]; of an animation the first frame, of transparency nothing.

    Raises MediaError, also for more pixels than Pillow's limit against decompression bombs (89 million).
    """
    from PIL import Image, UnidentifiedImageError

    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that nothing here reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise MediaError(f"{path}: not a picture that can be read; use one of {', '.join(IMAGE_FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise MediaError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down first") from None
    except Exception as error:  # whatever a damaged file makes of Pillow's plugins
        raise MediaError(f"{path}: damaged or truncated picture ({_line(error)}); write it again") from error


def read_audio(path: FilePath) -> tuple[NDArray[np.float32], float]:
    """The whole recording, float32 [n, channels] with full scale -1..1, and its rate in Hz.

    Raises MediaError, also when it is longer than AUDIO_VALUES_MAX, or ends before the length that it states.
    """
    import soundfile

    check_file(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate_hz, rows = float(file.samplerate), file.frames
            if rows >= _UNSTATED:
                raise MediaError(f"{path}: does not state its length, as if written to a pipe; write it again as WAV")
            if rows * file.channels > AUDIO_VALUES_MAX:
                raise MediaError(f"{path}: is {rows / rate_hz:.0f} s long, more than can be held; cut it into parts")
            samples: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: .raw, which states no format
        raise MediaError(f"{path}: cannot be read as audio ({_line(error)}); convert it to WAV or FLAC") from None
    if len(samples) < rows:
        raise MediaError(f"{path}: ends after {len(samples)} of {rows} samples, truncated; write it again")
    if not rows:
        raise MediaError(f"{path}: the recording is empty")
    return samples, rate_hz


def read_clips(path: FilePath, clips: int) -> NDArray[np.uint8]:
    """The frames that `clip_frames` chooses, uint8 [clips, 2, H, W, 3] RGB. Raises MediaError.

    The rate is the average one that the file states and frames are counted, so a varying rate is taken as even, as
    the published code does. The video is decoded once, or twice where its header does not state how many frames it
    has: many containers state an estimate, or nothing.
    """
    import cv2

    check_file(path)
    name = os.fspath(path)
    if name != name.encode(errors="replace").decode():
        raise MediaError(f"{name!a}: a name that is not UTF-8, which OpenCV cannot open; rename the file")
    capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    opened, rate_hz = capture.isOpened(), float(capture.get(cv2.CAP_PROP_FPS))
    stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if opened else 0
    capture.release()
    if not opened or not (math.isfinite(rate_hz) and rate_hz > 0):
        raise MediaError(f"{path}: not a video that FFmpeg can read, or one without a frame rate; convert it to MP4")
    frames, count, end_s = _decoded(path, _wanted(max(stated, 1), rate_hz, clips))
    if not count:
        raise MediaError(f"{path}: no frame of it can be decoded; write it again")
    if 0 < end_s < _WHOLE * stated / rate_hz - 1 / rate_hz:
        _log.warning("%s: ends after %.1f of %.1f s, it may be truncated", path, end_s, stated / rate_hz)
    if count != stated:
        frames, _, _ = _decoded(path, _wanted(count, rate_hz, clips))
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


def check_file(path: FilePath) -> None:
    """Raise MediaError unless this is a file that may be read."""
    if not os.path.isfile(path):
        raise MediaError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from None


def _wanted(count: int, rate_hz: float, clips: int) -> set[int]:
    return {i for pair in clip_frames(count, rate_hz, clips) for i in pair}


def _decoded(path: FilePath, wanted: Collection[int]) -> tuple[dict[int, NDArray[np.uint8]], int, float]:
    """The wanted frames, uint8 [H, W, 3] RGB by number; how many frames there are; the time of the last one."""
    import cv2

    capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    frames: dict[int, NDArray[Any]] = {}
    count, end_s = 0, 0.0
    while capture.grab():
        if count in wanted:
            taken, frame = capture.retrieve()
            if not taken:
                raise MediaError(f"{path}: frame {count} cannot be decoded; write it again")
            frames[count] = frame[..., ::-1]
        count += 1
        end_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    capture.release()
    return frames, count, end_s


def _line(error: Exception) -> str:
    """The first line of what a library says, without a full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
