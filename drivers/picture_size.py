"""The size of the pictures of one stream: what was asked, and else the size of the first."""

from __future__ import annotations

from drivers.driver import BadData
from drivers.v4l2 import check_size


class PictureSize:
    """Compares every picture of a connection with what was asked and with the first one."""

    def __init__(self, width: int | None, height: int | None) -> None:
        """Expect this size; None takes any."""
        self._asked = (width, height)
        self._first: tuple[int, int] | None = None

    def check(self, source: str, width: int, height: int) -> None:
        """Raise FormatMismatch for another size than was asked, BadData for another one than the first picture has.

        A single picture of another size costs itself only. When a source has changed for good, silence follows, and
        whoever connects again takes the new size.
        """
        check_size(source, self._asked, (width, height))
        if self._first is None:
            self._first = width, height
        if (width, height) != self._first:
            before = "{}x{}".format(*self._first)
            raise BadData(f"{source}: a picture of {width}x{height} pixels came among those of {before}")
