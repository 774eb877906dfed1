"""Captions: every kind, motion and prompt is among the words that training teaches."""

from __future__ import annotations

import numpy as np

from agent.perceiving.alerts.prompts import BACKGROUND, TEMPLATES
from world.captions import MOTIONS, NOTHING, WORDS, of_nothing, of_pair, of_thing
from world.kinds import KINDS
from world.motion import MOTIONS as MOTION_NAMES


def test_every_kind_motion_and_prompt_has_words_in_the_captions() -> None:
    assert set(WORDS) == set(KINDS)
    assert all(bool(WORDS[kind].sounds) == (KINDS[kind].sound is not None) for kind in KINDS)
    assert set(MOTIONS) == set(MOTION_NAMES)
    phrases = [p for words in WORDS.values() for p in words.looks + words.sounds]
    phrases += [p for group in MOTIONS.values() for p in group] + list(NOTHING) + list(TEMPLATES)
    known = {word.strip(".") for phrase in phrases for word in phrase.split()}
    unknown = {word for prompt in BACKGROUND for word in prompt.split()} - known
    assert unknown == {"car", "music"}  # what the synthetic world does not have


def test_captions_of_distance_are_used_only_where_they_are_true() -> None:
    rng = np.random.default_rng(0)
    middle = of_thing("dog", rng, TEMPLATES, near=False, far=False, count=500)
    assert not any("close-up" in text or "distance" in text for text in middle)
    assert any("close-up" in text for text in of_thing("dog", rng, TEMPLATES, near=True, far=False, count=500))
    assert any("distance" in text for text in of_thing("dog", rng, TEMPLATES, near=False, far=True, count=500))


def test_captions_are_drawn_from_the_generator_alone() -> None:
    assert of_nothing(np.random.default_rng(3), TEMPLATES) == of_nothing(np.random.default_rng(3), TEMPLATES)
    assert "dog" in of_pair("dog", "tree", np.random.default_rng(0))
    assert "tree" in of_pair("dog", "tree", np.random.default_rng(0))
