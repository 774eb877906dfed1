"""Examples as tensors in memory, and batches of pairs drawn from them.

A batch holds pairs of one kind: images with texts, or images with audio, and so on. Examples are grouped by what they
are about, and every batch draws from the groups in fixed proportions, so that what is rare is trained on as much.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import preprocess
from models.datasets.dataset import About, Box, DatasetError, Example, count, decode, members_of
from models.modalities import Modality
from models.preprocess import RGB_MEAN, RGB_STD, CropMap

Group = tuple[Literal["thing", "nothing", "several", "movement", "any"], str]
"""Subject of pairs: the kind of statement, and its label if it has one."""

_WEIGHTS: Final = {"thing": 1.0, "nothing": 3.0, "several": 1.5, "movement": 0.3, "any": 1.0}
_SIDES: Final = {"left": "right", "right": "left"}

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Examples:
    """N examples: labels and captions of each, and the model's inputs of the loaded modalities.

    `inputs[modality]` holds one row an example: vision uint8 [N, 3, 2, 224, 224] in RGB levels, the others float16 as
    `models.preprocess` makes them. `boxes[i]` are the boxes of `about[i]` in pixels of the model's 224 px crop.
    """

    about: list[About]
    boxes: list[dict[str, list[Box]]]
    inputs: dict[Modality, Tensor]

    def __len__(self) -> int:
        return len(self.about)

    def batch(self, modality: Modality, rows: NDArray[np.int64] | Sequence[int]) -> Tensor:
        """The model's input for some examples, float32 [B, ...]."""
        chosen = self.inputs[modality][torch.as_tensor(np.asarray(rows))]
        return normalised(chosen) if modality == "vision" else chosen.float()


def normalised(levels: Tensor) -> Tensor:
    """RGB levels [B, 3, 2, H, W], uint8 or float 0..255 -> the model's vision input."""
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255 for values in (RGB_MEAN, RGB_STD))
    return (levels.float() - mean) / std


def load(folder: Path, modalities: Iterable[Modality], threads: int = 2) -> Examples:
    """Read all shards of a folder, keeping the inputs of `modalities` only. Raises DatasetError."""
    wanted = tuple(modality for modality in modalities if modality != "text")
    examples, unusable = Examples([], [], {}), list[str]()
    room = count(folder)
    members = members_of(folder)
    within = torch.get_num_threads()
    torch.set_num_threads(1)  # the pool is the parallelism
    try:
        with ThreadPoolExecutor(threads) as pool:
            while block := list(islice(members, 64)):
                for key, about, boxes, inputs in pool.map(lambda item: _prepared(item, wanted), block):
                    if inputs is None:
                        unusable.append(key)
                        continue
                    for modality, x in inputs.items():
                        if modality not in examples.inputs:
                            examples.inputs[modality] = torch.empty((room, *x.shape), dtype=x.dtype)
                        examples.inputs[modality][len(examples)] = x
                    examples.about.append(about)
                    examples.boxes.append(boxes)
    finally:
        torch.set_num_threads(within)
    if unusable:
        _log.warning("%s: left out %d examples without a usable reading, e.g. %s", folder, len(unusable), unusable[0])
    if not examples.about:
        raise DatasetError(f"{folder}: the shards hold no usable example; write them again with `sensebind simulate`")
    examples.inputs = {modality: x[: len(examples)] for modality, x in examples.inputs.items()}
    return examples


def _prepared(
    members: dict[str, Any], wanted: tuple[Modality, ...]
) -> tuple[str, About, dict[str, list[Box]], dict[Modality, Tensor] | None]:
    """Key, facts, boxes in the crop, and inputs: None when a reading is of no use, as depth when all is too near."""
    example = decode(members)
    try:
        inputs = {modality: _input(example, modality) for modality in wanted}
    except preprocess.PreprocessError:
        inputs = None
    crop = CropMap(*example.frames.shape[1:3])
    boxes = {
        label: [(*crop.to_crop(x0, y0), *crop.to_crop(x1, y1)) for x0, y0, x1, y1 in seen.boxes]
        for label, seen in example.about.seen.items()
    }
    return example.key, example.about, boxes, inputs


def _input(example: Example, modality: Modality) -> Tensor:
    """One row of `Examples.inputs`. Shards state their units, so these are not guessed."""
    match modality:
        case "vision":
            x = preprocess.vision(example.frames[None])[0]  # [3, 2, 224, 224]
            mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (RGB_MEAN, RGB_STD))
            return ((x * std + mean) * 255).round().to(torch.uint8)
        case "audio":
            sound = _measured(example.audio)[:, :, None]
            return preprocess.audio(sound, example.audio_rate_hz, guess_units=False)[0].half()
        case "depth":
            return preprocess.depth(_measured(example.depth_m), guess_units=False)[0].half()
        case "thermal":
            return preprocess.thermal(_measured(example.temperature_c), guess_units=False)[0].half()
        case _:
            return preprocess.imu(_measured(example.imu), preprocess.IMU_RATE_HZ, guess_units=False)[0].half()


def _measured(data: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """As a batch of one. Raises PreprocessError when there is none."""
    if data is None:
        raise preprocess.PreprocessError("the example does not hold it")
    return data[None]


def groups_of(about: Sequence[About], modality: Modality) -> dict[Group, list[int]]:
    """Rows of the examples that make a pair of an image and `modality`, by what the pair is about."""
    groups: dict[Group, list[int]] = {}
    for row, facts in enumerate(about):
        for group in _groups(facts, modality):
            groups.setdefault(group, []).append(row)
    return groups


def _groups(facts: About, modality: Modality) -> Iterator[Group]:
    if not facts.labelled:
        if modality != "text":
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

    def __init__(self, about: Sequence[About], modality: Modality) -> None:
        groups = groups_of(about, modality)
        if not groups:
            raise DatasetError(f"the shards hold no pair of an image and {modality}; write more examples")
        self._names = list(groups)
        self._rows = [np.array(rows) for rows in groups.values()]
        weights = np.array([_WEIGHTS[kind] for kind, _ in self._names])
        self._shares = weights / weights.sum()

    def draw(self, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], list[Group]]:
        """Rows of `size` examples and the group each was drawn for.

        Every group has its share of the batch, rounded up or down at random.
        """
        spread = np.cumsum(self._shares) * size + rng.uniform()
        counts = np.diff(np.floor(spread), prepend=np.floor(spread[-1] - size)).astype(int)
        rows = [rng.choice(candidates, n) for candidates, n in zip(self._rows, counts, strict=True)]
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
