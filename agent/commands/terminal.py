"""The terminal that commands print to."""

from __future__ import annotations

import errno
import os

from rich.console import Console


class Terminal(Console):
    """A console whose reader may go away: then printing raises BrokenPipeError, as it does everywhere else.

    rich's own raises SystemExit, which an asyncio task must not.
    """

    def on_broken_pipe(self) -> None:
        """Print no more, and say so."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
