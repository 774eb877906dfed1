"""ImageBind under the published code's interface: its example runs with only the import lines changed.

    from models.interop import published_api as data
    from models.interop import published_api as imagebind_model
    from models.interop.published_api import ModalityType

Files go in, scaled vectors come out: the vectors of `models.imagebind` have length 1, these carry the logit scale of
their modality, and clips are averaged after scaling. Arguments that ask for what is not supported raise ValueError,
files that cannot be used raise `common.media.fault.MediaError`, which is one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.media.fault import FilePath, MediaError
from common.media.picture import read_picture
from models import imagebind, preprocess, tokenizer
from models.encoders import AUDIO_FRAMES, AUDIO_MEL_BINS, FRAMES
from models.extent import IMAGE_PX
from models.files import checkpoint, store
from models.imagebind import ImageBind
from models.interop import media
from models.modalities import Modality

Device = torch.device | str | int
T = TypeVar("T")


class ModalityType:
    """The published names of the modalities; their values are this project's names too."""

    VISION: Final = "vision"
    TEXT: Final = "text"
    AUDIO: Final = "audio"
    THERMAL: Final = "thermal"
    DEPTH: Final = "depth"
    IMU: Final = "imu"


_CLIP_SHAPES: Final[Mapping[Modality, tuple[tuple[int, ...], ...]]] = {
    "vision": ((3, IMAGE_PX, IMAGE_PX), (3, FRAMES, IMAGE_PX, IMAGE_PX)),
    "audio": ((1, AUDIO_MEL_BINS, AUDIO_FRAMES),),
}
"""Shapes of one clip; an input holds several clips of each item when two dimensions come before such a shape."""


