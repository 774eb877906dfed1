"""Faults of a configuration, each one line; all of a file are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.errors import UserFault


class ConfigError(UserFault):
    """The configuration cannot be used. The message is the first fault, and `lines` are all that were found."""

    def __init__(self, *faults: str) -> None:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self._faults = faults

    @property
    def lines(self) -> Sequence[str]:
        """One line a fault."""
        return self._faults


class ConfigFaults:
    """Faults found so far, each with its message, so that a user mends all of a file in one go."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take note of a ConfigError that leaves the block, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self._lines += error.lines

    def check(self) -> None:
        """Raise ConfigError if there is a fault."""
        if self._lines:
            raise ConfigError(*self._lines)
