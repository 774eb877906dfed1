"""Windows on their way into the model: cut into pieces, and those of one kind prepared together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.embedding.reduction import CLIPS_MAX
from agent.windows.window import Window
from drivers.driver import Modality
from models import preprocess
from models.preprocess import PreprocessError


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Input of one pass of the model: a window's data, or a clip of 2 s of a longer audio window."""

    sensor: str
    modality: Modality
    data: NDArray[Any]
    rate_hz: float


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One input of the model, [rows, ...]; `rows` says which of the pieces each row is."""

    modality: Modality
    tensor: Tensor
    rows: list[int]


def fits_one_clip(rows: int, rate_hz: float) -> bool:
    """Return whether sound is short enough for the model to hear it whole."""
    return rows <= (preprocess.AUDIO_WINDOW_S + preprocess.AUDIO_SLACK_S) * rate_hz


def pieces_of(window: Window) -> list[Piece]:
    """The pieces of a window that is present, the oldest first; the mean of their vectors is the window's.

    Clips end a whole number of seconds before the window does. So the newest sound is always heard, and when the hop
    divides a second every clip but the newest is one that was the newest of an earlier tick. The published sampler,
    which is for recordings, would leave out the end, and place clips where no other tick has them.
    """
    data, rate_hz = window.data, window.rate_hz
    assert data is not None
    if window.modality == "audio":
        data = data[:, :1].copy()  # the channel that the model hears, without the memory of the others
    if window.modality != "audio" or fits_one_clip(len(data), rate_hz):
        return [Piece(window.sensor, window.modality, data, rate_hz)]
    room_s = len(data) / rate_hz - preprocess.AUDIO_WINDOW_S
    clips = min(CLIPS_MAX, 1 + int(room_s))
    step_s = int(room_s / (clips - 1)) if clips > 1 else 0
    ends = [len(data) - round(i * step_s * rate_hz) for i in reversed(range(clips))]
    rows = round(preprocess.AUDIO_WINDOW_S * rate_hz)
    return [Piece(window.sensor, "audio", data[end - rows : end].copy(), rate_hz) for end in ends]


def prepare(pieces: Sequence[Piece], device: torch.device) -> tuple[list[Batch], dict[int, str]]:
    """The model's inputs of all pieces, on `device`, and which pieces are unusable, with the reason.

    Pieces of one modality, shape and rate are prepared together; what then has one shape shares a batch.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, piece in enumerate(pieces):
        alike.setdefault((piece.modality, piece.data.dtype, piece.data.shape, piece.rate_hz), []).append(i)
    unusable: dict[int, str] = {}
    parts: dict[tuple[Modality, torch.Size], list[tuple[Tensor, list[int]]]] = {}
    for rows in alike.values():
        tensor = _prepare_alike(pieces, rows, unusable, device)
        usable = [i for i in rows if i not in unusable]
        if tensor is not None:
            parts.setdefault((pieces[rows[0]].modality, tensor.shape[1:]), []).append((tensor, usable))
    batches = []
    for (modality, _), found in parts.items():
        tensors, indices = zip(*found, strict=True)
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        batches.append(Batch(modality, tensor, [i for rows in indices for i in rows]))
    return batches, unusable


def _prepare_alike(
    pieces: Sequence[Piece], rows: Sequence[int], unusable: dict[int, str], device: torch.device
) -> Tensor | None:
    """One input of those `rows` that can be used, None if there is none; adds the others to `unusable`."""
    while rows:
        try:
            return _tensor([pieces[i] for i in rows], device)
        except PreprocessError as error:
            faults = error.items or dict.fromkeys(range(len(rows)), str(error))
            unusable.update((rows[position], f"unusable: {reason}") for position, reason in faults.items())
            rows = [i for i in rows if i not in unusable]
    return None


def _tensor(pieces: Sequence[Piece], device: torch.device) -> Tensor:
    """The model's input of pieces of one kind. Raises PreprocessError.

    Drivers know their units and windows hold the limits of sensors, so nothing is guessed about units here.
    """
    first = pieces[0]
    # One piece, as there is one a tick when live, needs no copy.
    data = np.stack([piece.data for piece in pieces]) if len(pieces) > 1 else first.data[None]
    match first.modality:
        case "vision":
            return preprocess.vision(data, device=device)
        case "audio":
            return preprocess.audio(data, first.rate_hz, guess_units=False, device=device)
        case "depth":
            return preprocess.depth(data, guess_units=False, device=device)
        case "thermal":
            return preprocess.thermal(data, guess_units=False, device=device)
        case "imu":
            return preprocess.imu(data, first.rate_hz, guess_units=False, device=device)
