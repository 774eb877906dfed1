"""Scores of weights with a calibration are probabilities; a calibration serves the weights that it was made for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.commands.weights import WeightsError, calibrate
from agent.config.parse import parse
from agent.lab.assessment import Verdict, verdict
from agent.lab.calibration import KnownMargins, fit
from agent.lab.reliability import Reliability
from agent.perceiving.alerts.curves import DENSE, PLACES, curves_of, prompts_hash, usable
from agent.perceiving.alerts.prompts import BACKGROUND
from agent.perceiving.alerts.scoring import Scorer
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, StandingQuery
from agent.run import build
from agent.scores import Scores, put_scores
from agent.vectors import Vectors
from benchmarks.accuracy import FALLING, asking, measure_ride, poisson_interval, run
from drivers.driver import MODALITIES, Modality
from models.files import calibration, description, store
from models.files.calibration import POOLED, Calibration, CalibrationError, path_beside
from protos import perception_pb2 as pb
from world.scene import Scene, SceneOptions

SCALES: dict[Modality, float] = {"vision": 11.0, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
D = 6
FALL_SEED = 22
"""Its robot falls after 15 s."""


def axis(i: int) -> NDArray[np.float32]:
    return np.eye(D, dtype=np.float32)[i]


def made(**changes: Any) -> Calibration:
    curves = {place: {POOLED: (1.0, 0.0, -1.0), "dog": (2.0, 0.5, -3.0)} for place in PLACES}
    whole = Calibration("0123456789ab", prompts_hash(BACKGROUND, SCALES), "a command", {"dog": axis(0)}, curves)
    return replace(whole, **changes)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.safetensors"
    calibration.write(made(), path_beside(weights))
    found = calibration.beside(weights, "0123456789ab")
    assert found is not None
    assert found.tree() == made().tree()


def test_the_calibration_of_a_folder_of_weights_lies_in_it(tmp_path: Path) -> None:
    calibration.write(made(), tmp_path / "calibration.json")
    assert calibration.beside(tmp_path, "0123456789ab") is not None


def test_a_calibration_never_serves_other_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = tmp_path / "tiny.safetensors"
    calibration.write(made(), path_beside(weights))
    assert calibration.beside(weights, "ba9876543210") is None
    (line,) = caplog.messages
    assert "is of other weights (0123456789ab, and these are ba9876543210)" in line


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda tree: tree.update(format="other"), "format 'other'"),
        (lambda tree: tree.pop("curves"), "curves"),
        (lambda tree: tree["curves"]["audio"].pop(POOLED), "audio has no curve 'pooled'"),
        (lambda tree: tree["curves"]["audio"].update(dog=[-1, 0, 0]), "two slopes of at least 0"),
        (lambda tree: tree["curves"]["audio"].update(dog=[math.nan, 0, 0]), "two slopes of at least 0"),
        (lambda tree: tree["concepts"].update(dog=[0, 0, 0, 0, 0, 0]), "a concept has no vector"),
        (lambda tree: tree["concepts"].update(cat=[1.0]), "differ in length"),
    ],
)
def test_a_damaged_calibration_is_told_of_in_one_line(damage: Callable[[Any], object], told: str) -> None:
    tree = made().tree()
    damage(tree)
    with pytest.raises(CalibrationError, match="not a calibration") as error:
        Calibration.of_tree(tree)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_a_file_that_is_no_calibration_leaves_the_weights_without_one(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path_beside(tmp_path / "tiny.safetensors").write_bytes(content)
    assert calibration.beside(tmp_path / "tiny.safetensors", "0123456789ab") is None
    (line,) = caplog.messages
    assert "tiny.calibration.json: cannot be used" in line


def test_a_query_takes_the_curves_of_the_nearest_concept_and_a_strange_one_the_pooled_ones() -> None:
    near, strange = (axis(0) + 0.3 * axis(1)) / np.float32(math.hypot(1, 0.3)), axis(2)
    assert made().concept(near) == "dog"
    assert made().concept(strange) == POOLED
    assert curves_of(made(), near).tolist() == [[2.0, 0.5, -3.0]] * len(PLACES)
    assert curves_of(made(), strange).tolist() == [[1.0, 0.0, -1.0]] * len(PLACES)


def test_scores_without_a_calibration_that_fits_are_said_to_be_none_once(caplog: pytest.LogCaptureFixture) -> None:
    assert usable(made(), BACKGROUND, SCALES) is not None
    assert not caplog.messages
    for unfit, why in (
        ((None, BACKGROUND, SCALES), "these weights have no calibration"),
        ((made(), ["a wall"], SCALES), "other background_prompts or alerts.logit_scales"),
        ((made(), BACKGROUND, {**SCALES, "audio": 21.0}), "other background_prompts or alerts.logit_scales"),
        ((made(curves={"vision": {POOLED: (1.0, 0.0, 0.0)}}), BACKGROUND, SCALES), "no curve for audio"),
    ):
        caplog.clear()
        assert usable(*unfit) is None
        (line,) = caplog.messages
        assert line.startswith("scores are not probabilities")
        assert why in line


def scorer(curves: NDArray[np.float32], *, dense: bool) -> Scorer:
    table = QueryTable()
    background = np.stack([axis(4), axis(5)])
    found = Scorer(table, dict.fromkeys(MODALITIES, background), SCALES, dense=dense, calibrated=True)
    for i, name in enumerate(("dog", "cat")):
        row = table.add(StandingQuery(Query(name, name)))
        everything = np.ones(2, np.bool_)
        found.set(row, dict.fromkeys(MODALITIES, axis(i)), dict.fromkeys(MODALITIES, everything), curves)
    return found


def windows(*modalities: Modality) -> dict[Modality, Vectors]:
    return {m: (axis(0) + axis(4))[None] / np.float32(math.sqrt(2)) for m in modalities}


def test_a_calibrated_score_is_the_curve_of_its_modality_at_the_margin() -> None:
    curves = np.array([[0.5 + 0.1 * i, 0.0, -1.0 - i] for i in range(len(PLACES))], np.float32)
    found = scorer(curves, dense=False).score(windows(*MODALITIES))
    assert found.calibrated
    for i, modality in enumerate(MODALITIES):
        s, cosine = SCALES[modality], 1 / math.sqrt(2)
        margin = s * cosine - math.log(math.exp(s * cosine) + 1.0)
        slope, _, offset = curves[i].tolist()
        assert found.of("dog")[modality] == pytest.approx(sigmoid(slope * margin + offset), abs=1e-5)


def test_patches_count_with_the_slope_of_their_own_and_only_where_they_are_scored() -> None:
    curves = np.zeros((len(PLACES), 3), np.float32)
    curves[PLACES.index("vision")] = [1.0, 0.0, 0.25]
    curves[PLACES.index(DENSE)] = [0.5, 2.0, -0.5]
    patches = np.tile(axis(4), (1, 4, 4, 1))
    patches[0, 1, 1] = patches[0, 1, 2] = axis(0)
    closer, whole = scorer(curves, dense=True), scorer(curves, dense=False)
    s, cosine = SCALES["vision"], 1 / math.sqrt(2)
    own = s * cosine - math.log(math.exp(s * cosine) + 1.0)
    patch = s - math.log(2.0)
    given = windows("vision")
    assert closer.score(given, patches).of("dog")["vision"] == pytest.approx(
        sigmoid(0.5 * own + 2 * patch - 0.5), abs=1e-5
    )
    for score in (closer.score(given), whole.score(given, patches)):  # no patches, or not looked at
        assert score.of("dog")["vision"] == pytest.approx(sigmoid(own + 0.25), abs=1e-5)


def test_some_rows_score_as_all_rows_do() -> None:
    curves = np.array([[0.7, 0.2, -1.0]] * len(PLACES), np.float32)
    found = scorer(curves, dense=False)
    whole, second = found.score(windows("audio", "imu")), found.score(windows("audio", "imu"), rows=np.array([1]))
    assert second.query_ids == ("cat",)
    assert second.of("cat") == whole.of("cat")
    assert second.calibrated


def drawn(curve: tuple[float, float, float], n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Margins, and a truth that follows from them with the probability of a curve."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(-2.0, 3.0, (n, 2))
    slope, patch_slope, offset = curve
    share = 1 / (1 + np.exp(-(slope * margins[:, 0] + patch_slope * margins[:, 1] + offset)))
    return margins, (rng.random(n) < share).astype(np.float64)


def test_a_fit_finds_the_curve_that_the_truth_was_drawn_from() -> None:
    found = fit(*drawn((0.8, 0.3, -1.5), 40_000, 1), (0.0, 0.0, 0.0), 1e-3)
    assert found == pytest.approx((0.8, 0.3, -1.5), abs=0.06)


def test_a_margin_that_says_nothing_or_the_opposite_gives_the_base_rate() -> None:
    margins, true = drawn((-0.7, 0.0, -3.0), 20_000, 2)
    slope, patch_slope, offset = fit(margins, true, (0.0, 0.0, 0.0), 1e-3)
    assert slope == 0.0
    assert patch_slope == pytest.approx(0.0, abs=0.03)
    mean_score = float(np.mean(1 / (1 + np.exp(-(patch_slope * margins[:, 1] + offset)))))
    assert mean_score == pytest.approx(float(true.mean()), abs=1e-3)


def test_a_concept_that_was_seldom_met_keeps_to_the_curve_of_all() -> None:
    examples = KnownMargins()
    for concept, n, seed in (("dog", 4000, 3), ("baby", 4000, 4), ("rain", 3, 5)):
        for (own, patch), true in zip(*drawn((1.0, 0.0, -1.0), n, seed), strict=True):
            examples.add("audio", concept, (own, patch), bool(true))
    curves = examples.curves("audio")
    assert curves["rain"] == pytest.approx(curves[POOLED], abs=0.3)
    assert curves["dog"] == pytest.approx((1.0, 0.0, -1.0), abs=0.15)


def embedding(t_s: float, score: float) -> pb.Event:
    event = pb.Event(capture_ns=round(t_s * 1e9), embedding=pb.Embedding())
    put_scores(Scores((FALLING,), ("imu",), np.array([[score]], np.float32)), event.embedding)
    return event


def fall_of(scene: Scene) -> float:
    """Seconds at which the scene's first fall begins."""
    return next(t / 10 for t in range(10_000) if "falling" in scene.moved_between(t / 10, t / 10 + 0.1))


