"""Shards out of the synthetic world say what is true of it, hold every group, and depend on nothing but the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from agent.lab.simulate import describe, examples, groups, simulate
from models.datasets.dataset import About, Example, all_captions, read, read_index
from world.captions import MOTIONS
from world.kinds import SOUNDING
from world.scene import Scene, SceneOptions
from world.truth import ThingTruth, Truth

OPTIONS = SceneOptions(width=80, height=60)


def thing(kind: str, box: tuple[float, float, float, float] | None = None, **values: float) -> ThingTruth:
    given = {"visible": 1.0 if box else 0.0, "loudness": 0.0, **values}
    sounding = given["loudness"] > 0
    return ThingTruth(0, kind, (1.0, 0.0, 0.0), 1.0, 0.0, 0.0, box, given["visible"], sounding, given["loudness"])


def about(*things: ThingTruth, motion: str = "standing") -> About:
    truths = [Truth(t_s, things, motion) for t_s in (8.0, 9.0, 10.0)]  # type: ignore[arg-type]
    return describe(truths, SceneOptions(), np.random.default_rng(0))


MIDDLE = (120.0, 80.0, 200.0, 160.0)


@pytest.fixture(scope="module")
def drawn() -> list[Example]:
    return list(examples(24, 10_000, OPTIONS))


def test_a_sounding_thing_in_view_is_a_pair() -> None:
    facts = about(thing("dog", MIDDLE, loudness=0.02), thing("chair"))
    assert facts.heard == "dog"
    assert facts.shown
    assert facts.clear
    assert facts.seen["dog"].boxes == (MIDDLE,)
    assert "pair dog" in groups(facts)
    assert all("dog" in text or "hound" in text or "bark" in text for text in facts.seen["dog"].captions)


def test_a_sound_whose_source_is_out_of_view_is_no_pair() -> None:
    facts = about(thing("dog", loudness=0.02), thing("rooster", MIDDLE))
    assert facts.heard == "dog"
    assert not facts.shown
    assert set(facts.seen) == {"rooster"}


def test_what_the_model_s_crop_cuts_off_is_not_seen() -> None:
    facts = about(thing("dog", (0.0, 80.0, 60.0, 140.0), loudness=0.02))  # 40 of its 60 pixels are cut off
    assert facts.seen == {}
    assert not facts.shown
    assert not facts.clear
    assert facts.scene == ()


def test_half_hidden_and_tiny_things_are_not_clear() -> None:
    assert not about(thing("dog", MIDDLE, visible=0.3)).clear
    assert not about(thing("dog", (150.0, 100.0, 165.0, 115.0))).clear


def test_quiet_is_a_pair_only_with_an_empty_view() -> None:
    empty = about(thing("dog"))
    assert (empty.heard, empty.shown) == ("", True)
    assert empty.scene
    assert "quiet" in groups(empty)
    assert not about(thing("dog", MIDDLE)).shown


def test_two_sounds_at_once_and_short_sounds_are_neither_heard_nor_quiet() -> None:
    assert about(thing("dog", MIDDLE, loudness=0.02), thing("rain", loudness=0.01)).heard is None
    assert about(thing("dog", MIDDLE, loudness=0.02), thing("rain", loudness=0.001)).heard == "dog"
    silent, loud = thing("dog"), thing("dog", loudness=0.02)
    truths = [Truth(8.0 + i, (last,), "standing") for i, last in enumerate((silent, silent, loud))]
    assert describe(truths, SceneOptions(), np.random.default_rng(0)).heard is None


def test_motion_is_named_when_it_is_steady() -> None:
    assert about(motion="falling").motion == "falling"
    assert set(about(motion="turning left").movement) <= {
        template.replace("{}", phrase)
        for phrase in MOTIONS["turning left"]
        for template in ("{}", "{}.", "a video of {}.", "this is {}.")
    }
    truths = [Truth(8.0 + i, (), motion) for i, motion in enumerate(("driving", "driving", "standing"))]  # type: ignore[arg-type]
    assert describe(truths, SceneOptions(), np.random.default_rng(0)).motion == ""


def test_examples_have_the_windows_that_the_agent_cuts(drawn: list[Example]) -> None:
    assert len(drawn) == 24
    assert len({e.key for e in drawn}) == 24
    for e in drawn:
        assert e.frames.shape == (2, 60, 80, 3)
        assert e.audio.shape == (32000,)
        assert e.imu.shape == (2000, 6)
        assert e.depth_m.shape == e.temperature_c.shape == (60, 80)
        assert all_captions(e.about) or not e.about.clear
    scene = Scene(OPTIONS)
    assert scene.options.seed == 0


def test_examples_agree_with_the_scene_they_were_drawn_from(drawn: list[Example]) -> None:
    for e in drawn[:6]:
        seed, at_ms = (int(part) for part in e.key.split("-"))
        scene, t_s = Scene(SceneOptions(seed=seed, width=80, height=60)), at_ms / 1e3
        spans = {span.kind: span for span in scene.truth_between(t_s - 2.0, t_s)}
        if e.about.heard:
            assert spans[e.about.heard].sounding_s >= 0.95
        elif e.about.heard == "":
            assert all(span.sounding_s < 0.05 for span in spans.values())
        assert all(spans[kind].in_view_s > 0 for kind in e.about.seen)
        np.testing.assert_array_equal(e.frames[1], scene.image(int(t_s * 10)))


def test_pairs_of_sounds_and_images_are_picked_out(drawn: list[Example]) -> None:
    counts = Counter(group for e in drawn for group in groups(e.about))
    pairs = [counts[f"pair {kind}"] for kind in SOUNDING]
    assert sum(pairs) >= 8  # at random moments about one in six is a pair
    assert sum(n > 0 for n in pairs) >= 4
    assert counts["two in view"] >= 4


def test_the_same_seed_gives_the_same_shards_whatever_wrote_them(tmp_path: Path) -> None:
    told: list[list[tuple[str, float, float | None]]] = [[], []]
    once, twice = (
        simulate(
            tmp_path / f"{processes}",
            6,
            10_000,
            processes=processes,
            options=OPTIONS,
            windows_per_shard=3,
            progress=lambda *step, steps=steps: steps.append(step),
        )
        for processes, steps in zip((1, 2), told, strict=True)
    )
    assert told[0] == [("examples", number, 6) for number in range(7)]
    assert told[1][-1] == ("examples", 6, 6)
    assert [done for _, done, _ in told[1]] == sorted(done for _, done, _ in told[1])
    assert [p.name for p in once] == ["000000.tar", "000001.tar"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(once, twice, strict=True))
    assert len(list(read(tmp_path / "1"))) == 6
    assert set(read_index(tmp_path / "1").heard) == set(SOUNDING)


def test_shards_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "000000.tar").write_bytes(b"kept")
    simulate(tmp_path, 4, 10_000, processes=1, options=OPTIONS, windows_per_shard=2)
    assert (tmp_path / "000000.tar").read_bytes() == b"kept"
    assert (tmp_path / "000001.tar").stat().st_size > 1000


def test_no_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="windows: 0"):
        simulate(tmp_path, 0, 1)
