"""A chart of lanes, one below the other, over one axis: SVG as wide as its place, with text that keeps its size.

Across, places are shares of the width; down, they are pixels. What is left of the lanes and right of them stands in
the padding that `page.css` gives a chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.backtest.page.markup import Markup, element, number, percent

LANE_PX, STRIP_PX = 64, 18
_GAP_PX, _AXIS_PX, _ROW_PX, _TEXT_PX = 14, 22, 16, 12
_SCALE = 100
"""Height of a lane in the coordinates of its curve."""
_WIDTH = 1000
"""Width in those coordinates."""
_LABEL_X = -6
"""Right end of a label on the left."""
_LEAST_WIDTH = 0.0005
"""A bar without a width is not drawn."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of the axis."""

    begin: float
    end: float
    """Shares of the width."""
    says: str
    link: str | None = None
    """Id of what it shows."""


Points = Sequence[tuple[float, float]]
"""Of a curve: shares of the width and of the height."""


class Lanes:
    """What a chart shows, from the top down."""

    def __init__(self) -> None:
        self._parts: list[Markup] = []
        self._shades: list[Bar] = []
        self._y = 0
        self._lanes_top: int | None = None
        self._levels: list[Markup] = []

    def row(self, text: str, at: float, class_: str) -> None:
        """Add a row of text that stands at a place of the axis."""
        anchor = "start" if at < 0.5 else "end"
        y = self._y + _ROW_PX - 4
        self._parts.append(element("text", text, x=percent(at), y=y, text_anchor=anchor, class_=class_))
        self._y += _ROW_PX

    def strip(self, label: str, bars: Sequence[Bar], class_: str) -> None:
        """Add a strip of bars."""
        middle = self._y + STRIP_PX / 2
        self._parts += [
            self._label(label, middle),
            element("line", x1=0.0, x2="100%", y1=middle, y2=middle, class_="rule"),
            *(_rect(bar, self._y + 3, STRIP_PX - 6, class_) for bar in bars),
        ]
        self._y += STRIP_PX

    def shade(self, bars: Sequence[Bar]) -> None:
        """Shade stretches of the axis behind all lanes."""
        self._shades += bars

    def lane(
        self,
        label: str,
        curves: Sequence[Points],
        *,
        top: str = "1",
        bottom: str = "0",
        filled: bool = False,
        level: float | None = None,
    ) -> None:
        """Add curves over a scale from `bottom` to `top`; `filled` down to its foot, with a line at `level`."""
        self._y += _GAP_PX
        y = self._y
        self._lanes_top = y if self._lanes_top is None else self._lanes_top
        foot = y + LANE_PX
        path = "".join(_path(points, filled=filled) for points in curves)
        self._parts += [
            self._label(top, y),
            self._label(label, y + LANE_PX / 2, "name"),
            self._label(bottom, foot),
            element("line", x1=0.0, x2="100%", y1=foot, y2=foot, class_="rule"),
            element("line", x1=0.0, x2="100%", y1=y, y2=y, class_="rule"),
            element(
                "svg",
                element("path", d=path, class_="area" if filled else "curve"),
                y=y,
                width="100%",
                height=LANE_PX,
                viewBox=f"0 0 {_WIDTH} {_SCALE}",
                preserveAspectRatio="none",
                class_="plot",
            ),
        ]
        if level is not None:
            at = y + LANE_PX * (1 - level)
            self._parts.append(
                element(
                    "line",
                    x1=0.0,
                    x2="100%",
                    y1=at,
                    y2=at,
                    class_="threshold level",
                    data_top=str(y),
                    data_height=str(LANE_PX),
                )
            )
        self._y = foot

    def upright(self, at: float, class_: str) -> None:
        """Draw a line through all lanes that there are."""
        top = self._lanes_top or 0
        self._levels.append(element("line", x1=percent(at), x2=percent(at), y1=top - 4, y2=self._y, class_=class_))

    def axis(self, ticks: Sequence[tuple[float, str]], name: str) -> None:
        """Add labels, each at its share of the width, and what they stand for."""
        self._levels += [
            element("line", x1=percent(x), x2=percent(x), y1=self._y, y2=self._y + 4, class_="rule") for x, _ in ticks
        ]
        self._y += _AXIS_PX
        self._parts += [element("text", label, x=percent(x), y=self._y - 4, text_anchor="middle") for x, label in ticks]
        self._y += _ROW_PX
        self._parts.append(element("text", name, x="50%", y=self._y - 2, text_anchor="middle", class_="name"))

    def svg(self, id_: str, title: str, says: str) -> Markup:
        """Return the chart; `says` is for those who do not see it."""
        top = self._lanes_top or 0
        shades = [_rect(bar, top, self._y - top - _AXIS_PX - _ROW_PX, "shade") for bar in self._shades]
        return element(
            "svg",
            element("title", title, id=f"{id_}-title"),
            element("desc", says, id=f"{id_}-desc"),
            *shades,
            *self._parts,
            *self._levels,
            xmlns="http://www.w3.org/2000/svg",
            width="100%",
            height=self._y,
            role="group",
            aria_labelledby=f"{id_}-title",
            aria_describedby=f"{id_}-desc",
            class_="chart",
        )

    def _label(self, text: str, middle: float, class_: str | None = None) -> Markup:
        return element("text", text, x=_LABEL_X, y=middle + _TEXT_PX / 3, text_anchor="end", class_=class_)


def _rect(bar: Bar, y: float, height: float, class_: str) -> Markup:
    drawn = element(
        "rect",
        element("title", bar.says),
        x=percent(bar.begin),
        y=y,
        width=percent(max(bar.end - bar.begin, _LEAST_WIDTH)),
        height=height,
        class_=class_,
    )
    # The moments themselves are reached by the keyboard: a thousand stops of the tabulator would be in the way.
    return drawn if bar.link is None else element("a", drawn, href=f"#{bar.link}", tabindex="-1")


def _path(points: Points, *, filled: bool) -> str:
    drawn = [f"{number(_WIDTH * x)} {number(_SCALE * (1 - min(max(y, 0.0), 1.0)))}" for x, y in points]
    if filled:
        first, last = (number(_WIDTH * points[at][0]) for at in (0, -1))
        return f"M{first} {_SCALE}L{'L'.join(drawn)}L{last} {_SCALE}Z"
    # A score that stands alone is a dot: the round end of a line without length.
    return f"M{drawn[0]}h0" if len(drawn) == 1 else f"M{'L'.join(drawn)}"
