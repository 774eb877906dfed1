"""Entry point of `sensebind VERB`: signals first, then the verbs, then a fault as one line.

The verbs are in `agent.commands.verbs`, which is imported once signals are handled.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from agent.commands.signals import Ended, ending
from common.errors import UserFault


def main() -> None:
    """Run a command; a fault of the user ends as one line on stderr and exit status 1."""
    ending.take_signals()
    try:
        status = _run()
    except Exception:
        if not ending.raised:
            raise
        status = 0  # a library has made something else of `Ended`
    if ending.number or ending.hurried:
        ending.leave(status or (ending.status if ending.number else 0))
    sys.exit(status)


def _run() -> int:
    """Run a command and return its exit status."""
    try:
        import logging

        from agent.commands.verbs import app
        from common.printable import PrintableFormatter

        logging.basicConfig(level=logging.WARNING)
        for output in logging.getLogger().handlers:
            output.setFormatter(PrintableFormatter("%(levelname)s %(name)s: %(message)s"))
        app()
        status = 0
    except Ended:
        return 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:
        if ending.raised or not isinstance(error, UserFault):
            raise
        for line in error.lines:
            _tell(f"sensebind: {line}")
        status = 1
    return status if _flushed() else 128 + signal.SIGPIPE


def _tell(line: str) -> None:
    from common.printable import printable

    with suppress(OSError):  # its terminal has gone
        print(printable(line), file=sys.stderr)


def _flushed() -> bool:
    """Return whether the output has reached its reader; the rest is dropped."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == "__main__":
    main()
