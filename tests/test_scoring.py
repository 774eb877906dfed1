"""Scores are the softmax that the module's docstring defines, however they are computed."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.perceiving.alerts.scoring import Scorer, share
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, StandingQuery
from agent.vectors import Vectors
from drivers.driver import MODALITIES, Modality

SCALES: dict[Modality, float] = {"vision": 100.0, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
D = 24


def units(rng: np.random.Generator, *shape: int) -> Vectors:
    vectors = rng.normal(size=(*shape, D))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def softmax_score(query: Vectors, window: Vectors, background: Vectors, rivals: NDArray[np.bool_], s: float) -> float:
    """The definition, in Python floats."""
    logits = [s * float(query @ window), *(s * float(b @ window) for b in background[rivals])]
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return weights[0] / sum(weights)


class Scoring:
    """A scorer and the table that it scores."""

    def __init__(self, background: Vectors, scales: dict[Modality, float] = SCALES, *, dense: bool = False) -> None:
        self.table = QueryTable()
        self.scorer = Scorer(self.table, dict.fromkeys(MODALITIES, background), scales, dense=dense)
        self.score = self.scorer.score

    def add(self, query_id: str, vector: Vectors, rivals: NDArray[np.bool_]) -> None:
        row = self.table.add(StandingQuery(Query(query_id, "a dog")))
        self.scorer.set(row, dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, rivals))


def everything(background: Vectors) -> NDArray[np.bool_]:
    return np.ones(len(background), dtype=np.bool_)


def test_every_score_is_the_softmax_against_the_querys_own_rivals() -> None:
    rng = np.random.default_rng(1)
    background, queries = units(rng, 9), units(rng, 40)
    masks = rng.random((40, 9)) < 0.7
    masks[:, 0] = True
    scorer = Scoring(background)
    for i, (query, mask) in enumerate(zip(queries, masks, strict=True)):
        scorer.add(f"q{i}", query, mask)
    windows = {m: units(rng, 1) for m in MODALITIES}
    scores = scorer.score(windows)
    assert scores.modalities == MODALITIES
    assert scores.values.shape == (40, 5)
    for i, query_id in enumerate(scores.query_ids):
        for m, score in scores.of(query_id).items():
            wanted = softmax_score(queries[i], windows[m][0], background, masks[i], SCALES[m])
            assert score == pytest.approx(wanted, abs=2e-5)


def test_only_present_modalities_have_a_column_and_no_query_gives_no_rows() -> None:
    rng = np.random.default_rng(2)
    background = units(rng, 3)
    scorer = Scoring(background)
    assert scorer.score({"audio": units(rng, 1)}).values.shape == (0, 1)
    scorer.add("q", units(rng), everything(background))
    assert scorer.score({"imu": units(rng, 1), "audio": units(rng, 1)}).modalities == ("audio", "imu")
    assert scorer.score({}).values.shape == (1, 0)


def test_extreme_products_give_0_and_1_and_nothing_overflows() -> None:
    axis = np.eye(D, dtype=np.float32)
    scorer = Scoring(-axis[:1], {**SCALES, "vision": 1000.0})
    scorer.add("same", axis[0], np.array([True]))
    scorer.add("opposite", -axis[0], np.array([True]))
    scores = scorer.score({"vision": axis[:1]})
    assert scores.of("same")["vision"] == 1.0
    assert scores.of("opposite")["vision"] == pytest.approx(0.5)


def test_a_left_out_prompt_that_towers_over_the_others_does_not_count() -> None:
    axis = np.eye(D, dtype=np.float32)
    background = np.stack([axis[0], axis[1]])
    scorer = Scoring(background)
    scorer.add("q", axis[2], np.array([False, True]))
    # The window is the excluded prompt itself: query and remaining rival are equally far from it.
    assert scorer.score({"vision": axis[:1]}).of("q")["vision"] == pytest.approx(0.5)


def test_of_several_cameras_the_best_counts() -> None:
    rng = np.random.default_rng(3)
    background, cameras, query = units(rng, 5), units(rng, 2), units(rng)
    scorer = Scoring(background)
    scorer.add("q", query, everything(background))
    both = scorer.score({"vision": cameras}).of("q")["vision"]
    each = [scorer.score({"vision": camera[None]}).of("q")["vision"] for camera in cameras]
    assert each[0] != pytest.approx(each[1])
    assert both == pytest.approx(max(each))


def test_dense_sees_a_small_thing_but_not_one_odd_patch() -> None:
    axis = np.eye(D, dtype=np.float32)
    chair, dog, floor = axis[:3]
    patches = np.tile(floor, (16, 16, 1))
    patches[5, 7:9] = dog
    patches[12, 3] = axis[3]  # chance
    window = {"vision": chair[None]}
    background = np.stack([chair, floor, dog])
    scores = {}
    for dense in (False, True):
        scorer = Scoring(background, dense=dense)
        scorer.add("dog", dog, np.array([True, True, False]))
        scorer.add("cat", axis[3], everything(background))
        scores[dense] = scorer.score(window, patches)
    assert scores[False].of("dog")["vision"] < 0.01
    assert scores[True].of("dog")["vision"] > 0.99
    assert scores[True].of("cat")["vision"] < 0.01


def test_removing_leaves_the_scores_of_the_others() -> None:
    rng = np.random.default_rng(4)
    background, queries, window = units(rng, 6), units(rng, 20), units(rng, 1)
    scorer = Scoring(background)
    for i, query in enumerate(queries):
        scorer.add(f"q{i}", query, np.arange(6) != i % 6)
    before = scorer.score({"audio": window})
    for gone in ("q3", "q19", "q0"):
        scorer.table.remove(gone)
    after = scorer.score({"audio": window})
    assert set(after.query_ids) == {f"q{i}" for i in range(20)} - {"q3", "q19", "q0"}
    for query_id in after.query_ids:
        assert after.of(query_id)["audio"] == pytest.approx(before.of(query_id)["audio"], abs=1e-6)
    with pytest.raises(KeyError):
        after.of("q3")


def test_what_cannot_be_scored_is_refused() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(ValueError, match="at least one row"):
        Scoring(np.zeros((0, D), np.float32))
    with pytest.raises(ValueError, match="thermal"):
        Scoring(units(rng, 2), {m: s for m, s in SCALES.items() if m != "thermal"})
    with pytest.raises(ValueError, match="at least one of 2"):
        Scoring(units(rng, 2)).add("r", units(rng), np.array([False, False]))


def test_some_rows_are_scored_as_all_are() -> None:
    rng = np.random.default_rng(7)
    background, queries = units(rng, 6), units(rng, 9)
    scorer = Scoring(background, dense=True)
    for i, query in enumerate(queries):
        scorer.add(f"q{i}", query, np.arange(6) != i % 6)
    windows, patches = {"vision": units(rng, 1), "imu": units(rng, 2)}, units(rng, 4, 4)
    every = scorer.score(windows, patches)
    some = scorer.score(windows, patches, np.array([7, 2]))
    assert some.query_ids == ("q7", "q2")
    assert some.rows is not None
    assert some.rows.tolist() == [7, 2]
    for query_id in some.query_ids:
        assert some.of(query_id) == pytest.approx(every.of(query_id), abs=1e-6)


def test_a_query_may_have_another_vector_for_each_modality() -> None:
    rng = np.random.default_rng(8)
    sight, sound = units(rng, 5), units(rng, 5)
    background = {m: sound if m == "audio" else sight for m in MODALITIES}
    masks = {m: np.arange(5) != (1 if m == "audio" else 3) for m in MODALITIES}
    table = QueryTable()
    scorer = Scorer(table, background, SCALES)
    vectors = []
    for i in range(20):
        seen, heard = units(rng), units(rng)
        vectors.append({m: heard if m == "audio" else seen for m in MODALITIES})
        scorer.set(table.add(StandingQuery(Query(f"q{i}", "a dog"))), vectors[-1], masks)
    windows = {m: units(rng, 1) for m in MODALITIES}
    scores = scorer.score(windows)
    for i, query_id in enumerate(scores.query_ids):
        for m, score in scores.of(query_id).items():
            wanted = softmax_score(vectors[i][m], windows[m][0], background[m], masks[m], SCALES[m])
            assert score == pytest.approx(wanted, abs=2e-5)


def test_shares_of_a_partition_sum_to_one() -> None:
    rng = np.random.default_rng(6)
    prompts, window = units(rng, 7), units(rng)
    chosen = np.array([True, False, True, False, False, False, False])
    part = share(window, prompts, chosen, 20.0)
    assert 0 < part < 1
    assert part + share(window, prompts, ~chosen, 20.0) == pytest.approx(1.0)
    assert share(prompts[0], prompts, chosen, 100.0) > 0.99
