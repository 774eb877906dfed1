"""Evaluation on shards that were not trained on: zero-shot classification, retrieval and pointing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.datasets.dataset import Classes, read_index
from models.datasets.pairs import Examples, load
from models.evaluation.pointing import hit_rate, peaks
from models.evaluation.retrieval import recall_at, same_label
from models.evaluation.zero_shot import accuracy, class_vectors, nearest
from models.imagebind import ImageBind
from models.modalities import Modality

ABSENT = ""
"""The label for "none of them"."""


def evaluate(model: ImageBind, shards: Path) -> dict[str, float]:
    """Every score that the model's modalities allow, on the shards of a folder; raises DatasetError."""
    return scores(model, load(shards, model.modalities), read_index(shards))


@torch.no_grad()
def embed_all(
    model: ImageBind, examples: Examples, modalities: Iterable[Modality], batch: int = 64
) -> tuple[dict[Modality, Tensor], Tensor | None]:
    """Vectors [N, D] of each modality, and when vision is one of them its patches as float16 [N, 16, 16, D]."""
    vectors: dict[Modality, list[Tensor]] = {modality: [] for modality in modalities}
    patches = []
    rows = np.arange(len(examples))
    for modality, parts in vectors.items():
        for chosen in np.array_split(rows, max(1, -(-len(rows) // batch))):
            dense = modality == "vision"
            with torch.autocast("cpu", torch.bfloat16):
                found = model.embed({modality: examples.batch(modality, chosen)}, patches=dense)
            parts.append(found.vectors[modality])
            if found.patches is not None:
                patches.append(found.patches.half())
    return {m: torch.cat(parts) for m, parts in vectors.items()}, torch.cat(patches) if patches else None


def scores(model: ImageBind, examples: Examples, classes: Classes) -> dict[str, float]:
    """See `evaluate`. Only text and vision, ... were trained as pairs of images: text with any other is emergent.

    seen, depth, thermal    share of examples with at most one thing in view, and nothing doubtful, named rightly
    seen_of_several         share of examples with several things whose best label is one of them
    heard                   share named rightly, background alone being a class of its own
    pointing_by_audio, _by_text   share of peaks of the heat map inside the box of the sounding thing
    heard_to_seen           share of sounds whose nearest image shows what sounds
    motion, motion_seen     share of motions named rightly from the IMU, and from two frames
    """
    was_training = model.training
    model.eval()
    present = [m for m in ("vision", "audio", "depth", "thermal", "imu") if m in examples.inputs]
    vectors, patches = embed_all(model, examples, present)
    result: dict[str, float] = {}

    seen_labels, seen_classes = class_vectors(model, {**classes.seen, ABSENT: classes.absent_seen})
    single = [i for i, about in enumerate(examples.about) if about.clear and len(about.seen) <= 1]
    true = [next(iter(examples.about[i].seen), ABSENT) for i in single]
    for modality, name in (("vision", "seen"), ("depth", "depth"), ("thermal", "thermal")):
        if modality in vectors:
            result[name] = accuracy(nearest(vectors[modality][single], seen_labels, seen_classes), true)
    if "vision" in vectors:
        several = [i for i, about in enumerate(examples.about) if len(about.seen) > 1]
        found = nearest(vectors["vision"][several], seen_labels, seen_classes)
        right = [label in examples.about[i].seen for label, i in zip(found, several, strict=True)]
        result["seen_of_several"] = sum(right) / len(right) if right else float("nan")
    if "audio" in vectors:
        labels, heard_classes = class_vectors(model, {**classes.heard, ABSENT: classes.absent_heard})
        rows = [i for i, about in enumerate(examples.about) if about.heard is not None]
        heard = [examples.about[i].heard or ABSENT for i in rows]
        result["heard"] = accuracy(nearest(vectors["audio"][rows], labels, heard_classes), heard)
    if "audio" in vectors and patches is not None:
        rows = [i for i, about in enumerate(examples.about) if about.heard and about.shown]
        heard = [str(examples.about[i].heard) for i in rows]
        boxes = [examples.boxes[i][label] for i, label in zip(rows, heard, strict=True)]
        by_text = heard_classes[[labels.index(label) for label in heard]]
        result["pointing_by_audio"] = hit_rate(peaks(patches[rows], vectors["audio"][rows]), boxes)
        result["pointing_by_text"] = hit_rate(peaks(patches[rows], by_text), boxes)
        similarity = vectors["audio"][rows] @ vectors["vision"].T
        relevant = same_label(heard, [set(about.seen) for about in examples.about])
        result["heard_to_seen"] = recall_at(1, similarity, relevant)
    motion_labels, motion_classes = class_vectors(model, classes.motions)
    rows = [i for i, about in enumerate(examples.about) if about.motion]
    motions = [examples.about[i].motion for i in rows]
    for modality, name in (("imu", "motion"), ("vision", "motion_seen")):
        if modality in vectors:
            result[name] = accuracy(nearest(vectors[modality][rows], motion_labels, motion_classes), motions)
    model.train(was_training)
    return result