class ImageBindModel(nn.Module):
    """The published model's outputs, from an `ImageBind` of any sizes and modalities."""

    def __init__(self, model: ImageBind) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, inputs: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Float32 [B, D] for each input: unit vectors times the modality's logit scale, averaged over clips.

        The scale is 1 for vision, 20 for audio, 5 for depth, 10 for thermal, 5 for imu, and for text a learned one of
        at most 100. The mean of clips is not normalised again: it is shorter than the scale where clips differ.
        Inputs are what the functions below give, or what `ImageBind` takes. Raises `models.imagebind.InputError`.
        """
        return {modality: self._embedded(modality, x) for modality, x in inputs.items()}

    def _embedded(self, modality: Modality, x: Tensor) -> Tensor:
        clips = x.shape[1] if x.shape[2:] in _CLIP_SHAPES.get(modality, ()) else 0
        flat = x.flatten(0, 1) if clips else x  # [B * clips, ...]
        vectors: Tensor = self.model({modality: flat})[modality] * self.model.logit_scale(modality)
        return vectors.reshape(-1, clips, vectors.shape[-1]).mean(dim=1) if clips else vectors


def imagebind_huge(pretrained: bool = False) -> ImageBindModel:
    """1.2 billion parameters in float32: the published weights, ready for evaluation, or random ones.

    Raises CheckpointError naming the command that fetches the weights when they are not there.
    """
    if not pretrained:
        return ImageBindModel(imagebind.imagebind_huge())
    return ImageBindModel(checkpoint.load(store.find("imagebind-huge")))


def load_and_transform_text(text: Iterable[str] | None, device: Device) -> Tensor | None:
    """Texts -> tokens, int64 [B, 77] on `device`; None -> None."""
    return None if text is None else tokenizer.tokenize(_several("text", text)).to(device)


def load_and_transform_vision_data(image_paths: Iterable[FilePath] | None, device: Device) -> Tensor | None:
    """Image files -> [B, 3, 224, 224] on `device`; None -> None. See `image_input`."""
    return _stacked("image_paths", image_paths, lambda path: image_input(path, device))


def load_and_transform_audio_data(
    audio_paths: Iterable[FilePath] | None,
    device: Device,
    num_mel_bins: int = AUDIO_MEL_BINS,
    target_length: int = AUDIO_FRAMES,
    sample_rate: int = preprocess.AUDIO_RATE_HZ,
    clip_duration: int = preprocess.AUDIO_WINDOW_S,
    clips_per_video: int = 3,
    mean: float = preprocess.AUDIO_MEAN,
    std: float = preprocess.AUDIO_STD,
) -> Tensor | None:
    """Audio files -> [B, clips, 1, 128, 204] on `device`; None -> None. See `audio_input`.

    All but `clips_per_video` describe what the encoder was trained on, and have no other value.
    """
    _check_only("num_mel_bins", num_mel_bins, AUDIO_MEL_BINS)
    _check_only("target_length", target_length, AUDIO_FRAMES)
    _check_only("sample_rate", sample_rate, preprocess.AUDIO_RATE_HZ)
    _check_only("clip_duration", clip_duration, preprocess.AUDIO_WINDOW_S)
    _check_only("mean", mean, preprocess.AUDIO_MEAN)
    _check_only("std", std, preprocess.AUDIO_STD)
    _check_clips(clips_per_video)
    return _stacked("audio_paths", audio_paths, lambda path: audio_input(path, device, clips_per_video))


def load_and_transform_video_data(
    video_paths: Iterable[FilePath] | None,
    device: Device,
    clip_duration: int = media.CLIP_S,
    clips_per_video: int = 5,
    sample_rate: int = preprocess.AUDIO_RATE_HZ,  # noqa: ARG001 (the published code reads no sound here either)
) -> Tensor | None:
    """Video files -> [B, 3 * clips, 3, 2, 224, 224] on `device`; None -> None. See `video_input`.

    `clip_duration` is in the published code both the seconds and the frames of a clip, and has no other value than 2.
    `sample_rate` belongs to the sound track, which is not read.
    """
    _check_only("clip_duration", clip_duration, media.CLIP_S)
    _check_clips(clips_per_video)
    return _stacked("video_paths", video_paths, lambda path: video_input(path, device, clips_per_video))


def image_input(path: FilePath, device: Device) -> Tensor:
    """An image file -> [3, 224, 224], by `models.preprocess.vision`. Raises MediaError.

    The picture is taken as it is stored, without the turn that a camera may have noted in EXIF, as published.
    """
    frames = read_picture(path)[None, None]  # [1, 1, H, W, 3]
    with _naming(path):
        return preprocess.vision(frames, device=torch.device(device))[0, :, 0]


def audio_input(path: FilePath, device: Device, clips: int = 3) -> Tensor:
    """An audio file of any rate and length -> [clips, 1, 128, 204], by `models.preprocess.audio_clips`.

    Raises MediaError.
    """
    waveform, rate_hz = media.read_audio(path)
    with _naming(path):
        return preprocess.audio_clips(waveform[None], rate_hz, clips, device=torch.device(device))[0]


def video_input(path: FilePath, device: Device, clips: int = 5) -> Tensor:
    """A video file -> [3 * clips, 3, 2, 224, 224]: three squares of the first clip, three of the second ...

    `models.interop.media.clip_frames` says which frames make the clips. Raises MediaError.
    """
    frames = media.read_clips(path, clips)  # [clips, 2, H, W, 3]
    with _naming(path):
        return torch.cat([_three_squares(torch.from_numpy(clip).to(device)) for clip in frames])


def _three_squares(clip: Tensor) -> Tensor:
    """Two frames, uint8 [2, H, W, 3] -> [3, 3, 2, 224, 224]: left, middle and right, or top, middle and bottom.

    Unlike still images, videos are resized without antialiasing, as published: bilinear, the longer side rounded down.
    """
    height, width = clip.shape[1:3]
    short = min(height, width)
    if max(height, width) > preprocess.ASPECT_MAX * short:
        raise preprocess.PreprocessError(f"frames of {width}x{height} are too long; crop the video")
    size = (math.floor(height / short * IMAGE_PX), math.floor(width / short * IMAGE_PX))
    x = clip.permute(3, 0, 1, 2).float() / 255  # [3, 2, H, W]
    x = F.interpolate(x, size, mode="bilinear")  # [3, 2, 224, longer] or [3, 2, longer, 224]
    mean, std = (x.new_tensor(values).view(3, 1, 1, 1) for values in (preprocess.RGB_MEAN, preprocess.RGB_STD))
    x = (x - mean) / std
    room = max(size) - IMAGE_PX
    along = 2 if height > width else 3
    return torch.stack([x.narrow(along, start, IMAGE_PX) for start in (0, math.ceil(room / 2), room)])


def _stacked(name: str, paths: Iterable[FilePath] | None, load: Callable[[FilePath], Tensor]) -> Tensor | None:
    return None if paths is None else torch.stack([load(path) for path in _several(name, paths)])


def _several(name: str, values: Iterable[T]) -> list[T]:
    """The values, if there are any; a single string would be taken apart into its letters."""
    if isinstance(values, str | bytes | os.PathLike) or not (listed := list(values)):
        raise ValueError(f"{name} is {values!r}; give a list with at least one")
    return listed


def _check_only(name: str, value: float, supported: float) -> None:
    if value != supported:
        raise ValueError(f"{name} is {value!r}; only {supported!r} is supported")


def _check_clips(clips: int) -> None:
    if type(clips) is not int or clips < 1:
        raise ValueError(f"clips_per_video is {clips!r}; it must be a whole number from 1")


@contextmanager
def _naming(path: FilePath) -> Iterator[None]:
    """Name the file whose content cannot be used."""
    try:
        yield
    except preprocess.PreprocessError as error:
        raise MediaError(f"{path}: {error}") from error
