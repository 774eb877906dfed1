"""Drawings of made things: clock, helicopter, chainsaw, chair, box."""

from __future__ import annotations

from math import cos, pi, sin

from world.sprites import Canvas, choose, darker

WOOD = ((120, 74, 40), (158, 106, 60), (84, 52, 34), (190, 150, 100))


def draw_clock(c: Canvas, phase: float) -> None:
    """A round clock with hands on a wooden stand."""
    r = c.random
    case = choose(r, *WOOD, (40, 44, 52), (150, 40, 40))
    face = choose(r, (248, 246, 236), (236, 226, 196), (225, 236, 246))
    c.rectangle(-0.20, 0.0, 0.20, 0.06, darker(case, 0.8))
    c.polygon([(-0.15, 0.06), (0.15, 0.06), (0.10, 0.45), (-0.10, 0.45)], case)
    c.rectangle(-0.05, 0.12, 0.05, 0.38, darker(case, 0.5))
    swing = 0.03 * sin(2 * pi * phase)
    c.line([(0, 0.38), (swing, 0.2)], 0.012, (220, 190, 90))
    c.ellipse(swing, 0.19, 0.032, 0.032, (235, 200, 80))
    c.ellipse(0, 0.68, 0.325, 0.325, darker(case, 0.75))
    c.ellipse(0, 0.68, 0.30, 0.30, case, 0.5)
    c.ellipse(0, 0.68, 0.255, 0.255, face, 1.0)
    for hour in range(12):
        angle = 2 * pi * hour / 12
        inner = 0.185 if hour % 3 == 0 else 0.21
        ends = [(length * sin(angle), 0.68 + length * cos(angle)) for length in (inner, 0.238)]
        c.line(ends, 0.026 if hour % 3 == 0 else 0.014, (25, 25, 30), 1.0)
    for length, width, turn in ((0.12, 0.03, r.random()), (0.19, 0.02, r.random())):
        c.line([(0, 0.68), (length * sin(2 * pi * turn), 0.68 + length * cos(2 * pi * turn))], width, (20, 20, 24), 1.0)
    second = 2 * pi * (r.random() + phase / 15)
    c.line([(0, 0.68), (0.21 * sin(second), 0.68 + 0.21 * cos(second))], 0.009, (210, 30, 30), 1.0)
    c.ellipse(0, 0.68, 0.022, 0.022, (20, 20, 24), 1.0)
    c.grain(0.04, 0.02, 3.0)


def draw_helicopter(c: Canvas, phase: float) -> None:
    """A helicopter from the side: cabin with glass, tail boom, turning rotors, skids."""
    r = c.random
    paint = choose(r, (200, 40, 40), (40, 80, 180), (240, 190, 40), (70, 90, 60), (235, 235, 235))
    dark = (50, 52, 58)
    for x in (-0.12, 0.30):
        c.line([(x, 0.3), (x - 0.02, 0.08)], 0.03, dark)
    c.line([(-0.35, 0.05), (0.48, 0.05), (0.56, 0.11)], 0.04, dark)
    c.polygon([(-0.15, 0.62), (-1.0, 0.60), (-1.0, 0.52), (-0.15, 0.36)], darker(paint, 0.85), 0.25)
    c.polygon([(-1.04, 0.50), (-0.90, 0.54), (-1.0, 0.86), (-1.12, 0.86)], darker(paint, 0.7))
    c.ellipse(0.10, 0.46, 0.44, 0.27, paint, 0.35)
    c.polygon([(0.16, 0.68), (0.16, 0.44), (0.52, 0.40), (0.50, 0.50), (0.36, 0.63)], (150, 205, 230), 0.1)
    c.line([(0.30, 0.66), (0.30, 0.43)], 0.022, dark)
    c.line([(-0.32, 0.40), (0.48, 0.33)], 0.04, darker(paint, 1.6) if sum(paint) < 500 else (200, 40, 40), 0.3)
    c.rectangle(-0.22, 0.66, 0.14, 0.80, darker(paint, 0.6), 1.0)
    c.line([(-0.26, 0.72), (-0.18, 0.72)], 0.06, (60, 50, 45), 1.0)
    c.line([(0.0, 0.78), (0.0, 0.93)], 0.045, dark, 0.6)
    reach = 0.35 + 0.65 * abs(cos(pi * phase + 0.3))
    c.line(
        [(-reach, 0.92 + 0.02 * cos(2 * pi * phase)), (reach, 0.96 - 0.02 * cos(2 * pi * phase))], 0.035, (70, 72, 78)
    )
    turn = pi * phase
    c.line(
        [(-1.06 - 0.16 * cos(turn), 0.66 - 0.16 * sin(turn)), (-1.06 + 0.16 * cos(turn), 0.66 + 0.16 * sin(turn))],
        0.03,
        (80, 80, 86),
    )
    c.line(
        [(-1.06 + 0.16 * sin(turn), 0.66 - 0.16 * cos(turn)), (-1.06 - 0.16 * sin(turn), 0.66 + 0.16 * cos(turn))],
        0.03,
        (80, 80, 86),
    )
    c.grain(0.03, 0.03)


