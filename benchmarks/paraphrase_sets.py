"""Paraphrases of what the shipped weights know, by kind of thing or motion, and texts that they do not know.

The table of words (`models/shipped/imagebind_nano.words.yaml`) was written with WRITTEN at hand. HELD is older than the
table, by the same author, and was not used for it.
"""

from __future__ import annotations

from collections.abc import Mapping

WRITTEN: Mapping[str, tuple[str, ...]] = {
    "dog": ("someone's dog barks", "dogs are barking loudly", "is there a dog?", "woof", "the bark of a puppy"),
    "rain": ("heavy rainfall", "it rains", "rain shower", "the sound of raindrops", "it is raining again"),
    "sea_waves": ("waves breaking", "the sound of the ocean", "sea", "crashing waves", "the tide rolling in"),
    "baby": ("a child crying", "the baby is crying", "babies cry", "a baby wails", "infant"),
    "clock": (
        "tick tock",
        "clock ticks",
        "the sound of a ticking clock",
        "a grandfather clock",
        "is the clock ticking?",
    ),
    "person": ("someone sneezes", "a woman sneezed", "a sneeze", "people", "is somebody there?"),
    "helicopter": (
        "a helicopter flies overhead",
        "rotor noise",
        "is there a helicopter?",
        "choppers",
        "helicopter sound",
    ),
    "chainsaw": ("the noise of a chainsaw", "a chainsaw cutting a tree", "power saw", "a saw is running", "chainsaws"),
    "rooster": ("a crowing cock", "rooster crow", "tell me when the rooster crows", "a bird crowing", "cockerel"),
    "fire": ("the crackle of a fire", "burning wood", "flames", "a bonfire", "a picture of a campfire"),
    "chair": ("chairs", "a stool"),
    "box": ("a crate", "there's a box here"),
    "tree": ("a tall green tree", "trees"),
    "falling": ("the robot fell over", "the robot topples over"),
    "driving": ("driving ahead",),
    "standing": ("the robot has stopped",),
}

HELD: Mapping[str, tuple[str, ...]] = {
    "dog": ("dog barks", "the sound of a dog barking", "can you hear a dog bark?", "a hound that barks", "woof woof"),
    "rain": ("it's raining", "rain is coming down", "raindrops falling", "a downpour", "sound of rainfall"),
    "sea_waves": ("waves crashing on the shore", "ocean", "the sound of waves", "surf on a beach", "seaside waves"),
    "baby": ("an infant crying", "the baby cries", "a crying infant", "is the baby crying?", "a newborn wailing"),
    "clock": (
        "the ticking of a clock",
        "a clock that ticks",
        "tick-tock",
        "the clock is ticking",
        "a wall clock ticking",
    ),
    "person": ("somebody sneezed", "a man sneezing", "achoo", "is there anybody?", "a human being"),
    "helicopter": (
        "chopper",
        "a helicopter is overhead",
        "helicopter rotor",
        "the noise of a helicopter",
        "a chopper flying over",
    ),
    "chainsaw": ("a chain saw", "somebody using a chainsaw", "chainsaw noise", "sawing wood", "a running chain saw"),
    "rooster": ("a cockerel crowing", "cock-a-doodle-doo", "the rooster crows", "a rooster's crow", "cock crowing"),
    "fire": ("something is burning", "flames crackling", "a campfire crackling", "there is a fire"),
    "chair": ("a wooden seat", "an armchair"),
    "box": ("a cardboard box", "a package"),
    "tree": ("a tree nearby", "an oak tree"),
    "falling": ("the robot tips over", "the robot has fallen"),
    "driving": ("the robot is moving forward",),
    "turning left": ("turn left",),
    "climbing": ("going up a hill",),
}

UNKNOWN: tuple[str, ...] = (
    "engine noise",
    "smoke and fire",
    "water leaking",
    "a person coughing",
    "glass breaking",
    "a car horn",
    "gun shot",
    "music",
    "a cat meowing",
    "a siren",
    "someone talking",
    "a drone",
    "an elephant",
    "a red chair",
    "two dogs",
    "no dog",
    "Hund bellt",
    "footsteps",
    "a door slams",
    "xyzzy",
)
"""Texts whose meaning hangs on words that the weights were never trained on: refused."""

RELATED: tuple[str, ...] = (
    "a person fell to the floor",
    "person falling",
    "a dog crying",
    "a person on fire",
    "a baby on a chair",
    "a rooster barking",
    "a dog barking and a baby crying",
    "a helicopter falling into the sea",
)
"""Known words in a relation that no caption had: asked, with a warning."""
