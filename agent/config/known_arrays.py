"""Microphone arrays that can be bought, by name: where their microphones are, and which channels are theirs.

Positions are those of the configurations that ODAS ships (introlab/odas, config/odaslive/respeaker_*.cfg), with its x
ahead and its y to the left, the board lying flat with the microphones on top. Channels count from 0 here, there from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownArray:
    """An array as its maker sells it."""

    channels: int
    """Channels of the device."""
    use_channels: tuple[int, ...]
    """Those of its microphones, without processed sound and playback."""
    mic_positions_m: tuple[tuple[float, float, float], ...]
    """One for each of them, x forward, y left, z up."""


KNOWN_ARRAYS: Final[dict[str, KnownArray]] = {
    # The 4-Mic Array for Raspberry Pi: a cross of radius 40.5 mm.
    "respeaker_4mic_hat": KnownArray(
        4, (0, 1, 2, 3), ((-0.0405, 0, 0), (0, 0.0405, 0), (0.0405, 0, 0), (0, -0.0405, 0))
    ),
    # The USB Mic Array v2.0 with its firmware of six channels: 0 is processed sound, 5 playback. A cross of 32 mm.
    "respeaker_usb_4mic": KnownArray(6, (1, 2, 3, 4), ((-0.032, 0, 0), (0, -0.032, 0), (0.032, 0, 0), (0, 0.032, 0))),
    # The 6-Mic Circular Array for Raspberry Pi: radius 46.3 mm; channels 6 and 7 are playback.
    "respeaker_6mic_hat": KnownArray(
        8,
        (0, 1, 2, 3, 4, 5),
        (
            (-0.0232, 0.0401, 0),
            (-0.0463, 0, 0),
            (-0.0232, -0.0401, 0),
            (0.0232, -0.0401, 0),
            (0.0463, 0, 0),
            (0.0232, 0.0401, 0),
        ),
    ),
}
