"""A query's scores as a picture: how often each was reached, and how often each threshold would have fired."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from agent.backtest.report import BINS, QueryReport
from drivers.driver import Modality
from drivers.forms import FORMS

WIDTH, HEIGHT = 760, 520
Colour = tuple[int, int, int]
_LEFT, _RIGHT, _PANEL_PX = 70, 20, 190
_INK: Colour = (40, 40, 40)
_PALE: Colour = (215, 215, 215)
_SUGGESTED: Colour = (0, 130, 60)
_COLOURS: dict[Modality, Colour] = {
    "vision": (31, 110, 200),
    "audio": (220, 110, 20),
    "depth": (120, 80, 170),
    "thermal": (200, 40, 60),
    "imu": (20, 150, 150),
}


class _Panel:
    """Axes: x from 0 to 1, y a fraction of the height."""

    def __init__(self, draw: ImageDraw.ImageDraw, top: int, title: str, marks: Sequence[tuple[str, float]]) -> None:
        """Draw them. `marks` are labels on the y axis."""
        self._draw, self._top = draw, top
        draw.text((_LEFT, top - 16), title, _INK)
        for label, y in [("0", 0.0), *marks]:
            draw.line([self._at(0, y), self._at(1, y)], _PALE)
            draw.text((_LEFT - 8, self._at(0, y)[1]), label, _INK, anchor="rm")
        for tenth in range(0, 11, 2):
            x, y_px = self._at(tenth / 10, 0)
            draw.text((x, y_px + 4), f"{tenth / 10:g}", _INK, anchor="ma")

    def line(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """Draw a curve through points of axis values."""
        self._draw.line([self._at(x, y) for x, y in points], colour, width=2)

    def upright(self, x: float, colour: Colour) -> None:
        """Draw a vertical line at a threshold."""
        self._draw.line([self._at(x, 0), self._at(x, 1)], colour)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return _LEFT + x * (WIDTH - _LEFT - _RIGHT), self._top + (1 - y) * _PANEL_PX


def chart(report: QueryReport, hours: float) -> bytes:
    """Draw a PNG: the histogram, its counts on a logarithmic scale, and alarms an hour against the threshold."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    panels = [_histogram(draw, report), _rates(draw, report, hours)]
    thresholds = [(f"threshold {report.query.threshold_on:g}", report.query.threshold_on, _INK)]
    if report.suggestion:
        suggested = report.suggestion.threshold
        thresholds.append((f"suggested {suggested:g}", suggested, _SUGGESTED))
    for order, (label, x, colour) in enumerate(thresholds):
        draw.text((_LEFT + 150 * order, 8), label, colour)
        for panel in panels:
            panel.upright(x, colour)
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()


def _histogram(draw: ImageDraw.ImageDraw, report: QueryReport) -> _Panel:
    most = max((int(counts.max()) for counts in report.histogram.values()), default=1)
    decades = len(str(most))
    panel = _Panel(
        draw, 52, "ticks with each score", [(str(10**d), (d + 1) / (decades + 1)) for d in range(decades + 1)]
    )
    for order, (modality, counts) in enumerate(report.histogram.items()):
        # One tick must show: the first step of the scale is from none to one.
        heights = [(math.log10(count) + 1) / (decades + 1) if count else 0.0 for count in counts.tolist()]
        steps = [
            (edge / BINS, height) for i, height in enumerate(heights) for edge, height in ((i, height), (i + 1, height))
        ]
        panel.line(steps, _COLOURS[modality])
        draw.text((WIDTH - _RIGHT - 6, 56 + 13 * order), FORMS[modality].sense, _COLOURS[modality], anchor="ra")
    return panel


def _rates(draw: ImageDraw.ImageDraw, report: QueryReport, hours: float) -> _Panel:
    rates = [(point.threshold, point.fired / hours) for point in report.points]
    highest = max(rate for _, rate in rates) or 1.0
    panel = _Panel(draw, 300, "alarms an hour at each threshold", [(f"{highest * f:.3g}", f) for f in (0.5, 1.0)])
    panel.line([(x, rate / highest) for x, rate in rates], _INK)
    return panel
