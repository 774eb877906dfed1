"""Paired data as webdataset shards: one example is one moment, seen and heard and felt at once.

A shard is a tar file whose members share a key per example:

    KEY.older.jpg KEY.newer.jpg     the two frames, RGB
    KEY.depth.png                   uint16 millimetres, 0 where there is no reading
    KEY.thermal.png                 uint16 hundredths of a kelvin
    KEY.audio.flac                  16 bit, one channel
    KEY.imu.npy                     float16 [n, 6]: m/s2, rad/s
    KEY.about.json                  `About`: captions, and what is seen and heard

Of depth, thermal, audio and IMU an example may lack what its robot had no sensor for.

Beside the shards, `dataset.json` names the classes (`Classes`) with the phrases that zero-shot evaluation uses.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from common.errors import UserFault
from common.physics import ZERO_KELVIN_C

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the stored frames."""

JPEG_QUALITY: Final = 95
AUDIO_RATE_HZ: Final = 16000
INDEX: Final = "dataset.json"
_END_BYTES: Final = 2 * tarfile.BLOCKSIZE


class DatasetError(UserFault):
    """Shards cannot be used; one line: which, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The things of one label that the frames show clearly: their boxes, and phrases that are true of them."""

    boxes: tuple[Box, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class About:
    """Labels and captions of an example.

    `seen` maps labels to what of them is clearly in view. `scene` holds captions of the frames as a whole (of several
    things, or of none), `movement` captions of how the camera moves.
    `heard` is the label of the one thing that the audio is of, "" when nothing but background sounds, None when it
    is mixed or faint. `shown` tells whether the frames show what is heard (for "": show nothing that ever sounds):
    only such examples are audio-image pairs. `clear` tells whether nothing stands half in view or too small to
    tell, so that a label that is not in `seen` is not in the frames. `motion` is the label of the motion that the
    IMU block ends in, "" when it has just changed. `labelled` tells whether any of this is known: a moment out of a
    log is a pair of an image with what was measured at once, whatever that is of.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    scene: tuple[str, ...] = ()
    movement: tuple[str, ...] = ()
    heard: str | None = None
    shown: bool = False
    clear: bool = True
    motion: str = ""
    labelled: bool = True

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo `to_json`; wrong fields raise TypeError or KeyError."""
        values: dict[str, Any] = json.loads(text)
        seen = {
            label: Seen(tuple(tuple(box) for box in item["boxes"]), tuple(item["captions"]))
            for label, item in values.pop("seen").items()
        }
        scene, movement = (tuple(values.pop(name)) for name in ("scene", "movement"))
        return cls(seen=seen, scene=scene, movement=movement, **values)

    def to_json(self) -> str:
        """All fields as one line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One moment: frames uint8 [2, H, W, 3] (older, newer), audio float32 [n], depth_m and temperature_c float32
    [H, W], imu float32 [n, 6]; None for what was not measured.
    """

    key: str
    frames: NDArray[np.uint8]
    audio: NDArray[np.float32] | None
    depth_m: NDArray[np.float32] | None
    temperature_c: NDArray[np.float32] | None
    imu: NDArray[np.float32] | None
    about: About
    audio_rate_hz: int = AUDIO_RATE_HZ


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels with the phrases of zero-shot classification; `absent` phrases say that none of them is there."""

    seen: dict[str, tuple[str, ...]]
    heard: dict[str, tuple[str, ...]]
    motions: dict[str, tuple[str, ...]]
    absent_seen: tuple[str, ...]
    absent_heard: tuple[str, ...]


def encode(example: Example) -> dict[str, Any]:
    """The members of an example, as a webdataset writer takes them."""
    import cv2
    import soundfile

    older, newer = (np.ascontiguousarray(frame[..., ::-1]) for frame in example.frames)  # OpenCV stores BGR
    jpeg = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    png = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    members: dict[str, Any] = {
        "__key__": example.key,
        "older.jpg": cv2.imencode(".jpg", older, jpeg)[1].tobytes(),
        "newer.jpg": cv2.imencode(".jpg", newer, jpeg)[1].tobytes(),
    }
    if example.depth_m is not None:
        depth_mm = np.clip(np.round(example.depth_m * 1e3), 0, 65535).astype(np.uint16)
        members["depth.png"] = cv2.imencode(".png", depth_mm, png)[1].tobytes()
    if example.temperature_c is not None:
        centikelvin = np.clip(np.round((example.temperature_c - ZERO_KELVIN_C) * 100), 0, 65535).astype(np.uint16)
        members["thermal.png"] = cv2.imencode(".png", centikelvin, png)[1].tobytes()
    if example.audio is not None:
        flac = io.BytesIO()
        soundfile.write(flac, np.clip(example.audio, -1, 1), example.audio_rate_hz, format="FLAC", subtype="PCM_16")
        members["audio.flac"] = flac.getvalue()
    if example.imu is not None:
        imu = io.BytesIO()
        np.save(imu, example.imu.astype(np.float16))
        members["imu.npy"] = imu.getvalue()
    return members | {"about.json": example.about.to_json().encode()}


def decode(members: Mapping[str, Any]) -> Example:
    """Undo `encode`; a missing or damaged member raises DatasetError that names the example."""
    import cv2
    import soundfile

    def plane(name: str, scale: float, offset: float) -> NDArray[np.float32] | None:
        if name not in members:
            return None
        counts = picture(name, cv2.IMREAD_UNCHANGED).astype(np.float32)
        return counts / np.float32(scale) - np.float32(offset)

    def picture(name: str, flags: int) -> NDArray[Any]:
        found = cv2.imdecode(np.frombuffer(members[name], np.uint8), flags)
        if found is None:
            raise ValueError(f"{name} is not a picture")
        return np.asarray(found)

    try:
        frames = [picture(name, cv2.IMREAD_COLOR)[..., ::-1] for name in ("older.jpg", "newer.jpg")]
        audio, rate = None, AUDIO_RATE_HZ
        if "audio.flac" in members:
            audio, rate = soundfile.read(io.BytesIO(members["audio.flac"]), dtype="float32")
        imu = np.load(io.BytesIO(members["imu.npy"])).astype(np.float32) if "imu.npy" in members else None
        return Example(
            key=members["__key__"],
            frames=np.stack(frames),
            audio=audio,
            depth_m=plane("depth.png", 1e3, 0.0),
            temperature_c=plane("thermal.png", 100, -ZERO_KELVIN_C),
            imu=imu,
            about=About.from_json(bytes(members["about.json"]).decode()),
            audio_rate_hz=rate,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DatasetError(
            f"example {members.get('__key__')} cannot be read ({error!r}); write the shards again"
        ) from error


def _webdataset() -> Any:
    """The package, which is an extra. Raises DatasetError where it is not installed."""
    try:
        import webdataset.tariterators
        import webdataset.writer
    except ImportError as error:
        raise DatasetError(
            f"shards are read and written by webdataset: {error}; install it: pip install 'sensebind[train]'"
        ) from None
    return webdataset


def write_shard(path: Path, examples: Iterable[Example]) -> int:
    """Write one shard, whole or not at all; equal examples give equal bytes. Returns the number of examples."""
    TarWriter = _webdataset().writer.TarWriter
    partial = path.with_name(f"{path.name}.partial")
    written = 0
    # Recordings are private.
    with (
        open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
        TarWriter(file, encoder=False, mtime=0.0) as tar,
    ):
        for example in examples:
            tar.write(encode(example))
            written += 1
    partial.replace(path)
    return written


def write_index(folder: Path, classes: Classes) -> None:
    """Write the names of the classes beside the shards."""
    (folder / INDEX).write_text(json.dumps(asdict(classes), indent=1) + "\n")


def read_index(folder: Path) -> Classes:
    """Read what `write_index` wrote; raises DatasetError when it is missing or damaged."""
    path = folder / INDEX
    try:
        values = json.loads(path.read_text())
        groups = {name: {k: tuple(v) for k, v in values[name].items()} for name in ("seen", "heard", "motions")}
        return Classes(**groups, absent_seen=tuple(values["absent_seen"]), absent_heard=tuple(values["absent_heard"]))
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); write the shards with `sensebind simulate`") from error


def shards_of(folder: Path) -> list[Path]:
    """The shards of a folder in order; raises DatasetError when there is none."""
    if not (found := sorted(folder.glob("*.tar"))):
        raise DatasetError(f"{folder}: holds no .tar shards; write some with `sensebind simulate`")
    return found


def count(folder: Path) -> int:
    """Number of examples in all shards of a folder, from the tars' headers; errors as `members_of`."""
    total = 0
    for shard in shards_of(folder):
        total += sum(name.endswith(".about.json") for name in _names(shard))
    return total


def _names(shard: Path) -> list[str]:
    """The names of a shard's members. Raises DatasetError for one that is damaged, or cut off, be it between members:
    a tar ends with two blocks of zeros, and its readers take a missing end for the end.
    """
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file) as tar:
            names = tar.getnames()
            file.seek(tar.offset)
            if file.read(_END_BYTES) != bytes(_END_BYTES):
                raise tarfile.ReadError(f"it is cut off after {len(names)} members")
            return names
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(f"{shard}: damaged ({error}); write it again with `sensebind simulate`") from error


def members_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Undecoded examples of all shards, in order; raises DatasetError when there are none or a tar is damaged."""
    tars = _webdataset().tariterators
    for shard in shards_of(folder):
        _names(shard)
        try:
            with shard.open("rb") as file:
                yield from tars.group_by_keys(tars.tar_file_expander([{"url": str(shard), "stream": file}]))
        except (OSError, ValueError, tarfile.TarError) as error:
            raise DatasetError(f"{shard}: damaged ({error}); write it again with `sensebind simulate`") from error


def read(folder: Path) -> Iterator[Example]:
    """Examples of all shards of a folder, in order."""
    return map(decode, members_of(folder))


def all_captions(about: About) -> tuple[str, ...]:
    """Every caption of an example."""
    return (*(text for seen in about.seen.values() for text in seen.captions), *about.scene, *about.movement)
