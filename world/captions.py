"""Captions of a synthetic scene: of its things, its emptiness and its motion.

Trained words are the only ones that a model knows, so each thing is called by several names. A caption is a phrase in
one of the templates that the caller gives: those that texts are put into when they are embedded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Words:
    """Phrases for one kind: what it looks like, and what it does when it can be heard (none for a silent kind)."""

    looks: tuple[str, ...]
    sounds: tuple[str, ...] = ()


WORDS: dict[str, Words] = {
    "dog": Words(
        ("a dog", "dog", "the dog", "a pet dog", "a hound", "dogs"),
        (
            "a dog barking",
            "a barking dog",
            "the dog is barking",
            "dogs barking",
            "a dog barks",
            "barking",
            "a dog bark",
        ),
    ),
    "rain": Words(
        ("rain", "the rain", "a rain shower", "a shower of rain", "raindrops", "a rain cloud"),
        ("rain falling", "falling rain", "it is raining", "raining", "rainfall", "the rain is falling", "heavy rain"),
    ),
    "sea_waves": Words(
        ("sea waves", "waves", "the sea", "ocean waves", "a wave", "the ocean", "water"),
        ("sea waves", "waves rolling in", "waves breaking", "the sound of the sea", "surf", "crashing waves"),
    ),
    "baby": Words(
        ("a baby", "baby", "the baby", "an infant", "a little child", "babies"),
        ("a baby crying", "a crying baby", "the baby is crying", "a baby cries", "baby cry", "crying"),
    ),
    "clock": Words(
        ("a clock", "clock", "the clock", "a grandfather clock", "a standing clock", "clocks"),
        ("a clock ticking", "a ticking clock", "the clock is ticking", "a clock ticks", "clock tick", "ticking"),
    ),
    "person": Words(
        ("a person", "person", "the person", "a human", "somebody", "a man", "a woman", "people"),
        ("a person sneezing", "a sneezing person", "somebody is sneezing", "a person sneezes", "a sneeze", "sneezing"),
    ),
    "helicopter": Words(
        ("a helicopter", "helicopter", "the helicopter", "a chopper", "helicopters", "an aircraft"),
        ("a helicopter flying", "a flying helicopter", "the helicopter is flying", "a helicopter flies", "rotor noise"),
    ),
    "chainsaw": Words(
        ("a chainsaw", "chainsaw", "the chainsaw", "a chain saw", "a power saw", "chainsaws"),
        ("a chainsaw running", "a running chainsaw", "the chainsaw is running", "a chainsaw cutting wood", "sawing"),
    ),
    "rooster": Words(
        ("a rooster", "rooster", "the rooster", "a cock", "roosters", "a bird"),
        ("a rooster crowing", "a crowing rooster", "the rooster is crowing", "a rooster crows", "crowing"),
    ),
    "fire": Words(
        ("a fire", "fire", "the fire", "a campfire", "flames", "a burning fire"),
        (
            "a crackling fire",
            "a fire crackling",
            "the fire is crackling",
            "fire crackling",
            "crackling",
            "burning wood",
        ),
    ),
    "chair": Words(("a chair", "chair", "the chair", "a wooden chair", "a seat", "chairs")),
    "box": Words(("a box", "box", "the box", "a crate", "a cardboard box", "boxes")),
    "tree": Words(("a tree", "tree", "the tree", "a tall tree", "a green tree", "trees")),
}

MOTIONS: dict[str, tuple[str, ...]] = {
    "standing": ("standing still", "standing", "the robot is standing still", "the robot stands", "not moving"),
    "driving": ("driving forward", "driving", "the robot is driving", "moving forward", "the robot drives ahead"),
    "turning left": ("turning left", "the robot is turning left", "a turn to the left", "rotating left"),
    "turning right": ("turning right", "the robot is turning right", "a turn to the right", "rotating right"),
    "bumping": ("bumping into something", "bumping", "a bump", "the robot is bumping over something", "a bumpy ride"),
    "climbing": ("climbing a slope", "climbing", "the robot is climbing", "driving up a slope", "going uphill"),
    "falling": ("falling", "the robot is falling", "falling over", "the robot fell over", "a fall"),
}

NOTHING: tuple[str, ...] = (
    "nothing",
    "silence",
    "background noise",
    "white noise",
    "the hum of an empty room",
    "an empty room",
    "an empty street",
    "a wall",
    "the floor",
    "the sky",
    "grass",
    "an empty place",
    "a quiet place",
    "nobody",
    "no sound",
    "an empty scene",
)
"""Captions of frames without a thing in view, and of audio that holds only background."""

_NEAR, _FAR = "a close-up photo of {}.", "a photo of {} in the distance."


def of_thing(
    kind: str, rng: np.random.Generator, templates: Sequence[str], *, near: bool, far: bool, count: int = 8
) -> tuple[str, ...]:
    """Return true captions of a thing in view, drawn for every example; a third describe its sound."""
    words = WORDS[kind]
    banned = {template for template, said in ((_NEAR, near), (_FAR, far)) if not said}
    fitting = [template for template in templates if template not in banned]
    captions = []
    for _ in range(count):
        phrases = words.sounds if words.sounds and rng.random() < 0.35 else words.looks
        template = "{}" if rng.random() < 0.4 else str(rng.choice(fitting))
        captions.append(template.replace("{}", str(rng.choice(phrases))))
    return tuple(captions)


def of_pair(first: str, second: str, rng: np.random.Generator) -> str:
    """A caption of two things in one picture."""
    a, b = (WORDS[kind].looks[0] for kind in (first, second))
    joined = (f"{a} and {b}", f"{a} next to {b}", f"{a} with {b}", f"a photo of {a} and {b}.")
    return str(rng.choice(joined))


def of_nothing(rng: np.random.Generator, templates: Sequence[str], count: int = 6) -> tuple[str, ...]:
    """Return captions of a view without a thing."""
    fitting = [template for template in templates if template not in (_NEAR, _FAR)]
    captions = []
    for phrase in rng.choice(NOTHING, count):
        template = "{}" if rng.random() < 0.6 else str(rng.choice(fitting))
        captions.append(template.replace("{}", str(phrase)))
    return tuple(captions)


def of_motion(motion: str, rng: np.random.Generator, count: int = 3) -> tuple[str, ...]:
    """Captions of how the robot moves, which two frames show."""
    templates = ["{}", "{}", "{}.", "a video of {}.", "this is {}."]
    return tuple(str(rng.choice(templates)).replace("{}", str(phrase)) for phrase in rng.choice(MOTIONS[motion], count))
