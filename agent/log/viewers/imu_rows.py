"""Rows of an IMU as plain numbers, one message each, which is what plots of viewers take. Pure.

A plot sets all values of a message at the message's time, so that a block in one message would be a column of dots. A
row in a message of its own takes 77 bytes of the file, and 24 in a block: so the log holds fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from drivers.driver import Sample
from drivers.forms import MAX_RATE_HZ, MIN_RATE_HZ
from protos.viewers_pb2 import ImuRow

_LATEST_NS = 2**62


def plotted_rows(sample: Sample, most_hz: float | None) -> Iterator[tuple[int, ImuRow]]:
    """Yield rows of a block with their capture times: all, or at most so many a second, evenly spaced.

    The choice depends on the times alone, not on how rows are cut into blocks.
    """
    if not (MIN_RATE_HZ <= sample.rate_hz <= MAX_RATE_HZ and 0 <= sample.t_ns < _LATEST_NS) or most_hz == 0:
        return
    period_ns = 1e9 / sample.rate_hz
    times_ns = sample.t_ns + np.rint(np.arange(len(sample.data)) * period_ns).astype(np.int64)
    chosen = np.arange(len(times_ns))
    if most_hz is not None and most_hz < sample.rate_hz:
        # The first row of each stretch of 1 / most_hz.
        stretch_ns = round(1e9 / most_hz)
        chosen = np.flatnonzero(times_ns // stretch_ns != (times_ns - round(period_ns)) // stretch_ns)
    rows = sample.data[chosen].tolist()
    for t_ns, (ax, ay, az, gx, gy, gz) in zip(times_ns[chosen].tolist(), rows, strict=True):
        yield t_ns, ImuRow(ax_mps2=ax, ay_mps2=ay, az_mps2=az, gx_rps=gx, gy_rps=gy, gz_rps=gz)
