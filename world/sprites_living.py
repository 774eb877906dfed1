"""Drawings of the living: dog, person, baby, rooster."""

from __future__ import annotations

from math import pi, sin

from world.sprites import Canvas, choose, darker

SKIN = ((244, 205, 176), (224, 172, 132), (168, 116, 80), (110, 72, 50))
HAIR = ((40, 28, 22), (92, 58, 30), (190, 150, 80), (150, 150, 150))
CLOTH = ((200, 50, 50), (50, 80, 190), (60, 150, 80), (230, 200, 70), (240, 240, 240), (130, 60, 150), (240, 130, 40))
TROUSERS = ((40, 50, 90), (60, 60, 64), (150, 130, 95), (90, 70, 50))


def draw_dog(c: Canvas, phase: float) -> None:
    """A dog from the side: four legs, snout, ears, raised tail, collar."""
    r = c.random
    coat = choose(r, (150, 98, 50), (62, 50, 44), (208, 172, 116), (236, 230, 218), (112, 76, 52))
    far, patch = darker(coat, 0.68), darker(coat, 0.5) if r.random() < 0.5 else darker(coat, 1.5)
    long, ears_up, wag = r.uniform(0.92, 1.1), r.random() < 0.5, sin(2 * pi * phase)
    swing = 0.09 * wag
    for x, sign in ((-0.30, 1), (0.24, -1)):
        c.line([(x * long, 0.45), (x * long - sign * swing, 0.03)], 0.09, far, 0.7)
    c.line([(-0.40 * long, 0.60), (-0.56 * long, 0.78 + 0.05 * wag), (-0.60 * long, 0.95)], 0.07, coat, 0.7)
    c.ellipse(-0.06, 0.53, 0.42 * long, 0.18, coat, 0.85)
    c.ellipse(0.20 * long, 0.54, 0.2, 0.22, coat, 0.9)
    c.ellipse(-0.12, 0.60, 0.17, 0.10, patch, 0.85)
    for x, sign in ((-0.36, -1), (0.30, 1)):
        c.line([(x * long, 0.45), (x * long - sign * swing, 0.03)], 0.10, coat, 0.75)
        c.ellipse(x * long - sign * swing + 0.03, 0.03, 0.08, 0.035, darker(coat, 0.85), 0.7)
    c.line([(0.30 * long, 0.60), (0.42 * long, 0.78)], 0.2, coat, 0.9)
    c.line(
        [(0.29 * long, 0.75), (0.46 * long, 0.67)], 0.05, choose(r, (210, 30, 30), (30, 80, 210), (40, 160, 60)), 0.5
    )
    head = 0.48 * long
    c.ellipse(head, 0.83, 0.17, 0.15, coat, 1.0)
    c.ellipse(head + 0.19, 0.77, 0.14, 0.075, darker(coat, 1.15), 1.0, -8)
    c.ellipse(head + 0.31, 0.79, 0.04, 0.035, (25, 20, 20), 0.8)
    c.line([(head + 0.14, 0.72), (head + 0.26, 0.70)], 0.02, (140, 50, 50), 1.0)
    c.ellipse(head + 0.05, 0.87, 0.025, 0.028, (15, 12, 10), 1.0)
    if ears_up:
        c.polygon([(head - 0.14, 0.90), (head - 0.10, 1.02), (head + 0.0, 0.94)], far, 0.9)
        c.polygon([(head - 0.03, 0.94), (head + 0.04, 1.02), (head + 0.08, 0.92)], coat, 0.9)
    else:
        c.ellipse(head - 0.11, 0.80, 0.07, 0.15, far, 0.9, -12)
    c.grain(0.09, 0.014, 2.0)


def draw_person(c: Canvas, phase: float) -> None:
    """A standing or walking person from the front."""
    r = c.random
    skin, hair, shirt = choose(r, *SKIN), choose(r, *HAIR), choose(r, *CLOTH)
    trousers, shoes = choose(r, *TROUSERS), choose(r, (30, 30, 30), (110, 60, 30), (230, 230, 230))
    broad, long_hair = r.uniform(0.9, 1.15), r.random() < 0.4
    step = 0.025 * sin(2 * pi * phase)
    for side in (-1, 1):
        lift = max(0.0, side * step)
        c.line([(side * 0.055, 0.47), (side * 0.075, 0.05 + lift)], 0.085, darker(trousers, 1 + 0.08 * side), 0.55)
        c.ellipse(side * 0.085, 0.025 + lift, 0.055, 0.026, shoes, 0.35)
    if long_hair:
        c.ellipse(0, 0.88, 0.09, 0.13, hair, 0.6)
    c.polygon([(-0.13 * broad, 0.80), (0.13 * broad, 0.80), (0.105 * broad, 0.44), (-0.105 * broad, 0.44)], shirt, 0.65)
    if r.random() < 0.4:
        for y in (0.52, 0.60, 0.68):
            c.line([(-0.10 * broad, y), (0.10 * broad, y)], 0.025, darker(shirt, 0.6), 0.65)
    for side in (-1, 1):
        hand = (side * (0.175 * broad + step * side), 0.43)
        c.line([(side * 0.125 * broad, 0.77), (side * 0.165 * broad, 0.60), hand], 0.062, darker(shirt, 0.85), 0.65)
        c.ellipse(*hand, 0.028, 0.034, skin, 0.9)
    c.rectangle(-0.03, 0.79, 0.03, 0.86, darker(skin, 0.85), 1.0)
    c.ellipse(0, 0.91, 0.068, 0.085, skin, 1.0)
    c.ellipse(0, 0.96, 0.072, 0.045, hair, 0.75)
    for side in (-1, 1):
        c.ellipse(side * 0.026, 0.915, 0.009, 0.008, (30, 20, 20), 1.0)
    c.line([(-0.022, 0.872), (0.022, 0.872)], 0.008, (150, 60, 60), 1.0)
    c.grain(0.05, 0.02)


