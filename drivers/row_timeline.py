"""Rows of a stream counted against their times: THE definition of drift, of jitter and of a gap. Pure.

Rows leave a device far more evenly than times tell of them (its crystal is off by some 100 ppm, times jitter by
milliseconds). So time is counted in rows. What a time deviates from the count moves the count a little, since clocks
drift; only a deviation beyond what jitter explains means that rows are missing. Rows of a device whose rate is not the
nominal one are counted at the spacing that their stamps have.

Windows, health and imports judge the stamps of samples, by `STAMPED`. A driver whose device gives no stamps has times
of arrival only, which come late by far more than stamps ever do: `arriving` says what then differs, and nothing else
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drivers.row_spacing import SpacingMeter

JITTER_FLOOR_S: Final = 0.005
"""Stamps may be off by this much, and by half a block, without meaning a gap."""
JITTER_CEILING_S: Final = 0.05
JITTER_MARGIN: Final = 6.0
"""Times the mean deviation of the stamps."""
JITTER_MEMORY: Final = 1 / 32

ARRIVAL_BLOCKS: Final = 2
ARRIVAL_S: Final = 0.1
"""Blocks may arrive later than they are due by both without meaning a gap."""

MOST_STRETCH: Final = 0.5
"""The spacing of rows stays within this share of the nominal one, whatever is measured."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by which a timeline judges the times of blocks."""

    tolerance_rows: int | None = None
    """By how many rows a time may deviate without meaning a gap, and the count be ahead of the times. None: as many as
    the times jitter, but half a block at least; the count is then bounded by overlaps."""
    confirm_blocks: int = 1
    """A deviation must last for so many blocks to be a gap."""
    confirm_s: float = 0.0
    """And for so long."""
    averaged_blocks: tuple[int, int] = (16, 16)
    """The count follows a deviation by 1/n of it, n being the number of blocks so far, within these limits."""
    learns_spacing: bool = False
    """True if the spacing of rows follows as well, once the count is settled: its error then is that of the crystal,
    not as large as a deviation.
    """
    measures_spacing: bool = False
    """True if the spacing of rows is what the times of the last seconds say: times of capture, not of arrival."""
    trusts_lost: bool = False
    """True if rows that are said to be lost are: a driver counts them itself. Of samples they are a claim, which counts
    when the stamps agree.
    """


STAMPED: Final = Rules(measures_spacing=True)
"""Blocks that carry time stamps."""


def arriving(rate_hz: float, block_rows: int, confirm_s: float = 0.0) -> Rules:
    """Return the rules for blocks of usually `block_rows` of which only the arrival is known.

    One that merely comes late is followed by blocks in time, so a gap must last for three. The time constant is longer,
    and before it has passed the phase is the mean of all blocks so far.
    """
    gap_rows = max(ARRIVAL_BLOCKS * block_rows, round(ARRIVAL_S * rate_hz))
    return Rules(gap_rows, 3, confirm_s, averaged_blocks=(1, 64), learns_spacing=True, trusts_lost=True)


