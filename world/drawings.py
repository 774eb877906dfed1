"""Drawing of each kind."""

from __future__ import annotations

from world.sprites import Drawing
from world.sprites_living import draw_baby, draw_dog, draw_person, draw_rooster
from world.sprites_made import draw_box, draw_chainsaw, draw_chair, draw_clock, draw_helicopter
from world.sprites_nature import draw_fire, draw_rain, draw_sea_waves, draw_tree

DRAWINGS: dict[str, Drawing] = {
    "dog": Drawing(draw_dog, 0.88, phases=4, phase_hz=4.0),
    "rain": Drawing(draw_rain, 0.56, phases=4, phase_hz=8.0, shadow=0.0),
    "sea_waves": Drawing(draw_sea_waves, 1.5, phases=4, phase_hz=2.0, shadow=0.0),
    "baby": Drawing(draw_baby, 0.52, phases=4, phase_hz=3.0),
    "clock": Drawing(draw_clock, 0.35, phases=4, phase_hz=2.0),
    "person": Drawing(draw_person, 0.24, phases=4, phase_hz=3.0),
    "helicopter": Drawing(draw_helicopter, 1.26, phases=4, phase_hz=20.0, shadow=0.0),
    "chainsaw": Drawing(draw_chainsaw, 0.96, phases=4, phase_hz=20.0),
    "rooster": Drawing(draw_rooster, 0.85, phases=4, phase_hz=2.0),
    "fire": Drawing(draw_fire, 0.48, phases=4, phase_hz=8.0, shadow=0.0),
    "chair": Drawing(draw_chair, 0.34),
    "box": Drawing(draw_box, 0.66),
    "tree": Drawing(draw_tree, 0.37),
}
