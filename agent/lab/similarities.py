"""Texts and files as points of one space: embedded, compared modality by modality, and added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from agent.config.settings import Device, Dtype, ModelSettings
from agent.embedding.embedder import Embedder, resolve_device
from agent.embedding.weights import load_embedder, load_weights
from agent.exchange.imu_table import ImuMedia
from agent.lab.inputs import Array, Combined, Comparison, Item, Kind, SimilarityError, Table
from agent.lab.text_scores import text_scores
from agent.log.format import LogError
from common.media.fault import check_file
from drivers.depth import MILLIMETRE_M, depth_m
from drivers.png import read_png16
from drivers.thermal import temperature_c
from models import preprocess
from models.arithmetic import Term, combine
from models.interop.published_api import ImageBindModel, audio_input, image_input, video_input
from models.modalities import MODALITIES
from models.preprocess import PreprocessError
from models.tokenizer import tokenize


def compare(
    items: Sequence[Item],
    terms: Sequence[Term[Kind]],
    *,
    weights: str,
    device: Device,
    dtype: Dtype,
    imu_rate_hz: float | None = None,
    depth_scale_m: float = MILLIMETRE_M,
    scored: bool = True,
) -> Comparison:
    """Embed the items, and what the terms name, with the encoders that they need and no others.

    `scored` holds the texts against the background prompts of alerts as well, which takes some hundred texts to embed.

    Files are read before the weights, which take longer. Raises SimilarityError, CombinationError, MediaError,
    DriverError, CheckpointError, DeviceError.
    """
    place = resolve_device(device)
    summands = [Item(term.kind, term.name) for term in terms]
    inputs = {item: _input(item, place, imu_rate_hz, depth_scale_m) for item in dict.fromkeys([*items, *summands])}
    needed = [m for m in MODALITIES if any(item.modality == m for item in inputs)]
    settings = ModelSettings(weights=weights, device=device, dtype=dtype)
    if "text" in needed:
        embedder, called = load_embedder(settings, [m for m in needed if m != "text"])
        model = embedder.model
    else:
        embedder = None
        model, called = load_weights(weights, needed, device=device, dtype=dtype)
    published = ImageBindModel(model)
    with torch.inference_mode():
        raw = {item: published({item.modality: x})[item.modality][0].cpu() for item, x in inputs.items()}  # [D] each
    if not all(vector.isfinite().all() for vector in raw.values()):
        raise SimilarityError(f"{weights} gives vectors that are not finite in {dtype}; try --dtype float32, or others")
    units = {item: F.normalize(vector, dim=0) for item, vector in raw.items()}
    vectors = torch.stack([units[item] for item in items]) if items else torch.zeros(0, model.sizes.embedding_dim)
    combined = None
    if terms:
        total = combine(torch.stack([units[item] for item in summands]), [term.weight for term in terms])
        combined = Combined(list(terms), total.numpy(), (vectors @ total).numpy())
    texts = [item.name for item in inputs if item.kind == "text"]
    readings = [embedder.read(text) for text in texts] if embedder else []
    unknown = dict.fromkeys(word for reading in readings for word in reading.unknown)
    tables = _tables(items, raw, units, embedder if scored else None)
    return Comparison(called, list(items), vectors.numpy(), tables, combined, list(unknown))


def _tables(
    items: Sequence[Item], raw: Mapping[Item, Tensor], units: Mapping[Item, Tensor], scorer: Embedder | None
) -> list[Table]:
    """Make the table of each pair of modalities; those with texts have scores by `scorer`."""
    of = {m: [item for item in items if item.modality == m] for m in MODALITIES}
    present = [m for m in MODALITIES if of[m]]
    pairs = sorted(combinations(present, 2), key=lambda pair: "text" not in pair)
    tables = []
    for rows, columns in pairs:
        a, b = (torch.stack([raw[item] for item in of[m]]) for m in (rows, columns))  # [rows, D], [columns, D]
        row_names, column_names = ([item.name for item in of[m]] for m in (rows, columns))
        products = a @ b.T
        softmax = products.softmax(dim=-1)
        unit_a, unit_b = (torch.stack([units[item] for item in of[m]]) for m in (rows, columns))
        scores = None
        if scorer is not None and columns == "text" and rows != "text":
            scores = text_scores(scorer, column_names, [(rows, vector) for vector in unit_a.numpy()])
        tables.append(
            Table(
                rows,
                columns,
                row_names,
                column_names,
                products.numpy(),
                (unit_a @ unit_b.T).numpy(),
                softmax.numpy(),
                scores,
            )
        )
    return tables


def _input(item: Item, device: torch.device, imu_rate_hz: float | None, depth_scale_m: float) -> Tensor:
    """The model's input for one item, [1, ...]."""
    if item.kind == "text":
        return tokenize([item.name]).to(device)
    path = Path(item.name)
    match item.kind:
        case "image":
            return image_input(path, device)[None]
        case "audio":
            return audio_input(path, device)[None]
        case "video":
            return video_input(path, device)[None]
    try:
        if item.kind == "depth":
            return preprocess.depth(depth_m(_counts(path), depth_scale_m)[None], device=device)
        if item.kind == "thermal":
            return preprocess.thermal(temperature_c(_counts(path))[None], device=device)
        rows, rate_hz = _imu_rows(path, imu_rate_hz)
        return preprocess.imu(rows[None], rate_hz, device=device)
    except PreprocessError as error:
        raise SimilarityError(f"{path}: {error}") from error


def _counts(path: Path) -> NDArray[np.uint16]:
    check_file(path)
    return read_png16(str(path))


_AS_OPTIONS: Final = {"`rate_hz`": "--imu-rate-hz", "name them by `columns`": "name them in the first line"}
"""Words of an import's faults, and those for a command that reads the table alone."""


def _imu_rows(path: Path, rate_hz: float | None) -> tuple[Array, float]:
    """Rows [n, 6] in m/s2 and rad/s since the last hole, and their rate in Hz, of any table that `log import` takes."""
    check_file(path)
    try:
        table = ImuMedia(path, rate_hz=rate_hz)
        blocks = list(table.samples(0))
    except LogError as error:
        said = str(error)
        for word, option in _AS_OPTIONS.items():
            said = said.replace(word, option)
        raise SimilarityError(said) from None
    if bad := table.faults["lines that are not measurements"]:
        raise SimilarityError(f"{path}: {bad} lines are not measurements, {sum(len(b.data) for b in blocks)} are")
    since = max((k for k, block in enumerate(blocks) if block.lost), default=0)
    rows = np.concatenate([block.data for block in blocks[since:]])
    return rows, table.sensor.rate_hz