def draw_baby(c: Canvas, phase: float) -> None:
    """A sitting baby: big head with an open mouth, round body in pastel, legs to the front."""
    r = c.random
    skin, hair = choose(r, *SKIN[:3]), choose(r, *HAIR[:3])
    suit = choose(r, (250, 190, 210), (170, 210, 250), (250, 240, 170), (190, 235, 190), (245, 245, 245))
    wave = 0.06 * sin(2 * pi * phase)
    c.ellipse(0, 0.26, 0.28, 0.26, suit, 0.75)
    for side in (-1, 1):
        c.ellipse(side * 0.27, 0.10, 0.21, 0.095, darker(suit, 0.93), 0.7, side * 14)
        c.ellipse(side * 0.42, 0.11, 0.075, 0.085, skin, 0.9)
        hand = (side * 0.43, 0.42 + side * wave)
        c.line([(side * 0.20, 0.40), hand], 0.11, darker(suit, 0.96), 0.75)
        c.ellipse(*hand, 0.062, 0.062, skin, 0.95)
    for x, y in r.uniform((-0.2, 0.1), (0.2, 0.38), (9, 2)):
        c.ellipse(float(x), float(y), 0.022, 0.022, darker(suit, 0.75), 0.75)
    c.ellipse(0, 0.70, 0.29, 0.275, skin, 1.0)
    for side in (-1, 1):
        c.ellipse(side * 0.285, 0.68, 0.045, 0.06, darker(skin, 0.92), 1.0)
        c.line([(side * 0.17, 0.75), (side * 0.08, 0.72)], 0.026, (50, 35, 30), 1.0)
        c.ellipse(side * 0.17, 0.61, 0.06, 0.045, (238, 130, 120), 1.0)
    c.ellipse(0, 0.57, 0.085, 0.055 + 0.3 * abs(wave), (150, 40, 45), 1.0)
    c.ellipse(0, 0.66, 0.028, 0.022, darker(skin, 0.85), 1.0)
    c.ellipse(0, 0.93, 0.13, 0.055, hair, 0.85)
    c.line([(0, 0.93), (0.05, 0.99), (0.0, 1.01)], 0.025, hair, 0.8)
    c.grain(0.03, 0.04)


def draw_rooster(c: Canvas, phase: float) -> None:
    """A rooster from the side: red comb and wattle, golden neck, arched dark tail feathers."""
    r = c.random
    body = choose(r, (150, 62, 26), (120, 44, 22), (235, 230, 220), (60, 40, 36))
    neck = choose(r, (236, 160, 40), (220, 120, 30), (240, 200, 110))
    tail = choose(r, (16, 80, 66), (24, 36, 70), (20, 20, 24))
    red, yellow = (222, 26, 30), (240, 190, 50)
    peck = 0.02 * sin(2 * pi * phase)
    for index, height in enumerate(r.uniform(0.86, 1.0, 7)):
        shade, far = darker(tail, 0.8 + 0.2 * (index % 3)), 0.16 + 0.055 * index
        arc = [
            (a, 0.40 + (height - 0.04 * index - 0.40) * sin(min(1.0, 0.15 + b) * 0.9 * pi))
            for a, b in ((-0.18 - far * k / 8, k / 8) for k in range(9))
        ]
        c.line(arc, 0.05, shade, 0.4)
    for x in (-0.06, 0.06):
        c.line([(x, 0.28), (x + 0.01, 0.03)], 0.03, yellow, 0.6)
        c.line([(x - 0.06, 0.012), (x + 0.10, 0.012)], 0.026, yellow, 0.6)
    c.ellipse(-0.02, 0.43, 0.28, 0.185, body, 0.7, 14)
    c.ellipse(-0.08, 0.44, 0.17, 0.10, darker(body, 0.7), 0.65, 10)
    for x in (-0.18, -0.12, -0.06):
        c.line([(x - 0.04, 0.36), (x + 0.06, 0.42)], 0.014, tail, 0.6)
    c.polygon([(0.04, 0.45), (0.30, 0.45), (0.33, 0.82), (0.20, 0.86)], neck, 0.85)
    head = (0.29, 0.80 + peck)
    c.ellipse(*head, 0.085, 0.08, neck, 1.0)
    c.polygon([(0.355, 0.83 + peck), (0.355, 0.76 + peck), (0.48, 0.775 + peck)], yellow, 0.8)
    c.ellipse(0.335, 0.70 + peck, 0.04, 0.075, red, 1.0)
    comb = [(0.20, 0.85), (0.19, 0.95), (0.235, 0.90), (0.26, 1.01), (0.30, 0.91), (0.34, 1.0), (0.37, 0.86)]
    c.polygon([(x, y + peck) for x, y in comb], red, 1.0)
    c.ellipse(0.30, 0.765 + peck, 0.05, 0.045, (205, 40, 40), 1.0)
    c.ellipse(0.315, 0.815 + peck, 0.018, 0.018, (10, 10, 10), 1.0)
    c.grain(0.08, 0.016)
