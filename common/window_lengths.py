"""Lengths of the windows that ImageBind takes: what its encoders were trained on, and the usual windows of the agent.

Here because the model's preprocessing, the configuration, which must not load a model, and what prepares examples for
training need the same numbers.
"""

from __future__ import annotations

from typing import Final

FRAMES_APART_S: Final = 0.25
"""Between the two frames of a vision window."""

AUDIO_WINDOW_S: Final = 2
"""Whole, so that positions in a recording stay exact fractions."""

IMU_WINDOW_S: Final = 5

IMU_MAX_GAP_S: Final = 0.1
"""Gaps up to this long are bridged by a straight line: people and robots move little in a tenth of a second."""
