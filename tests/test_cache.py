"""What was computed before: found by content, bounded, counted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.embedding.cache import CLIPS_KEPT, RecentPieces, Result, Reuse, TextVectors
from agent.embedding.inputs import Piece


def piece(data: NDArray[np.float32], sensor: str = "a", rate_hz: float = 16000.0) -> Piece:
    return Piece(sensor, "audio", data, rate_hz)


def sound(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (320, 1)).astype(np.float32)


class Texts:
    """Embeds a text as its length and a serial number, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.serial = 0

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked.append(texts)
        self.serial += len(texts)
        first = self.serial - len(texts)
        return np.array([[len(text), first + i] for i, text in enumerate(texts)], np.float32)


def test_a_text_is_computed_once_and_in_one_call_with_the_other_new_ones() -> None:
    cache, compute = TextVectors(), Texts()
    cache.embed(["one", "three"], compute)
    vectors = cache.embed(["four", "three", "one", "four", "five"], compute)
    assert compute.asked == [["one", "three"], ["four", "five"]]
    assert [v.tolist() for v in vectors] == [[4, 2], [5, 1], [3, 0], [4, 2], [4, 3]]
    assert cache.reuse == Reuse(hits=3, misses=4)
    assert cache.embed([], compute) == []
    with pytest.raises(ValueError, match="read-only"):
        vectors[0][0] = 1.0


def test_the_text_that_waited_longest_goes_first() -> None:
    cache, compute = TextVectors(room=2), Texts()
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.embed([text], compute)
    assert compute.asked == [["a"], ["b"], ["c"], ["b"]]
    assert len(cache.embed(["d", "e", "f"], compute)) == 3  # more than there is room for
    assert compute.asked[-1] == ["d", "e", "f"]


def test_texts_whose_computation_fails_are_not_kept() -> None:
    def fail(_: list[str]) -> NDArray[np.float32]:
        raise ArithmeticError

    cache, compute = TextVectors(), Texts()
    with pytest.raises(ArithmeticError):
        cache.embed(["a"], fail)
    assert cache.embed(["a"], compute)[0].tolist() == [1, 0]


def test_a_result_is_found_by_equal_content_only() -> None:
    cache = RecentPieces()
    data = sound(0)
    (first,) = cache.results([piece(data)])
    assert not first.done
    assert cache.results([piece(data.copy())]) == [first]
    assert cache.reuse == Reuse(hits=1, misses=1)
    nearly = data.copy()
    nearly[200] = np.nextafter(nearly[200], np.float32(9))
    for other in (piece(nearly), piece(data[:-1]), piece(data, rate_hz=8000.0), piece(data, sensor="b")):
        cache = RecentPieces()
        (first,) = cache.results([piece(data)])
        assert cache.results([other])[0] is not first


@given(st.integers(0, 319), st.floats(0.25, 1.0))
def test_one_value_that_differs_is_noticed(row: int, by: float) -> None:
    cache = RecentPieces()
    data = sound(1)
    (first,) = cache.results([piece(data)])
    changed = data.copy()
    changed[row] += by
    assert cache.results([piece(changed)])[0] is not first


def test_of_whole_windows_only_the_last_is_kept() -> None:
    cache = RecentPieces()
    for seed in (0, 1, 0):
        cache.results([piece(sound(seed))])
    assert cache.reuse == Reuse(hits=0, misses=3)


def test_of_clips_as_many_are_kept_as_come_back() -> None:
    cache = RecentPieces()
    made = [cache.results([piece(sound(i)), piece(sound(i + 1))]) for i in range(CLIPS_KEPT)]
    assert all(later[0] is earlier[1] for earlier, later in pairwise(made))
    # Of the CLIPS_KEPT + 1 clips so far the oldest has gone; asking for it anew drives out the next.
    assert cache.results([piece(sound(1)), piece(sound(CLIPS_KEPT))]) == [made[0][1], made[-1][1]]
    assert cache.results([piece(sound(0)), piece(sound(CLIPS_KEPT))])[0] is not made[0][0]
    assert cache.results([piece(sound(1)), piece(sound(CLIPS_KEPT))])[0] is not made[0][1]


def test_a_result_is_done_when_there_is_a_vector_or_a_reason() -> None:
    assert not Result().done
    assert Result(vector=np.zeros(2, np.float32)).done
    assert Result(missing="not finite").done