def test_a_fall_is_felt_once_it_has_lasted_and_not_before_it_began_and_long_after() -> None:
    scene = Scene(SceneOptions(FALL_SEED))
    fall_s = fall_of(scene)
    told = [verdict(scene, fall_s + after_s, FALLING, "felt") for after_s in (-1.0, 0.5, 1.5, 3.0, 6.5, 12.0)]
    yes, no, unsure = Verdict.YES, Verdict.NO, Verdict.UNSURE
    assert told == [no, unsure, yes, yes, unsure, no]


def test_the_error_of_a_calibration_is_the_distance_of_scores_from_the_truth() -> None:
    scene = Scene(SceneOptions(FALL_SEED))
    fall_s = fall_of(scene)
    reliability = Reliability()
    events = [embedding(fall_s + 1.5, 0.85), embedding(fall_s + 3.0, 0.95), embedding(fall_s - 2.0, 0.25)]
    reliability.observe(scene, 0, [*events, embedding(fall_s - 3.0, 0.01)], {FALLING: FALLING})  # too low to count
    assert reliability.counts["imu"] == 3
    assert reliability.error("imu") == pytest.approx((0.15 + 0.05 + 0.25) / 3, abs=1e-6)
    twice = Reliability()
    twice.add(reliability)
    twice.add(reliability)
    assert (twice.counts["imu"], twice.error("imu")) == (6, pytest.approx(reliability.error("imu")))
    assert math.isnan(reliability.error("audio"))


