"""The root of all faults that a user can cause and mend."""

from __future__ import annotations


class UserFault(Exception):
    """A fault whose message is one line for the user: what, where, what to do. The command line ends with it."""
