"""Scores travel in one table, and in messages as well while they are few; who reads them need not know which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.scores import MOST_MESSAGES, Scores, keep_modalities, put_scores, scores_of
from drivers.codec import MODALITY_VALUES
from drivers.driver import MODALITIES
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_IMU, MODALITY_TEXT, MODALITY_VISION


def scores(queries: int) -> Scores:
    values = np.random.default_rng(queries).random((queries, 3)).astype(np.float32)
    return Scores(tuple(f"q{i}" for i in range(queries)), ("vision", "audio", "imu"), values)


@pytest.mark.parametrize("queries", [1, MOST_MESSAGES, MOST_MESSAGES + 1, 1000])
def test_the_table_gives_back_what_was_put_in(queries: int) -> None:
    embedding, put = pb.Embedding(), scores(queries)
    put_scores(put, embedding)
    found = scores_of(pb.Embedding.FromString(embedding.SerializeToString()))
    assert (found.query_ids, found.modalities) == (put.query_ids, put.modalities)
    np.testing.assert_array_equal(found.values, put.values)
    assert found.of("q0") == put.of("q0")
    with pytest.raises(KeyError):
        found.of("unknown")


@pytest.mark.parametrize(("queries", "messages"), [(MOST_MESSAGES, 3 * MOST_MESSAGES), (MOST_MESSAGES + 1, 0)])
def test_few_scores_are_messages_as_well_that_say_the_same(queries: int, messages: int) -> None:
    embedding, put = pb.Embedding(), scores(queries)
    put_scores(put, embedding)
    assert len(embedding.scores) == messages
    for told in embedding.scores:
        told_by = {MODALITY_VALUES[modality]: score for modality, score in put.of(told.query_id).items()}
        assert told.score == told_by[told.modality]


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_table_says_whether_its_scores_are_probabilities(calibrated: bool) -> None:
    embedding = pb.Embedding()
    put_scores(replace(scores(3), calibrated=calibrated), embedding)
    assert scores_of(pb.Embedding.FromString(embedding.SerializeToString())).calibrated is calibrated


def test_an_older_agents_scores_are_read_and_what_is_missing_is_nan() -> None:
    told = [
        ("a", MODALITY_AUDIO, 0.25),
        ("b", MODALITY_VISION, 0.5),
        ("b", MODALITY_AUDIO, 0.75),
        ("a", MODALITY_TEXT, 1),
    ]
    embedding = pb.Embedding(scores=[pb.QueryScore(query_id=q, modality=m, score=s) for q, m, s in told])
    found = scores_of(embedding)
    assert (found.query_ids, found.modalities) == (("a", "b"), ("vision", "audio"))
    np.testing.assert_array_equal(found.values, np.array([[np.nan, 0.25], [0.5, 0.75]], np.float32))
    none = scores_of(pb.Embedding())
    assert (none.query_ids, none.modalities, none.values.shape) == ((), (), (0, 0))


def test_modalities_that_are_not_asked_for_leave_the_table() -> None:
    embedding, put = pb.Embedding(), scores(100)
    put_scores(put, embedding)
    keep_modalities(embedding.score_table, frozenset({MODALITY_AUDIO, MODALITY_IMU}))
    found = scores_of(embedding)
    assert found.modalities == ("audio", "imu")
    np.testing.assert_array_equal(found.values, put.values[:, 1:])
    keep_modalities(embedding.score_table, frozenset())
    assert scores_of(embedding).values.shape == (100, 0)


@pytest.mark.parametrize("values", [b"", b"\0" * 7, b"\0" * 12])
def test_a_damaged_table_is_refused(values: bytes) -> None:
    table = pb.ScoreTable(query_ids=["a"], modalities=[MODALITY_VISION, MODALITY_AUDIO], values=values)
    with pytest.raises(ValueError, match="2 modalities and 1 queries"):
        scores_of(pb.Embedding(score_table=table))


def test_a_modality_that_this_version_does_not_know_is_left_out() -> None:
    table = pb.ScoreTable(query_ids=["a"], modalities=[MODALITY_TEXT, MODALITY_AUDIO])
    table.values = np.array([0.5, 0.25], "<f4").tobytes()
    found = scores_of(pb.Embedding(score_table=table))
    assert found.of("a") == {"audio": 0.25}
    assert set(found.modalities) <= set(MODALITIES)


def test_scores_of_some_queries_are_taken_away_in_one_modality() -> None:
    values = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    of_all = Scores(("a", "b"), ("vision", "audio"), values)
    kept = of_all.without("audio", np.array([True, False]))
    np.testing.assert_array_equal(kept.values, np.array([[0.1, 0.0], [0.3, 0.4]], np.float32))
    # Of three queries in the table, the rows 0 and 2 were scored.
    of_some = Scores(("a", "c"), ("vision", "audio"), values, np.array([0, 2]))
    assert of_some.without("audio", np.array([False, True, True])).of("c") == pytest.approx({"vision": 0.3, "audio": 0})
    assert of_some.without("imu", np.array([True, True, True])) is of_some
    np.testing.assert_array_equal(of_all.values, np.array([[0.1, 0.2], [0.3, 0.4]], np.float32))
