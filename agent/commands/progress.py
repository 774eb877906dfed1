"""Progress of a long command, on stderr: a bar on a terminal, elsewhere a line every PLAIN_EVERY_S seconds at most."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from common.printable import printable
from common.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

PLAIN_EVERY_S: Final = 10.0
_BAR_WIDTH: Final = 16
_BAR_EVERY_S: Final = 0.1
"""Least time between two amounts that a bar takes: rich tells the rate from the last thousand."""
_KNOWN_AFTER_S: Final = 1.0
"""Time from which a rate is known."""


@contextmanager
def show_progress(unit: str = "", *, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Show what the block is told to have done, with the time that is left where the amount of all is known.

    Amounts are counts, or with `unit` "B" bytes. Nothing is left on a terminal at the end.
    """
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        with _bars(unit) as progress:
            yield progress
    else:
        yield _Lines(unit, clock).told


class _Lines:
    """Plain lines, for the log of a job. Work that ends sooner says nothing."""

    def __init__(self, unit: str, clock: Callable[[], float]) -> None:
        self._unit, self._clock = unit, clock
        self._what = ""
        self._begun = (clock(), 0.0)
        self._said_s = clock()

    def told(self, what: str, done: float, of: float | None) -> None:
        now_s = self._clock()
        if what != self._what:
            self._what, self._begun = what, (now_s, done)
        if now_s - self._said_s < PLAIN_EVERY_S:
            return
        self._said_s = now_s
        spent_s, new = now_s - self._begun[0], done - self._begun[1]
        left_s = (of - done) * spent_s / new if of is not None and new > 0 and spent_s >= _KNOWN_AFTER_S else None
        with suppress(OSError):  # its reader has gone, and the work goes on
            print(printable(f"{what}: {amount(done, of, self._unit)}, {left(left_s)}"), file=sys.stderr, flush=True)


def amount(done: float, of: float | None, unit: str) -> str:
    """Return the amount done of all, such as `12 of 64` or `1.5 of 4.8 GB`."""
    if unit == "B":
        scale, name = next(((s, n) for s, n in ((1e9, "GB"), (1e6, "MB")) if (of or done) >= s), (1e3, "kB"))
        return f"{done / scale:.1f} of {of / scale:.1f} {name}" if of is not None else f"{done / scale:.1f} {name}"
    return f"{done:.0f}" + (f" of {of:.0f}" if of is not None else "")


def left(seconds: float | None) -> str:
    """Return the time left, such as `2:05 left`; a question mark while it is not known."""
    if seconds is None:
        return "? left"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}") + " left"


@contextmanager
def _bars(unit: str) -> Iterator[Progress]:
    """One line, for the step at work, that fits the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Step(ProgressColumn):
        """Gives way where the terminal is narrow."""

        def render(self, task: Task) -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(amount(task.completed, task.total, unit))

    class Left(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text(left(task.time_remaining))

    columns = [
        Step(),
        BarColumn(_BAR_WIDTH),
        Amount(table_column=Column(no_wrap=True)),
        Left(table_column=Column(no_wrap=True)),
    ]
    # What goes to stdout stays there when that is a file or a pipe.
    with Bars(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        refresh_per_second=4,
    ) as bars:
        task, shown_what, taken_s = None, "", 0.0

        def told(what: str, done: float, of: float | None) -> None:
            nonlocal task, shown_what, taken_s
            now_s = time.monotonic()
            if what == shown_what and now_s - taken_s < _BAR_EVERY_S:
                return
            taken_s = now_s
            if task is None or what != shown_what:
                if task is not None:
                    bars.remove_task(task)
                task, shown_what = bars.add_task(printable(what), total=of, completed=int(done)), what
            else:
                bars.update(task, completed=done, total=of)

        yield told
