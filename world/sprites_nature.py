"""Drawings of nature: rain, sea waves, fire, tree."""

from __future__ import annotations

from math import pi, sin

import numpy as np

from world.sprites import Canvas, choose, darker


def draw_rain(c: Canvas, phase: float) -> None:
    """A dark cloud, streaks falling from it, and the puddle they make."""
    r = c.random
    cloud = choose(r, (84, 90, 104), (100, 104, 116), (70, 76, 96))
    water = choose(r, (110, 160, 220), (130, 180, 235), (150, 190, 225))
    c.ellipse(0, 0.03, 0.46, 0.05, darker(water, 0.6), 1.0)
    c.ellipse(0.05, 0.035, 0.3, 0.028, darker(water, 0.8), 1.0)
    lean = r.uniform(-0.05, 0.05)
    for x, start in r.uniform((-0.44, 0.0), (0.44, 1.0), (40, 2)):
        fallen = (start + phase) % 1.0
        y = 0.76 - 0.80 * fallen
        foot = max(0.02, y - 0.13)
        if y > 0.06:
            c.line([(x + lean * fallen, y), (x + lean * (fallen + 0.16), foot)], 0.022, water, 1.0)
    for x, y, size in r.uniform((-0.36, 0.80, 0.10), (0.36, 0.90, 0.15), (11, 3)):
        shade = darker(cloud, 0.8 + 0.5 * (y - 0.78) * 4)
        c.ellipse(float(x), float(y), float(size) * 1.3, float(size) * 0.85, shade, 0.3)
    c.ellipse(0, 0.82, 0.44, 0.08, darker(cloud, 0.72), 0.4)
    c.grain(0.05, 0.05)


def draw_sea_waves(c: Canvas, phase: float) -> None:
    """A wide stretch of water with rows of foaming crests rolling in over sand."""
    r = c.random
    deep = choose(r, (18, 70, 120), (20, 96, 130), (16, 84, 110))
    sand = choose(r, (222, 200, 150), (206, 184, 140))
    c.ellipse(0, 0.10, 1.48, 0.13, sand, 0.2)
    x = np.linspace(-1.42, 1.42, 60)
    offsets = r.uniform(0, 2 * pi, 5)
    for row in range(5):
        turn = 2 * pi * phase + float(offsets[row])
        base, swell = 0.80 - 0.15 * row, 0.075 + 0.02 * row
        wave = base + swell * (np.sin(4.2 * x + turn) + 0.45 * np.sin(9.0 * x - turn + row))
        wave = np.minimum(wave, 0.99) * np.sqrt(np.maximum(1.0 - (x / 1.46) ** 4, 0.0))
        points = [(float(a), float(b)) for a, b in zip(x, wave, strict=True)]
        shade = darker(deep, 1.0 + 0.22 * row)
        c.polygon([*points, (1.42, 0.04), (-1.42, 0.04)], shade, 1.0)
        c.line(points, 0.05, (236, 246, 250), 0.9)
        c.line([(a, b - 0.055) for a, b in points], 0.02, darker(shade, 1.5), 1.0)
    c.line([(-1.3, 0.05), (1.3, 0.05)], 0.05, (240, 246, 244), 0.8)
    c.grain(0.05, 0.03)


def draw_fire(c: Canvas, phase: float) -> None:
    """A camp fire: flames over crossed logs in a ring of stones."""
    r = c.random
    log = choose(r, (86, 56, 36), (66, 44, 32))
    flames = [(float(x), float(h), float(p)) for x, h, p in r.uniform((-0.22, 0.55, 0), (0.22, 1.0, 2 * pi), (6, 3))]
    for colour, size, warmth in (
        ((210, 40, 10), 1.0, 0.45),
        ((248, 110, 14), 0.80, 0.7),
        ((255, 196, 40), 0.58, 0.9),
        ((255, 246, 190), 0.34, 1.0),
    ):
        for x, h, offset in flames:
            flicker = 0.85 + 0.15 * sin(2 * pi * phase + offset)
            lean = 0.08 * sin(2 * pi * phase + 2 * offset)
            top = 0.10 + 0.88 * h * flicker * size
            w = 0.17 * size
            points = [(x - w, 0.16), (x - w * 1.1, 0.16 + 0.3 * top), (x + lean - 0.03 * size, top * 0.75)]
            points += [(x + lean * 1.6, top), (x + lean + 0.05 * size, top * 0.7), (x + w * 1.1, 0.16 + 0.28 * top)]
            c.polygon([*points, (x + w, 0.16)], colour, warmth)
    c.line([(-0.36, 0.05), (0.30, 0.20)], 0.095, log, 0.5)
    c.line([(0.36, 0.05), (-0.30, 0.20)], 0.095, darker(log, 0.8), 0.5)
    for end in (-0.36, 0.36):
        c.ellipse(end, 0.05, 0.04, 0.05, (200, 160, 110), 0.4)
    for x in np.linspace(-0.42, 0.42, 8):
        grey = float(r.uniform(90, 150))
        c.ellipse(float(x), 0.028, 0.068, 0.042, (grey, grey, grey * 0.96), 0.15)
    c.grain(0.05, 0.03)


def draw_tree(c: Canvas, phase: float) -> None:  # noqa: ARG001  every drawing takes the phase
    """A tree: round crown of leaves, or a conifer."""
    r = c.random
    bark = choose(r, (92, 66, 44), (110, 84, 60), (70, 54, 42))
    leaf = choose(r, (46, 110, 40), (70, 140, 50), (36, 90, 50), (120, 140, 40))
    c.polygon([(-0.05, 0.0), (0.05, 0.0), (0.03, 0.5), (-0.03, 0.5)], bark)
    if r.random() < 0.4:
        for index in range(5):
            y, w = 0.18 + 0.16 * index, 0.33 - 0.055 * index
            c.polygon([(-w, y), (w, y), (0.0, min(1.0, y + 0.30))], darker(leaf, 0.6 + 0.09 * index), 0.6)
    else:
        for x, y, size in r.uniform((-0.20, 0.46, 0.08), (0.20, 0.86, 0.15), (26, 3)):
            c.ellipse(float(x), float(y), float(size), float(size) * 0.9, darker(leaf, r.uniform(0.65, 1.25)), 0.7)
    c.grain(0.20, 0.014)
