"""The age of a block of sound when it arrives, from PortAudio's times, which must first prove themselves. Pure.

Behind a sound server the ADC time of the first seconds may run faster than the samples, and then say of a block of
50 ms that its first row is 0.3 ms old (PulseAudio through ALSA). So an ADC time counts only after it has kept pace with
the samples for a while; before, a block is taken to be as old as it is long, which is the least that it can be.
"""

from __future__ import annotations

PROOF_S = 1.0
"""Time for which ADC times must keep pace with the samples."""
PACE_S = 0.01
"""By how much an ADC time may deviate from the samples counted."""
FOLLOWED = 1 / 16
"""Share of a deviation that moves the count: crystals drift."""
MAX_AGE_S = 2.0


class AdcTime:
    """ADC times of the blocks of one stream, held against the number of their rows."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._next_s = 0.0
        self._kept_s = 0.0

    def age_s(self, rows: int, now_s: float, adc_s: float) -> float:
        """Return the age of the first of `rows` that arrive at `now_s`, by an ADC time of the same clock."""
        length_s, age_s = rows / self._rate_hz, now_s - adc_s
        error_s = adc_s - self._next_s
        if length_s <= age_s < MAX_AGE_S and abs(error_s) <= PACE_S:
            self._kept_s += length_s
            self._next_s += error_s * FOLLOWED + length_s
        else:
            self._kept_s = 0.0
            self._next_s = adc_s + length_s
        return age_s if self._kept_s >= PROOF_S else length_s
