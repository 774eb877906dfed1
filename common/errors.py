"""The root of all faults that a user can cause and mend."""

from __future__ import annotations

from collections.abc import Sequence


class UserFault(Exception):
    """A fault whose message is one line for the user: what, where, what to do. The command line ends with it."""

    @property
    def lines(self) -> Sequence[str]:
        """Messages of all faults that were found together, one line each."""
        return (str(self),)
