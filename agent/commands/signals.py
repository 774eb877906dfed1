"""Signals that end a command, from the first line of `main` to the last: in order, within END_S, without a traceback.

The first one counts, the others are passed over: the end itself is never cut. What it sets off is `Ended`, raised in
the main thread, so that whoever has something open closes it; or, within `calling` and `run`, what those say. A thread
waits for the end, and cuts it short when the main thread does not come back from a library, a device or a disk.

Only the standard library's lightest modules are imported here: what comes before handlers are set is not protected.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
MEANT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Signals by which people, terminals and supervisors end a command that runs for ever."""
END_S = 4.7
"""Longest time from the signal to the end of the process."""
AGAIN_S = 0.05
"""Time from an `Ended` that Python could not raise further (in a finaliser or a callback) to the next."""


class Ended(SystemExit):
    """A signal ended the command; `code` is its exit status."""


class Ending:
    """The signal that ended this process, and its effect. One a process; all but the watching is its main thread's.

    Nothing happens before `take_signals`.
    """

    def __init__(self) -> None:
        self.number = 0
        """Number of the signal that ended the process; 0 before."""
        self.raised = False
        """True if `Ended` was raised: an exception of any kind may be what became of it."""
        self.hurried = False
        """True if a thread of a library is still at work, such as one that loads the model, at which Python's own end
        would abort."""
        self._call: Callable[[], object] | None = None
        self._meant = False

    @property
    def status(self) -> int:
        """The exit status, as shells have it: 128 + number, or 0 when the command is meant to be ended."""
        return 0 if self._meant and self.number in MEANT else 128 + self.number

    def take_signals(self) -> None:
        """Handle signals from now on, to the end of the process. SIGHUP stays ignored, if it is: that is `nohup`."""
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(read_fd, True)
        # Written to at once, while the main thread may be in a library that takes its time.
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        _thread.start_new_thread(self._watch, (read_fd,))
        sys.unraisablehook = self._unraisable
        for number in ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def meant(self) -> None:
        """Say that the command runs until a signal ends it: SIGHUP, SIGINT and SIGTERM then give exit status 0."""
        self._meant = True

    @contextmanager
    def calling(self, function: Callable[[], object]) -> Iterator[None]:
        """Within the block a signal calls `function`, which must not wait; one that came before ends at once."""
        self._call = function
        try:
            if self.number:
                function()
            yield
        finally:
            self._call = None

    def run(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run what `begin` gives on an asyncio loop; a signal cancels it. Raises Ended then."""
        import asyncio

        async def run() -> T:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            with self.calling(lambda: loop.call_soon_threadsafe(task.cancel)):
                return await begin()

        try:
            return asyncio.run(run())
        except asyncio.CancelledError:
            if not self.number:
                raise
            raise Ended(self.status) from None

    def leave(self, status: int) -> NoReturn:
        """End the process now. Threads of libraries, which may hang or crash at an orderly end, are not waited for."""
        atexit._run_exitfuncs()
        self._exit(status)

    def _exit(self, status: int) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # its terminal or pipe has gone
                stream.flush()
        os._exit(status)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            return
        self.number = number
        if self._call:
            self._call()
        else:
            self._raise()

    def _raise(self) -> NoReturn:
        self.raised = True
        raise Ended(self.status)

    def _unraisable(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Ended):
            sys.__unraisablehook__(unraisable)
            return
        _thread.start_new_thread(self._again, ())

    def _again(self) -> None:
        time.sleep(AGAIN_S)
        number, self.number = self.number, 0
        signal.pthread_kill(_thread_of_main(), number)

    def _watch(self, fd: int) -> None:
        while not any(number in ENDING for number in os.read(fd, 64)):
            pass
        time.sleep(END_S)
        with suppress(OSError, ValueError):
            print(f"sensebind: not ended in order within {END_S:g} s; cut short", file=sys.stderr)
        self._exit(self.status or 1)


def _thread_of_main() -> int:
    import threading

    return threading.main_thread().ident or 0


ending = Ending()
"""The ending of this process."""
