"""Synthetic sensors with one oddity each, for the tests of the pipeline."""

from __future__ import annotations

import numpy as np

from drivers.driver import Sample
from drivers.synthetic import SyntheticMicrophone


class NanMicrophone(SyntheticMicrophone):
    """One NaN in every block from the third second on."""

    def read(self, timeout_s: float) -> Sample:
        """Return the next block."""
        sample = super().read(timeout_s)
        if sample.t_ns >= self._clock.start_ns + 3_000_000_000:
            sample.data[len(sample.data) // 2, 0] = np.nan
        return sample
