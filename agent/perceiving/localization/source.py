"""Audio source of a tick: nothing heard, in view (with the place), or heard but not in view.

Camera and microphones are taken to be in one place and to look along +x (ROS REP-103), so that an azimuth is a column
of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.scoring import share
from agent.perceiving.limits import UNKNOWN, WeightLimits
from agent.perceiving.localization.doa import Direction, DirectionFinder
from agent.perceiving.localization.heatmap import (
    Box,
    Map,
    Peak,
    best_mean,
    find_box,
    find_peak,
    heat_map,
    to_pixels,
)
from agent.perceiving.steadiness import SILENT_DBFS, rms_dbfs
from agent.vectors import Vectors
from models.extent import IMAGE_PX, CropMap

if TYPE_CHECKING:
    from agent.embedding.model import Embedded
    from agent.windows.window import Window


MIN_STRETCH_S = 0.25
"""The least sound that a direction is asked of, whatever the hop: fewer frames give chance a say."""

ABOVE_FLOOR_DB = 6.0
"""Over the noise floor by this much is a sound: twice the amplitude, which steady noise never reaches in 0.5 s."""
FLOOR_RISE_DB_PER_S = 1.0
"""Rate at which the floor rises: a fan that is switched on counts as background after half a minute."""
QUIET_SHARE = 0.1
"""Heard by its meaning alone, with neither energy nor direction, only when the quiet prompts get less than this."""
MIN_CONFIDENCE = 0.1
"""Of a direction that may overrule the picture. A source in a room with 0.6 s of reverberation reaches 0.1-0.2."""
IN_VIEW_FROM = 0.5
"""Probability from which a sound counts as in view."""
POINTED_AT_LOG_ODDS = math.log(9.0)
"""Of a confident direction into the picture, for being in view: of sounds elsewhere fewer than 1 in 40 have one."""
MIN_CONTRAST = 0.08
"""Of the peak over the map's median, in cosine: less is what patches differ by where nothing sounds. Where the weights
have no limits, this and MIN_SIGMAS decide."""
MIN_SIGMAS = 4.0
"""The same in standard deviations of the map; the highest of 256 patches of noise reaches 2.8 on average."""
VIEW_MARGIN_DEG = 4.0
"""Margin by which a direction may point outside of the picture and still count as inside: the finder's own error."""
COLUMN_MARGIN_DEG = 10.0
"""Margin between the direction and the peak: the finder's error and half the width of a thing."""
OUTSIDE = "its direction lies outside the picture"
UNLIKE = "nothing in the picture is like it"
FLAT = "nothing stands out in the picture"
UNCHECKED = "stands out in the picture; the weights have no limits to tell from how like it is"
BOX_LEVEL = 0.5
"""Patches that reach this part of the height of the best ones belong to the box. With limits height is the cosine: the
median of the map lies on the thing itself where that is large. Without, it is over the median."""


class SourceState(Enum):
    """State of the source."""

    NOTHING_HEARD = "nothing heard"
    IN_VIEW = "in view"
    NOT_IN_VIEW = "heard, but not in view"
    UNSEEN = "heard, no picture"


@dataclass(frozen=True, slots=True, eq=False)
class AudioSource:
    """The source of one tick. Pixels are those of the camera's image."""

    state: SourceState
    direction: Direction | None = None
    """Of the newest part of the window; None without an array, or when no direction stands out."""
    box: Box | None = None
    peak: tuple[float, float] | None = None
    """x, y. Box and peak are given for IN_VIEW only."""
    similarity: float = 0.0
    """Cosine of the most similar patch that the direction allows, 0 without a picture."""
    map: Map | None = None
    """float32 [rows, columns], cosine of every patch to the sound; None when nothing is heard or without a picture."""
    extent: Box | None = None
    """The part of the image that the map covers."""
    in_view: float | None = None
    """Probability that it is in the picture, 0..1; None where it was not looked for, or the weights have no limits."""
    reason: str = ""
    """Why it is not heard or not in view, one line."""
    tick: int = 0
    """Index of the tick, at capture time `t_ns`."""
    t_ns: int = 0
    microphone: str = ""
    camera: str = ""
    """The sensors that it was found with; camera empty without a picture."""


