"""Evaluation on shards that were not trained on: zero-shot classification, retrieval and pointing.

Shards of the synthetic world are labelled. Those out of a log are not: there, an image and what was measured at the
same moment shall find each other among all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from common.progress import Progress, untold
from models.datasets.dataset import INDEX, Classes, DatasetError, read_index
from models.datasets.pairs import LEAST_PAIRS, Examples, load
from models.evaluation.pointing import hit_rate, peaks
from models.evaluation.retrieval import recall_at, same_label
from models.evaluation.zero_shot import accuracy, class_vectors, nearest
from models.imagebind import ImageBind
from models.modalities import Modality

_MEASURED: Final[tuple[Modality, ...]] = ("vision", "audio", "depth", "thermal", "imu")
ABSENT = ""
"""The label for "none of them"."""


def evaluate(model: ImageBind, shards: Path, progress: Progress = untold) -> dict[str, float]:
    """Every score that the model's modalities and the shards of a folder allow; raises DatasetError and NoRoom."""
    examples = load(shards, model.modalities, progress=progress)
    found = scores(model, examples, read_index(shards) if (shards / INDEX).exists() else None)
    if not found:
        raise DatasetError(
            f"{shards}: holds nothing to score: 2 moments of an image and another modality of the model are needed, or "
            f"labels and the {INDEX} that `sensebind simulate` writes"
        )
    return found


