"""Limits that lie beside weights: written, read, and refused where they are not theirs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config.settings import ModelSettings
from agent.lab import limits as lab
from agent.lab.assessment import Verdict
from agent.perceiving.limits import UNKNOWN, InView, Provenance, WeightLimits, path_beside, read_limits, write_limits
from models.files import description, store
from world.scene import Scene, SceneOptions

PROVENANCE = Provenance("aaaabbbbcccc", "a test", "1 to 2", 10, 20, 0.9, 0.1, 0.5)
LIMITS = WeightLimits(InView(slope=30.0, offset=-11.0), steady_means_something=False)


def test_limits_are_read_as_they_were_written(tmp_path: Path) -> None:
    for weights in (tmp_path / "mine.safetensors", tmp_path):
        write_limits(path_beside(weights), LIMITS, PROVENANCE)
        assert read_limits(weights, "aaaabbbbcccc") == LIMITS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["limits.json", "mine.limits.json"]


def test_weights_without_limits_have_none_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_limits(tmp_path / "mine.safetensors", "aaaabbbbcccc") == UNKNOWN
    (record,) = caplog.records
    assert "mine.limits.json: is not there" in record.message
    assert "`sensebind weights limits`" in record.message


def test_limits_of_other_weights_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_limits(path_beside(tmp_path), LIMITS, PROVENANCE)
    assert read_limits(tmp_path, "ddddeeeeffff") == UNKNOWN
    assert "of other weights (aaaabbbbcccc, and these are ddddeeeeffff)" in caplog.text


@pytest.mark.parametrize(
    "part",
    [
        {"in_view": {"slope": -1.0, "offset": 0.0}},
        {"in_view": {"slope": float("nan"), "offset": 0.0}},
        {"in_view": {"slope": 1.0}},
        {"in_view": 3},
        {"steady_means_something": "no"},
    ],
)
def test_damaged_limits_are_not_used(part: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = path_beside(tmp_path)
    write_limits(path, LIMITS, PROVENANCE)
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "limits": {**tree["limits"], **part}}))
    assert read_limits(tmp_path, "aaaabbbbcccc") == UNKNOWN
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("data", [b"", b"[", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_not_limits_are_not_used(data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path_beside(tmp_path).write_bytes(data)
    assert read_limits(tmp_path, "aaaabbbbcccc") == UNKNOWN
    assert "cannot be used" in caplog.text


def test_the_shipped_weights_have_limits_of_their_own() -> None:
    weights = store.find("imagebind_nano")
    limits = read_limits(weights, description.content_hash(weights))
    assert limits.in_view is not None
    assert not limits.steady_means_something


def test_a_probability_rises_with_similarity_and_with_other_evidence() -> None:
    curve = InView(slope=20.0, offset=-8.0)
    assert curve.probability(0.4) == pytest.approx(0.5)
    assert curve.probability(0.5) == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert curve.probability(0.4, log_odds=np.log(3)) == pytest.approx(0.75)
    assert (curve.probability(-1e9), curve.probability(1e9)) == pytest.approx((0.0, 1.0))


def test_the_fitted_curve_weighs_sounds_in_and_out_of_view_alike() -> None:
    rng = np.random.default_rng(0)
    for others in (1000, 9000):  # however many sounds are out of view, the middle between both kinds is even
        similarity = np.concatenate([rng.normal(0.5, 0.08, 1000), rng.normal(0.3, 0.08, others)])
        curve = lab.fit(similarity, np.arange(1000 + others) < 1000)
        assert curve.probability(0.4) == pytest.approx(0.5, abs=0.15)
        # Two normal distributions of one width: the slope is their distance over the variance.
        assert curve.slope == pytest.approx(0.2 / 0.08**2, rel=0.15)


def test_a_curve_of_sounds_that_never_overlap_is_finite() -> None:
    curve = lab.fit(np.array([0.1, 0.2, 0.5, 0.6]), np.array([False, False, True, True]))
    assert np.isfinite([curve.slope, curve.offset]).all()
    assert curve.probability(0.2) < 0.5 < curve.probability(0.5)


@pytest.mark.parametrize("in_view", [True, False])
def test_a_curve_needs_sounds_of_both_kinds(in_view: bool) -> None:
    with pytest.raises(ValueError, match="more scenes"):
        lab.fit(np.array([0.1, 0.2]), np.array([in_view, in_view]))


def test_moments_are_those_at_which_one_thing_alone_sounds() -> None:
    scene = Scene(SceneOptions(3, 120, 120))
    for t_s in range(3, 40):
        verdict, sounded = lab.in_view(scene, t_s), scene.sounded_between(t_s - 0.5, t_s)
        assert (verdict is not None) == (len(sounded) == 1 and max(sounded.values()) >= 0.4)
        if verdict is Verdict.YES:
            thing = scene.truth(t_s).thing(next(iter(sounded)))
            assert thing is not None
            assert thing.visible >= 0.5


def test_limits_are_measured_on_scenes() -> None:
    limits, provenance = lab.measure(ModelSettings(), first_seed=2, scenes=2, seconds=16)
    assert limits.in_view is not None
    assert 0.2 < -limits.in_view.offset / limits.in_view.slope < 0.6, "similarity at which it is even"
    assert not limits.steady_means_something, "the shipped weights give steady sound the names of things"
    assert provenance.steady_named > lab.MOST_NAMED
    assert provenance.seeds == "2 to 3"
    assert min(provenance.sounds_in_view, provenance.sounds_out_of_view) > 0
    assert provenance.kept > 0.8 > 0.3 > provenance.let_through


def test_a_tick_of_a_scene_holds_what_its_camera_and_microphone_give_until_then() -> None:
    scene = Scene(SceneOptions(4, 120, 100))
    tick = lab.tick_of(scene, 3.5, channels=2)
    picture, sound = tick.windows["camera"].data, tick.windows["microphone"].data
    assert picture is not None
    assert sound is not None
    np.testing.assert_array_equal(picture[1], scene.image(35))
    np.testing.assert_array_equal(picture[0], scene.image(32))
    np.testing.assert_array_equal(sound, scene.audio(24_000, 32_000)[:, :2])


def test_a_steady_sound_must_be_one_of_those_there_are() -> None:
    with pytest.raises(ValueError, match="white noise"):
        lab.steady_sound("rain", np.random.default_rng(0))