class NoiseFloor:
    """The level that is always there: falls at once with the signal, rises slowly towards it."""

    def __init__(self, rise_db_per_s: float) -> None:
        self._rise_db_per_s = rise_db_per_s
        self._floor_dbfs = math.inf
        self._t_ns = 0

    def update(self, t_ns: int, level_dbfs: float, *, rises: bool = True) -> float:
        """Take a level and return the floor before it, in dBFS; the first level is its own floor.

        `rises` False holds the floor down while the level is known to be a source's.
        """
        before = min(self._floor_dbfs, level_dbfs)
        risen = before + self._rise_db_per_s * max(t_ns - self._t_ns, 0) / 1e9 if rises else before
        self._floor_dbfs = min(level_dbfs, risen)
        self._t_ns = t_ns
        return before


class SourceFinder:
    """Finds the source of every tick from one microphone (or array) and at most one camera.

    `quiet` are the vectors of prompts for silence and noise, `things` those of things that sound; with both, a sound
    that is neither loud nor directed is still heard by what it means. `finder` needs two or more channels; `hfov_deg`
    is the camera's horizontal field of view, `limits` are those of the weights. Keeps the noise floor: give it every
    tick, in order.
    """

    def __init__(
        self,
        microphone: str,
        camera: str | None = None,
        *,
        finder: DirectionFinder | None = None,
        hfov_deg: float | None = None,
        quiet: Vectors | None = None,
        things: Vectors | None = None,
        audio_scale: float = 20.0,
        stretch_s: float = 0.5,
        limits: WeightLimits = UNKNOWN,
    ) -> None:
        self._microphone, self._camera = microphone, camera
        self._finder = finder
        self._hfov_deg = hfov_deg
        self._prompts: Vectors | None = None
        if quiet is not None and things is not None:
            self._prompts = np.concatenate([quiet, things])
            self._is_quiet = np.arange(len(self._prompts)) < len(quiet)
        self._audio_scale = audio_scale
        self._stretch_s = max(stretch_s, MIN_STRETCH_S)
        self._floor = NoiseFloor(FLOOR_RISE_DB_PER_S)
        self._limits = limits

    def find(self, embedded: Embedded) -> AudioSource | None:
        """The source of a tick; None when its audio is missing.

        Sound without meaning may be loud, and come from a direction, but it is not looked for in the picture.
        """
        meaningless = embedded.meaningless.get(self._microphone, "")
        tick = embedded.tick
        window = tick.windows.get(self._microphone)
        vector = embedded.vectors.get(self._microphone)
        if window is None or window.data is None or vector is None:
            return None
        recent = _last(window, self._stretch_s)
        direction = self._direction(window, tick.t_ns)
        patches = embedded.patches.get(self._camera) if self._camera else None
        image = tick.windows[self._camera].data if self._camera and patches is not None else None
        if not self._hears(tick.t_ns, recent, None if meaningless else vector, direction):
            source = AudioSource(SourceState.NOTHING_HEARD, reason=meaningless)
        elif patches is None or image is None:
            source = AudioSource(SourceState.UNSEEN, direction)
        else:
            height, width = image.shape[1:3]
            heat, extent = heat_map(patches, vector), _extent(height, width)
            if meaningless:
                source = _unseen(meaningless, direction, heat, extent)
            else:
                source = locate(heat, extent, width, direction, self._hfov_deg, self._limits)
        camera = self._camera if self._camera and image is not None else ""
        return replace(source, tick=tick.index, t_ns=tick.t_ns, microphone=self._microphone, camera=camera)

    def _direction(self, window: Window, end_ns: int) -> Direction | None:
        """The direction of the newest part of a window that ends at `end_ns`, since the robot may turn.

        Sounds that come in bursts (ticks, sneezes) pause for half a second at times: then the part before is asked too.
        """
        if self._finder is None:
            return None
        for stretch_s in (self._stretch_s, 2 * self._stretch_s):
            sound = _last(window, stretch_s)
            direction = self._finder.find(sound)
            if direction is not None:
                return replace(direction, t_ns=end_ns - round(_age_rows(sound) * 1e9 / window.rate_hz))
        return None

    def _hears(
        self, t_ns: int, recent: NDArray[np.float32], vector: Vectors | None, direction: Direction | None
    ) -> bool:
        """Return whether there is a sound; a `vector` is None for one that means nothing."""
        level_dbfs = rms_dbfs(recent)
        if level_dbfs < SILENT_DBFS:
            # A muted microphone or a gap: it says nothing about the floor of what is really there.
            return False
        floor_dbfs = self._floor.update(t_ns, level_dbfs, rises=direction is None)
        quiet_share = None
        if self._prompts is not None and vector is not None:
            quiet_share = share(vector, self._prompts, self._is_quiet, self._audio_scale)
        return is_heard(level_dbfs, floor_dbfs, direction, quiet_share)


