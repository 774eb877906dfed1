"""Examples as tensors, and batches of pairs drawn from them.

A batch holds pairs of one kind: images with texts, or images with audio, and so on. Examples are grouped by what they
are about, and every batch draws from the groups in fixed proportions, so that what is rare is trained on as much.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.progress import Progress, untold
from models import preprocess
from models.datasets.dataset import About, Box, DatasetError, Example, count, decode, members_of
from models.datasets.rows_file import RowsFile
from models.modalities import Modality
from models.preprocess import RGB_MEAN, RGB_STD, CropMap

Group = tuple[Literal["thing", "nothing", "several", "movement", "any"], str]
"""Subject of pairs: the kind of statement, and its label if it has one."""

LEAST_PAIRS: Final = 2
"""A pair is told from others."""

_WEIGHTS: Final = {"thing": 1.0, "nothing": 3.0, "several": 1.5, "movement": 0.3, "any": 1.0}
_SIDES: Final = {"left": "right", "right": "left"}

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Examples:
    """N examples: labels and captions of each, and the model's inputs of the loaded modalities.

    `inputs[modality]` holds a row of each example that has the modality: vision uint8 [n, 3, 2, 224, 224] in RGB
    levels, the others float16 as `models.preprocess` makes them. `boxes[i]` are the boxes of `about[i]` in pixels of
    the model's 224 px crop.
    """

    about: list[About]
    boxes: list[dict[str, list[Box]]]
    inputs: dict[Modality, Tensor]
    places: dict[Modality, NDArray[np.int64]] = field(default_factory=dict)
    """Rows of `inputs` by example, [N], -1 for one that lacks the modality; where none are given, all have it."""

    def __len__(self) -> int:
        return len(self.about)

    def having(self, modality: Modality) -> NDArray[np.int64]:
        """Return the numbers of the examples that hold a modality, in order."""
        if modality not in self.inputs:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.places[modality] >= 0) if modality in self.places else np.arange(len(self))

    def batch(self, modality: Modality, rows: NDArray[np.int64] | Sequence[int]) -> Tensor:
        """The model's input for some examples that hold the modality, float32 [B, ...]."""
        numbers = np.asarray(rows, np.int64)
        places = self.places[modality][numbers] if modality in self.places else numbers
        chosen = self.inputs[modality][torch.as_tensor(places)]
        return normalised(chosen) if modality == "vision" else chosen.float()


def normalised(levels: Tensor) -> Tensor:
    """RGB levels [B, 3, 2, H, W], uint8 or float 0..255 -> the model's vision input."""
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255 for values in (RGB_MEAN, RGB_STD))
    return (levels.float() - mean) / std


def load(
    folders: Path | Sequence[Path],
    modalities: Iterable[Modality],
    threads: int = 2,
    *,
    scratch: Path | None = None,
    progress: Progress = untold,
) -> Examples:
    """Read all shards of some folders, keeping the inputs of `modalities` only. Raises DatasetError and NoRoom.

    The inputs, 0.3 to 0.6 MB an example, lie in files without a name in the folder `scratch`, by default that of
    temporary files; memory holds labels and captions. `progress` is told examples.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    wanted = tuple(modality for modality in modalities if modality != "text")
    about, boxes, unusable = list[About](), list[dict[str, list[Box]]](), list[str]()
    files: dict[Modality, RowsFile] = {}
    places: dict[Modality, list[int]] = {modality: [] for modality in wanted}
    faults: Counter[str] = Counter()
    total, read = sum(map(count, folders)), 0
    members = (item for folder in folders for item in members_of(folder))
    within = torch.get_num_threads()
    torch.set_num_threads(1)  # the pool is the parallelism
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, within)
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        while block := list(islice(members, 64)):
            for prepared in pool.map(lambda item: _prepared(item, wanted), block):
                faults.update(prepared.faults)
                if wanted and not ("vision" in prepared.inputs if "vision" in wanted else prepared.inputs):
                    unusable.append(prepared.key)
                    continue
                for modality in wanted:
                    places[modality].append(-1)
                    if modality in prepared.inputs:
                        if modality not in files:
                            files[modality] = RowsFile(scratch)
                            stack.callback(files[modality].close)
                        places[modality][-1] = len(files[modality])
                        files[modality].append(prepared.inputs[modality])
                about.append(prepared.about)
                boxes.append(prepared.boxes)
            read += len(block)
            progress("examples read", read, total)
        inputs = {modality: file.rows() for modality, file in files.items()}
    named = ", ".join(map(str, folders))
    for fault, number in faults.items():
        _log.warning("%s: %s of %d examples cannot be used", named, fault, number)
    if unusable:
        _log.warning("%s: left out %d examples without a usable reading, e.g. %s", named, len(unusable), unusable[0])
    if not about:
        raise DatasetError(f"{named}: the shards hold no usable example; write them again with `sensebind simulate`")
    return Examples(about, boxes, inputs, {modality: np.array(places[modality], np.int64) for modality in files})


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An example as the model takes it; `faults` are the modalities whose reading is of no use, as depth when all is
    too near. Boxes are in the crop.
    """

    key: str
    about: About
    boxes: dict[str, list[Box]]
    inputs: dict[Modality, Tensor]
    faults: list[Modality]