@torch.no_grad()
def embed_all(
    model: ImageBind, examples: Examples, modalities: Iterable[Modality], batch: int = 64, *, dense: bool = True
) -> tuple[dict[Modality, Tensor], Tensor | None]:
    """Vectors [N, D] of each modality, zeros for examples without it, and with `dense`, when vision is one of them,
    its patches as float16 [N, 16, 16, D].
    """
    vectors: dict[Modality, Tensor] = {}
    patches = []
    for modality in modalities:
        rows = examples.having(modality)
        vectors[modality] = torch.zeros(len(examples), model.sizes.embedding_dim)
        for chosen in np.array_split(rows, max(1, -(-len(rows) // batch))):
            with_patches = dense and modality == "vision"
            with torch.autocast("cpu", torch.bfloat16):
                found = model.embed({modality: examples.batch(modality, chosen)}, patches=with_patches)
            vectors[modality][torch.from_numpy(chosen)] = found.vectors[modality]
            if found.patches is not None:
                patches.append(found.patches.half())
    return vectors, torch.cat(patches) if patches else None


def scores(model: ImageBind, examples: Examples, classes: Classes | None) -> dict[str, float]:
    """Scores of labelled examples, if `classes` names their labels, and of the others. See `labelled_scores` and
    `moment_scores`.
    """
    was_training = model.training
    model.eval()
    labelled = any(about.labelled for about in examples.about)
    present = [m for m in _MEASURED if m in examples.inputs and len(examples.having(m))]
    vectors, patches = embed_all(model, examples, present, dense=labelled and "audio" in present)
    result: dict[str, float] = {}
    if labelled and classes is not None and "text" in model.modalities:
        result |= labelled_scores(model, examples, classes, vectors, patches)
    result |= moment_scores(examples, vectors)
    model.train(was_training)
    return result


def moment_scores(examples: Examples, vectors: Mapping[Modality, Tensor]) -> dict[str, float]:
    """Retrieval among the moments of examples without labels: image -> what was measured then, and back.

    `vision_to_audio_r1` is the share of images whose nearest sound is that of the same moment, `_r5` of those that have
    it among the 5 nearest; `audio_chance_r1` is what guessing gives.
    """
    result: dict[str, float] = {}
    moments = np.array([not about.labelled for about in examples.about])
    for modality in (m for m in vectors if m != "vision" and "vision" in vectors):
        rows = [row for row in examples.having(modality).tolist() if moments[row]]
        if len(rows) < LEAST_PAIRS:
            continue
        similarity = vectors["vision"][rows] @ vectors[modality][rows].T
        same = torch.eye(len(rows), dtype=torch.bool)
        for name, table in (("vision_to_" + modality, similarity), (modality + "_to_vision", similarity.T)):
            for k in (1, 5):
                if k < len(rows):
                    result[f"{name}_r{k}"] = recall_at(k, table, same)
        result[f"{modality}_chance_r1"] = 1 / len(rows)
    return result


@torch.no_grad()
def labelled_scores(
    model: ImageBind,
    examples: Examples,
    classes: Classes,
    vectors: Mapping[Modality, Tensor],
    patches: Tensor | None,
) -> dict[str, float]:
    """Scores by labels. Only text and vision, ... were trained as pairs of images: text with any other is emergent.

    seen, depth, thermal    share of examples with at most one thing in view, and nothing doubtful, named rightly
    seen_of_several         share of examples with several things whose best label is one of them
    heard                   share named rightly, background alone being a class of its own
    pointing_by_audio, _by_text   share of peaks of the heat map inside the box of the sounding thing
    heard_to_seen           share of sounds whose nearest image shows what sounds
    motion, motion_seen     share of motions named rightly from the IMU, and from two frames
    """
    held = {modality: set(examples.having(modality).tolist()) for modality in vectors}
    about = examples.about
    numbers = [i for i, facts in enumerate(about) if facts.labelled]
    result: dict[str, float] = {}

    seen_labels, seen_classes = class_vectors(model, {**classes.seen, ABSENT: classes.absent_seen})
    single = [i for i in numbers if about[i].clear and len(about[i].seen) <= 1]
    tasks: tuple[tuple[Modality, str], ...] = (("vision", "seen"), ("depth", "depth"), ("thermal", "thermal"))
    for modality, name in tasks:
        if modality in vectors:
            rows = [i for i in single if i in held[modality]]
            true = [next(iter(about[i].seen), ABSENT) for i in rows]
            result[name] = accuracy(nearest(vectors[modality][rows], seen_labels, seen_classes), true)
    if "vision" in vectors:
        several = [i for i in numbers if len(about[i].seen) > 1]
        found = nearest(vectors["vision"][several], seen_labels, seen_classes)
        right = [label in about[i].seen for label, i in zip(found, several, strict=True)]
        result["seen_of_several"] = sum(right) / len(right) if right else float("nan")
    if "audio" in vectors:
        labels, heard_classes = class_vectors(model, {**classes.heard, ABSENT: classes.absent_heard})
        rows = [i for i in numbers if about[i].heard is not None and i in held["audio"]]
        heard = [about[i].heard or ABSENT for i in rows]
        result["heard"] = accuracy(nearest(vectors["audio"][rows], labels, heard_classes), heard)
    if "audio" in vectors and patches is not None:
        rows = [i for i in numbers if about[i].heard and about[i].shown and i in held["audio"]]
        heard = [str(about[i].heard) for i in rows]
        boxes = [examples.boxes[i][label] for i, label in zip(rows, heard, strict=True)]
        by_text = heard_classes[[labels.index(label) for label in heard]]
        result["pointing_by_audio"] = hit_rate(peaks(patches[rows], vectors["audio"][rows]), boxes)
        result["pointing_by_text"] = hit_rate(peaks(patches[rows], by_text), boxes)
        similarity = vectors["audio"][rows] @ vectors["vision"].T
        relevant = same_label(heard, [set(facts.seen) for facts in about])
        result["heard_to_seen"] = recall_at(1, similarity, relevant)
    motion_labels, motion_classes = class_vectors(model, classes.motions)
    tasks = (("imu", "motion"), ("vision", "motion_seen"))
    for modality, name in tasks:
        if modality in vectors:
            rows = [i for i in numbers if about[i].motion and i in held[modality]]
            motions = [about[i].motion for i in rows]
            result[name] = accuracy(nearest(vectors[modality][rows], motion_labels, motion_classes), motions)
    return result
