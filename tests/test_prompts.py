"""Templates are averaged as CLIP averages them, and a query is never set against itself."""

import numpy as np
import pytest

from agent.perceiving.alerts.prompts import BACKGROUND, TEMPLATES, asks_for_quiet, embed_prompts, rivals
from agent.vectors import Vectors


class WordVectors:
    """A text encoder of known truth: each text has a unit vector of its own, drawn once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._rng = np.random.default_rng(0)
        self._known: dict[str, Vectors] = {}

    def __call__(self, texts: list[str]) -> Vectors:
        self.asked += texts
        return np.stack([self.of(text) for text in texts])

    def of(self, text: str) -> Vectors:
        if text not in self._known:
            vector = self._rng.normal(size=32)
            self._known[text] = (vector / np.linalg.norm(vector)).astype(np.float32)
        return self._known[text]


def test_a_text_is_the_normalised_mean_over_its_templates() -> None:
    encoder = WordVectors()
    pooled = embed_prompts(["a dog", "rain"], encoder, ("{}", "a photo of {}"))
    for row, text in zip(pooled, ("a dog", "rain"), strict=True):
        mean = (encoder.of(text) + encoder.of(f"a photo of {text}")) / 2
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    assert pooled.dtype == np.float32


def test_braces_and_format_fields_in_a_query_are_plain_text() -> None:
    encoder = WordVectors()
    embed_prompts(["a {0.__class__} {}"], encoder, ("see {}",))
    assert encoder.asked == ["see a {0.__class__} {}"]


def test_every_template_has_one_place_for_the_text() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES)
    assert len(set(BACKGROUND)) == len(BACKGROUND)


def left_out(query: str) -> set[str]:
    """Background prompts that a query is not held against, when no two vectors are alike."""
    encoder = WordVectors()
    kept = rivals(query, encoder.of(f"query {query}"), BACKGROUND, encoder(list(BACKGROUND)))
    return {prompt for prompt, keep in zip(BACKGROUND, kept, strict=True) if not keep}


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("a dog barking", {"a dog", "a dog barking"}),
        ("Dogs", {"a dog", "a dog barking"}),
        ("the sound of rain", {"rain", "rain falling"}),
        ("a tree", {"a tree"}),
        ("the robot is turning left", {"turning left"}),
        ("smoke", set()),
    ],
)
def test_prompts_that_use_the_querys_words_are_left_out(query: str, same: set[str]) -> None:
    assert left_out(query) == same


def test_a_falling_robot_is_still_held_against_falling_rain() -> None:
    assert left_out("the robot is falling") == {"falling", "rain falling"}
    assert "turning right" not in left_out("turning left")


def test_prompts_with_the_querys_vector_are_left_out_whatever_their_words() -> None:
    encoder = WordVectors()
    background = ["a hound", "a box"]
    kept = rivals("a dog", encoder.of("a hound"), background, encoder(background))
    assert kept.tolist() == [False, True]


def test_a_query_without_rivals_is_refused() -> None:
    encoder = WordVectors()
    with pytest.raises(ValueError, match="background_prompts"):
        rivals("a dog", encoder.of("q"), ["the dog", "dogs barking"], encoder(["the dog", "dogs barking"]))


@pytest.mark.parametrize("text", ["white noise", "silence", "the noise in the background", "a hum"])
def test_a_query_for_noise_or_silence_asks_for_quiet(text: str) -> None:
    assert asks_for_quiet(text)


@pytest.mark.parametrize("text", ["a dog barking", "rain", "noise of a helicopter", "a humming fridge in the kitchen"])
def test_a_query_for_a_thing_does_not_ask_for_quiet(text: str) -> None:
    assert not asks_for_quiet(text)
