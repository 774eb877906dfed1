"""Windows as the model's inputs: pieces of long audio, and batches out of what is alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agent.embedding.inputs import Piece, pieces_of, prepare
from agent.windows.window import Window
from drivers.driver import Modality
from models import preprocess

CPU = torch.device("cpu")


def piece(modality: Modality, data: NDArray[Any], rate_hz: float = 0.0) -> Piece:
    return Piece("sensor", modality, data, rate_hz)


def counted(seconds: float, rate_hz: float) -> Window:
    """Rows that hold their own number, in the second channel as a negative."""
    rows = np.arange(round(seconds * rate_hz), dtype=np.float32)
    return Window("mic", "audio", np.stack([rows, -rows], axis=1), rate_hz, 1, "")


@pytest.mark.parametrize(
    ("seconds", "starts_s"),
    [
        (0.5, [0.0]),
        (2.0, [0.0]),
        (2.04, [0.0]),
        (2.5, [0.5]),
        (3.0, [0.0, 1.0]),
        (3.9, [0.9, 1.9]),
        (5.0, [1.0, 2.0, 3.0]),
        (10.0, [0.0, 4.0, 8.0]),
    ],
)
@pytest.mark.parametrize("rate_hz", [16000.0, 44100.0])
def test_clips_end_with_the_window_and_whole_seconds_before(
    seconds: float, starts_s: list[float], rate_hz: float
) -> None:
    pieces = pieces_of(counted(seconds, rate_hz))
    assert [p.data[0, 0] / rate_hz for p in pieces] == pytest.approx(starts_s, abs=1e-4)
    assert pieces[-1].data[-1, 0] == round(seconds * rate_hz) - 1
    for p in pieces:
        assert p.data.shape[1] == 1
        assert (np.diff(p.data[:, 0]) == 1).all()
        if len(pieces) > 1 or seconds == 2.5:
            assert len(p.data) == 2 * rate_hz


def test_a_clip_does_not_hold_the_memory_of_its_window() -> None:
    window = counted(10.0, 16000.0)
    assert all(not np.shares_memory(p.data, window.data) for p in pieces_of(window))


def test_other_windows_are_one_piece() -> None:
    image = np.zeros((2, 60, 80, 3), np.uint8)
    (whole,) = pieces_of(Window("camera", "vision", image, 0.0, 1, ""))
    assert whole.data is image
    assert (whole.sensor, whole.modality) == ("camera", "vision")


def test_what_is_alike_is_prepared_together_and_what_fits_shares_a_batch() -> None:
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (2, h, w, 3), np.uint8) for h, w in ((60, 80), (90, 160)))
    depth = rng.uniform(1, 5, (60, 80)).astype(np.float32)
    pieces = [piece("vision", small), piece("depth", depth), piece("vision", large), piece("vision", small[::-1])]
    batches, unusable = prepare(pieces, CPU)
    assert unusable == {}
    assert [(b.modality, b.rows) for b in batches] == [("vision", [0, 3, 2]), ("depth", [1])]
    for batch in batches:
        assert len(batch.tensor) == len(batch.rows)
    for row, x in zip(batches[0].rows, batches[0].tensor, strict=True):
        assert torch.equal(x, preprocess.vision(pieces[row].data[None])[0])


def test_each_unusable_piece_has_its_own_reason() -> None:
    good = np.ones((60, 80), np.float32)
    maps = [good, good * 0, good * np.nan, good * 2]
    long = np.ones((4, 80), np.float32)
    pieces = [piece("depth", x) for x in maps] + [piece("depth", long), piece("depth", good.astype(np.float64))]
    batches, unusable = prepare(pieces, CPU)
    assert [b.rows for b in batches] == [[0, 3]]
    assert unusable.keys() == {1, 2, 4, 5}
    for i, reason in ((1, "no valid pixel"), (2, "no valid pixel"), (4, "too long"), (5, "got float64")):
        assert unusable[i].startswith("unusable: ")
        assert reason in unusable[i]
        assert "item" not in unusable[i]


def test_without_pieces_there_is_nothing_to_run() -> None:
    assert prepare([], CPU) == ([], {})
    batches, unusable = prepare([piece("imu", np.zeros((10, 6), np.float32), 400.0)], CPU)
    assert batches == []
    assert "too short" in unusable[0]