class RowTimeline:
    """Due time of the next row of a stream of one nominal rate. Ask `gap` of every block, then `take` it."""

    def __init__(self, rate_hz: float, rules: Rules = STAMPED) -> None:
        """Wait for the first block."""
        self.rate_hz = rate_hz
        self._rules = rules
        self._confirm_ns = rules.confirm_s * 1e9
        self._stretch = 1.0
        """The spacing of rows, in nominal ones."""
        self._meter = SpacingMeter(rate_hz) if rules.measures_spacing else None
        self._jitter = 0.0
        """The mean deviation, in rows."""
        self._blocks = 0
        self.restart()

    def restart(self) -> None:
        """Wait for a first block again; what is known of jitter and spacing stays."""
        self._begun = False
        self.end_ns = 0
        """When the next row is due; 0 before the first block."""
        if self._meter is not None:
            self._meter.restart()
        self._late: list[int] = []
        """By how many rows the last blocks deviate, while that is not yet confirmed to be a gap."""
        self._late_from_ns = 0

    @property
    def measured_hz(self) -> float:
        """Rows a second, by their times."""
        return self.rate_hz / self._stretch

    def gap(self, t_ns: int, rows: int, lost: int = 0) -> int:
        """Rows that are missing between the count and a block of `rows` at `t_ns`, of which `lost` are said to be lost.

        0 when the block follows, as far as its time can tell; below 0 when it overlaps what was counted by so many.
        """
        if not self._begun:
            return 0
        known = lost if self._rules.trusts_lost else 0
        ahead = round((t_ns - self.end_ns) * self.rate_hz / 1e9 / self._stretch) - known
        tolerance = self.tolerance(rows)
        if ahead <= tolerance:
            self._late = []
        if lost > known and abs(ahead - lost) <= tolerance:
            return lost
        if abs(ahead) <= tolerance:
            return known
        return known + (ahead if ahead < 0 else self._confirmed(ahead, t_ns))

    def take(self, t_ns: int, rows: int, gap: int = 0, *, follow: bool = True) -> int:
        """Count a block that stands `gap` rows after the count; return the time of its first row by the count.

        Without `follow` its time does not move the count. Nor does that of a block that overlaps: only those of its
        rows count that lie beyond what was counted.
        """
        if not self._begun:
            self._begun, self.end_ns, gap = True, t_ns, 0
        if gap < 0:
            new = max(0, gap + rows)
            self._count(new)
            self.end_ns += self._duration_ns(new)
            return self.end_ns - self._duration_ns(rows)
        self._count(gap)
        if self._meter is not None and follow:
            self._meter.add(t_ns)
            self._stretch = self._meter.spacing
        self._count(rows)
        error_ns = t_ns - self.end_ns - self._duration_ns(gap)
        self._jitter += (abs(error_ns) * self.rate_hz / 1e9 - self._jitter) * JITTER_MEMORY
        moved_ns = self._followed(error_ns, rows) if follow and not self._late else 0
        self.end_ns += self._duration_ns(gap + rows) + moved_ns
        return self.end_ns - self._duration_ns(rows)

    def tolerance(self, rows: int) -> float:
        """By how many rows the time of a block may deviate before it means a gap or an overlap."""
        if self._rules.tolerance_rows is not None:
            return self._rules.tolerance_rows
        jitter = min(max(JITTER_MARGIN * self._jitter, JITTER_FLOOR_S * self.rate_hz), JITTER_CEILING_S * self.rate_hz)
        return max((rows - 1) / 2, jitter)

    def _confirmed(self, ahead: int, t_ns: int) -> int:
        """Return the number of rows that are missing for certain, when a block is ahead by more than is tolerated."""
        self._late_from_ns = self._late_from_ns if self._late else t_ns
        self._late = [*self._late, ahead][-self._rules.confirm_blocks :]
        if len(self._late) < self._rules.confirm_blocks or t_ns - self._late_from_ns < self._confirm_ns:
            return 0
        missing, self._late = min(self._late), []
        return missing

    def _followed(self, error_ns: int, rows: int) -> int:
        """By how much a block's deviation moves the count, whose spacing it corrects as well."""
        least, most = self._rules.averaged_blocks
        self._blocks = min(self._blocks + 1, most)
        gain = 1 / max(self._blocks, least)
        limit_ns = None if self._rules.tolerance_rows is None else self._duration_ns(self._rules.tolerance_rows)
        near_ns = error_ns if limit_ns is None else max(error_ns, -limit_ns)
        if self._rules.learns_spacing and self._blocks == most:  # critically damped: the square of half the phase gain
            stretch = self._stretch + (gain / 2) ** 2 * near_ns * self.rate_hz / 1e9 / rows
            self._stretch = min(max(stretch, 1 - MOST_STRETCH), 1 + MOST_STRETCH)
        moved_ns = round(gain * near_ns)
        # More rows than the rate allows must not lead into the future.
        return moved_ns if limit_ns is None else min(moved_ns, error_ns + limit_ns)

    def _count(self, rows: int) -> None:
        if self._meter is not None:
            self._meter.count(rows)

    def _duration_ns(self, rows: int) -> int:
        return round(rows * 1e9 / self.rate_hz * self._stretch)
