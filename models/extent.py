"""Extent of an input of the model: seconds of sound, and the part of an image. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMAGE_PX: Final = 224
VISION_PATCH_PX: Final = 14
VISION_GRID: Final = IMAGE_PX // VISION_PATCH_PX  # 16 x 16 patches, as published
AUDIO_SLACK_S: Final = 0.05
"""What a window may be longer than AUDIO_WINDOW_S: blocks do not end to the millisecond. The end is cut off."""


@dataclass(frozen=True, slots=True)
class CropMap:
    """The model's 224 x 224 crop in an image of `height` x `width` pixels.

    Coordinates are continuous, x to the right and y down, (0, 0) at the outer corner of the first pixel.
    """

    height: int
    width: int

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width after resizing, before the cut."""
        short = min(self.height, self.width)
        return IMAGE_PX * self.height // short, IMAGE_PX * self.width // short

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the cut in the resized image."""
        height, width = self.resized
        return round((height - IMAGE_PX) / 2), round((width - IMAGE_PX) / 2)

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """Crop pixels (0..224) -> image pixels."""
        (height, width), (top, left) = self.resized, self.corner
        return (x + left) * self.width / width, (y + top) * self.height / height

    def to_crop(self, x: float, y: float) -> tuple[float, float]:
        """Image pixels -> crop pixels; outside 0..224 is what the model does not see."""
        (height, width), (top, left) = self.resized, self.corner
        return x * width / self.width - left, y * height / self.height - top