def test_intervals_of_rates_are_the_exact_ones() -> None:
    assert poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)  # Garwood 1936
    assert poisson_interval(3) == pytest.approx((0.619, 8.767), abs=1e-3)


def test_the_shipped_weights_are_calibrated_with_the_prompts_of_today() -> None:
    """Make it anew with `sensebind weights calibrate imagebind_nano` after a change of prompts or weights."""
    weights = store.find("imagebind_nano")
    shipped = calibration.beside(weights, description.content_hash(weights))
    assert shipped is not None
    pipeline = build.offline(parse({"sensors": {"imu": {"type": "synthetic_imu", "pace": "fast", "duration_s": 1}}}))
    try:
        scales = pipeline.load_model().model.logit_scales()
    finally:
        pipeline.stop()
    assert usable(shipped, BACKGROUND, scales) is shipped
    best_dog = shipped.curve("imu", "dog")
    assert sigmoid(best_dog[2]) < 0.2  # its margin is never above 0: an IMU feels no dog


def test_a_fall_raises_an_alert_and_other_motions_none(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(SceneOptions(FALL_SEED))
    seconds = fall_of(scene) + 8.0
    with caplog.at_level(logging.WARNING, "agent.perceiving.alerts.curves"):
        counts = measure_ride(FALL_SEED, seconds).assessment.alerts["felt"]
    assert (counts.found, counts.missed, counts.false) == (1, 0, 0)
    assert not caplog.messages


def test_an_imu_gives_a_dog_the_base_rate_whatever_it_feels() -> None:
    sensor = {"type": "synthetic_imu", "seed": 8, "pace": "fast", "duration_s": 8.0}
    _, events = run(asking(parse({"sensors": {"imu": sensor}}), {"dog": "a dog"}, None))
    scores = [s.score for e in events for s in e.embedding.scores]
    assert scores
    assert max(scores) < 0.2


def test_a_place_that_cannot_be_written_is_told_before_the_work_begins(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"x\.json: cannot be written; give another file by --out"):
        calibrate("imagebind_nano", tmp_path / "absent" / "x.json")