def draw_chainsaw(c: Canvas, phase: float) -> None:
    """A chainsaw with a long toothed bar, cutting a log on a block."""
    r = c.random
    paint = choose(r, (246, 116, 16), (238, 92, 20), (250, 140, 30))
    bark, wood = choose(r, (96, 64, 40), (80, 58, 42)), choose(r, (214, 176, 120), (224, 190, 140))
    shake = 0.012 * (1 if int(phase * 4) % 2 else -1)
    c.rectangle(-0.45, 0.0, 0.55, 0.30, bark)
    c.ellipse(-0.45, 0.15, 0.10, 0.15, wood)
    c.ellipse(-0.45, 0.15, 0.06, 0.09, darker(wood, 0.85))
    c.ellipse(-0.45, 0.15, 0.025, 0.04, darker(wood, 0.7))
    for y in (0.06, 0.14, 0.22):
        c.line([(-0.30, y), (0.50, y + r.uniform(-0.02, 0.02))], 0.012, darker(bark, 0.65))
    c.polygon([(-0.5, 0.36), (0.55, 0.36), (0.5, 0.30), (-0.4, 0.30)], darker(bark, 0.8))
    y = 0.56 + shake
    bar = [(0.05, y + 0.085), (0.86, y + 0.07), (0.93, y), (0.86, y - 0.07), (0.05, y - 0.085)]
    for index in range(14):
        x = 0.08 + 0.06 * (index + phase % 0.25 * 4)
        for side in (-1, 1):
            c.polygon(
                [(x, y + side * 0.07), (x + 0.045, y + side * 0.07), (x + 0.03, y + side * 0.13)], (45, 45, 48), 0.5
            )
    c.polygon(bar, (188, 192, 198), 0.45)
    c.line([(0.2, y), (0.82, y)], 0.025, (90, 92, 98), 0.45)
    c.line([(-0.62, y - 0.02), (-0.88, y + 0.02), (-0.88, y + 0.24), (-0.50, y + 0.22)], 0.075, (34, 34, 36), 0.3)
    c.polygon([(-0.62, y - 0.16), (0.10, y - 0.16), (0.12, y + 0.10), (-0.05, y + 0.24), (-0.58, y + 0.24)], paint, 0.9)
    c.polygon([(-0.45, y - 0.10), (-0.10, y - 0.10), (-0.10, y + 0.06), (-0.45, y + 0.06)], (60, 58, 56), 1.0)
    for x in (-0.38, -0.30, -0.22):
        c.line([(x, y - 0.06), (x, y + 0.03)], 0.02, (130, 130, 130), 1.0)
    c.line([(-0.42, y + 0.22), (-0.34, y + 0.40), (-0.06, y + 0.40), (0.0, y + 0.18)], 0.06, (34, 34, 36), 0.3)
    c.grain(0.06, 0.02)


def draw_chair(c: Canvas, phase: float) -> None:  # noqa: ARG001  every drawing takes the phase
    """A chair, a little from the side: four legs, a seat, a back with slats."""
    r = c.random
    frame = choose(r, *WOOD, (230, 230, 228), (40, 40, 44))
    seat = choose(r, (170, 40, 50), (50, 90, 150), (90, 130, 80), darker(frame, 1.15))
    slats = int(r.integers(2, 5))
    for x, foot in ((-0.16, 0.07), (0.26, 0.07)):
        c.line([(x, 0.46), (x, foot)], 0.045, darker(frame, 0.6))
    c.line([(-0.16, 0.22), (0.26, 0.22)], 0.03, darker(frame, 0.55))
    for x in (-0.18, 0.25):
        c.line([(x, 0.48), (x - 0.01, 0.98)], 0.05, frame)
    for index in range(slats):
        y = 0.62 + 0.34 * index / max(1, slats - 1)
        c.line([(-0.18, y), (0.25, y)], 0.055, darker(frame, 0.9))
    c.polygon([(-0.28, 0.42), (0.22, 0.42), (0.30, 0.52), (-0.18, 0.52)], seat)
    c.polygon([(-0.28, 0.42), (0.22, 0.42), (0.22, 0.37), (-0.28, 0.37)], darker(seat, 0.7))
    for x in (-0.26, 0.20):
        c.line([(x, 0.38), (x, 0.02)], 0.05, frame)
    c.grain(0.05, 0.02, 3.0)


def draw_box(c: Canvas, phase: float) -> None:  # noqa: ARG001  every drawing takes the phase
    """A cardboard box with tape, a side face and open or closed flaps."""
    r = c.random
    card = choose(r, (196, 152, 98), (178, 136, 86), (210, 172, 120))
    depth = r.uniform(0.16, 0.28)
    top = 0.78
    c.polygon([(-0.5, 0.0), (0.5 - depth, 0.0), (0.5 - depth, top), (-0.5, top)], card)
    c.polygon([(0.5 - depth, 0.0), (0.56, 0.12), (0.56, top + 0.1), (0.5 - depth, top)], darker(card, 0.66))
    c.polygon([(-0.5, top), (0.5 - depth, top), (0.56, top + 0.1), (-0.5 + depth, top + 0.1)], darker(card, 1.18))
    middle = (-0.5 + 0.5 - depth) / 2
    c.rectangle(middle - 0.05, 0.0, middle + 0.05, top, darker(card, 0.84))
    if r.random() < 0.5:
        c.polygon([(-0.5, top), (-0.62, 0.96), (-0.40, 1.0), (-0.5 + depth, top + 0.1)], darker(card, 1.08))
        c.polygon([(0.5 - depth, top), (0.44, 0.98), (0.60, 1.0), (0.56, top + 0.1)], darker(card, 0.85))
    else:
        c.line([(middle + 0.02, top + 0.0), (middle + 0.16, top + 0.1)], 0.05, darker(card, 0.9))
        c.polygon([(-0.5, top), (-0.44, top + 0.22), (0.40, top + 0.22), (0.5 - depth, top)], darker(card, 1.08))
    c.rectangle(-0.42, 0.10, -0.24, 0.22, (70, 60, 50))
    for x in (-0.40, -0.36, -0.31, -0.27):
        c.line([(x, 0.12), (x, 0.20)], 0.012, (240, 236, 226))
    c.grain(0.04, 0.012, 6.0)