def is_heard(
    level_dbfs: float,
    floor_dbfs: float,
    direction: Direction | None,
    quiet_share: float | None,
) -> bool:
    """Return whether there is a sound: by its energy, by its direction or, when it was asked, by its meaning."""
    if level_dbfs < SILENT_DBFS:
        return False
    loud = level_dbfs >= floor_dbfs + ABOVE_FLOOR_DB
    means_something = quiet_share is not None and quiet_share < QUIET_SHARE
    return loud or direction is not None or means_something


def locate(
    heat: Map,
    extent: Box,
    width: int,
    direction: Direction | None,
    hfov_deg: float | None,
    limits: WeightLimits = UNKNOWN,
) -> AudioSource:
    """Decide whether a sound that is heard is in view, and where.

    `heat` covers `extent` of an image that is `width` pixels wide and `hfov_deg` degrees (None: not known). A confident
    direction limits the columns in which the peak may lie; one that points outside of the map means not in view. What
    is left is in view if it is enough like the sound, by the `limits` of the weights.
    """
    columns: NDArray[np.bool_] | None = None
    if direction is not None and direction.confidence >= MIN_CONFIDENCE and hfov_deg is not None:
        left, right = azimuths_deg(np.array([extent.x0, extent.x1]), width, hfov_deg)
        if not right - VIEW_MARGIN_DEG <= direction.azimuth_deg <= left + VIEW_MARGIN_DEG:
            return _unseen(OUTSIDE, direction, heat, extent)
        n = heat.shape[1]
        centres = extent.x0 + (np.arange(n) + 0.5) * (extent.x1 - extent.x0) / n
        away_deg = np.abs(azimuths_deg(centres, width, hfov_deg) - direction.azimuth_deg)
        columns = away_deg <= max(COLUMN_MARGIN_DEG, float(away_deg.min()))
    peak = find_peak(heat, columns)
    probability, doubt, threshold = None, "", peak.similarity - (1.0 - BOX_LEVEL) * peak.contrast
    if limits.in_view is not None:
        best, log_odds = best_mean(heat, columns), 0.0 if columns is None else POINTED_AT_LOG_ODDS
        probability, threshold = limits.in_view.probability(best, log_odds), BOX_LEVEL * best
        doubt = UNLIKE if probability < IN_VIEW_FROM else ""
    elif peak.contrast < MIN_CONTRAST or peak.sigmas < MIN_SIGMAS:
        doubt = FLAT
    if doubt:
        unseen = _unseen(doubt, direction, heat, extent)
        return replace(unseen, similarity=peak.similarity, in_view=probability)
    return AudioSource(
        SourceState.IN_VIEW,
        direction,
        _box(heat, peak, extent, threshold),
        to_pixels(extent, heat.shape, peak.row, peak.column),
        peak.similarity,
        heat,
        extent,
        probability,
        UNCHECKED if probability is None else "",
    )


def _unseen(reason: str, direction: Direction | None, heat: Map, extent: Box) -> AudioSource:
    """Return a source that is heard, but not in view."""
    return AudioSource(
        SourceState.NOT_IN_VIEW, direction, similarity=float(heat.max()), map=heat, extent=extent, reason=reason
    )


def azimuths_deg(x: NDArray[np.float64], width: int, hfov_deg: float) -> NDArray[np.float64]:
    """The azimuth (positive left) that a pinhole camera shows at each pixel column."""
    focal_px = width / 2 / math.tan(math.radians(hfov_deg) / 2)
    azimuths: NDArray[np.float64] = np.degrees(np.arctan((width / 2 - x) / focal_px))
    return azimuths


def _age_rows(sound: NDArray[np.float32]) -> float:
    """Mean distance of sound [n, channels] from its end, weighted by the energy of the first channel."""
    energy = np.square(sound[:, 0], dtype=np.float64) + 1e-20
    return float(energy @ np.arange(len(sound) - 0.5, 0, -1) / energy.sum())


def _last(window: Window, stretch_s: float) -> NDArray[np.float32]:
    """The newest rows of an audio window that is present, [n, channels]."""
    assert window.data is not None
    return window.data[-max(1, round(stretch_s * window.rate_hz)) :]


def _box(heat: Map, peak: Peak, extent: Box, threshold: float) -> Box:
    top, left, bottom, right = find_box(heat, peak.patch, threshold)
    return Box(*to_pixels(extent, heat.shape, top, left), *to_pixels(extent, heat.shape, bottom, right))


def _extent(height: int, width: int) -> Box:
    """The part of an image that the model's patches cover."""
    crop = CropMap(height, width)
    return Box(*crop.to_image(0, 0), *crop.to_image(IMAGE_PX, IMAGE_PX))