def _prepared(members: dict[str, Any], wanted: tuple[Modality, ...]) -> _Prepared:
    example = decode(members)
    inputs: dict[Modality, Tensor] = {}
    faults: list[Modality] = []
    for modality in wanted:
        reading = _measured(example, modality)
        if reading is None:
            continue
        try:
            inputs[modality] = _input(reading, modality, example.audio_rate_hz)
        except preprocess.PreprocessError:
            faults.append(modality)
    crop = CropMap(*example.frames.shape[1:3])
    boxes = {
        label: [(*crop.to_crop(x0, y0), *crop.to_crop(x1, y1)) for x0, y0, x1, y1 in seen.boxes]
        for label, seen in example.about.seen.items()
    }
    return _Prepared(example.key, example.about, boxes, inputs, faults)


def _measured(example: Example, modality: Modality) -> NDArray[Any] | None:
    readings: dict[Modality, NDArray[Any] | None] = {
        "vision": example.frames,
        "audio": example.audio,
        "depth": example.depth_m,
        "thermal": example.temperature_c,
        "imu": example.imu,
    }
    return readings[modality]


def _input(reading: NDArray[Any], modality: Modality, audio_rate_hz: float) -> Tensor:
    """One row of `Examples.inputs`. Shards state their units, so these are not guessed. Raises PreprocessError."""
    batch = reading[None]
    match modality:
        case "vision":
            x = preprocess.vision(batch)[0]  # [3, 2, 224, 224]
            mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (RGB_MEAN, RGB_STD))
            return ((x * std + mean) * 255).round().to(torch.uint8)
        case "audio":
            return preprocess.audio(batch[:, :, None], audio_rate_hz, guess_units=False)[0].half()
        case "depth":
            return preprocess.depth(batch, guess_units=False)[0].half()
        case "thermal":
            return preprocess.thermal(batch, guess_units=False)[0].half()
        case _:
            return preprocess.imu(batch, preprocess.IMU_RATE_HZ, guess_units=False)[0].half()


def groups_of(examples: Examples, modality: Modality) -> dict[Group, list[int]]:
    """Examples that make a pair of an image and `modality`, by what the pair is about."""
    rows: Iterable[int] = range(len(examples)) if modality == "text" else examples.having(modality).tolist()
    groups: dict[Group, list[int]] = {}
    for row in rows:
        for group in _groups(examples.about[row], modality):
            groups.setdefault(group, []).append(row)
    return groups


def _groups(facts: About, modality: Modality) -> Iterator[Group]:
    if not facts.labelled:
        if modality != "text" or facts.scene:
            yield "any", ""
        return
    match modality:
        case "text":
            yield from (("thing", label) for label in facts.seen)
            if facts.scene:
                yield ("several" if facts.seen else "nothing"), ""
            if facts.movement:
                yield "movement", facts.motion
        case "audio":
            if facts.shown and facts.heard is not None:
                yield ("thing", facts.heard) if facts.heard else ("nothing", "")
        case "imu":
            if facts.motion:
                yield "movement", facts.motion
        case _:
            yield from (("thing", label) for label in facts.seen)
            if not facts.seen:
                yield "nothing", ""


class PairSampler:
    """Draws batches of pairs; the same generator state gives the same batch."""

    def __init__(self, examples: Examples, modality: Modality) -> None:
        """Raises DatasetError where the examples hold no pair of an image and `modality`, or only one."""
        groups = groups_of(examples, modality)
        self.pairs = len({row for rows in groups.values() for row in rows})
        """Examples that make a pair."""
        if self.pairs < LEAST_PAIRS:
            raise DatasetError(
                f"the shards hold {self.pairs or 'no'} pair of an image and {modality}; write more examples"
            )
        self._names = list(groups)
        self._rows = [np.array(rows) for rows in groups.values()]
        weights = np.array([_WEIGHTS[kind] for kind, _ in self._names])
        self._shares = weights / weights.sum()

    def draw(self, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], list[Group]]:
        """Rows of `size` examples, or of as many as there are, and the group each was drawn for.

        Every group has its share of the batch, rounded up or down at random, and no example twice as long as it has
        others: the same pair cannot be told from itself.
        """
        size = min(size, self.pairs)
        spread = np.cumsum(self._shares) * size + rng.uniform()
        counts = np.diff(np.floor(spread), prepend=np.floor(spread[-1] - size)).astype(int)
        rows = [rng.choice(own, n, replace=n > len(own)) for own, n in zip(self._rows, counts, strict=True)]
        groups = [name for name, n in zip(self._names, counts, strict=True) for _ in range(n)]
        return np.concatenate(rows).astype(np.int64), groups


def caption(facts: About, group: Group, rng: np.random.Generator) -> str:
    """A caption of an example, at random among those of the group."""
    kind, label = group
    texts = facts.seen[label].captions if kind == "thing" else facts.movement if kind == "movement" else facts.scene
    return str(texts[int(rng.integers(len(texts)))])


def mirrored(text: str) -> str:
    """The caption of the mirrored image."""
    return re.sub(r"\b(left|right)\b", lambda side: _SIDES[side[0]], text)
