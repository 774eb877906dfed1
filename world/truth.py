"""Truth of a scene at a time, or within an interval."""

from __future__ import annotations

from dataclasses import dataclass

from world.motion import MotionName

IN_VIEW = 0.3
"""A thing counts as in view when at least this part of its silhouette is seen."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ThingTruth:
    """One thing at one time. Position, distance and direction are those of the point its sound comes from."""

    index: int
    kind: str
    position_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    """0 ahead, positive to the left, -180..180."""
    elevation_deg: float
    box: Box | None
    """Box x0, y0, x1, y1 of its visible part in pixels; None if it is not visible."""
    visible: float
    """Fraction of its whole silhouette that is inside the picture and not hidden."""
    sounding: bool
    loudness: float
    """RMS at the array of its sound over the last 0.5 s."""

    @property
    def in_view(self) -> bool:
        """True if enough of it is seen."""
        return self.visible >= IN_VIEW


@dataclass(frozen=True, slots=True)
class Truth:
    """A whole scene at one time; kinds occur once, so a kind names its thing."""

    t_s: float
    things: tuple[ThingTruth, ...]
    motion: MotionName

    def thing(self, kind: str) -> ThingTruth | None:
        """The thing of a kind, None when the scene has none."""
        return next((thing for thing in self.things if thing.kind == kind), None)

    def in_view(self, kind: str) -> bool:
        """Return whether the scene has a thing of this kind and it is in view."""
        thing = self.thing(kind)
        return thing is not None and thing.in_view

    def sounding(self, kind: str) -> bool:
        """Return whether the scene has a thing of this kind and it sounds."""
        thing = self.thing(kind)
        return thing is not None and thing.sounding


@dataclass(frozen=True, slots=True)
class ThingSpan:
    """A thing within an interval: seconds that it sounded, was in view, and both at once."""

    index: int
    kind: str
    sounding_s: float
    in_view_s: float
    sounding_in_view_s: float
