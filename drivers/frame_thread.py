"""A thread that keeps the newest frame of a live source, so that neither a backlog nor a blocked read reaches us.

Reads of networks and devices may block for seconds beyond their time limits; the thread waits for them, the
driver's caller does not. The queue holds one frame: a newer one replaces it, and the replaced ones are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Condition, Thread

from drivers.driver import BadData, Disconnected, DriverError, ReadTimeout, Sample

JOIN_S = 1.0


class FrameThread:
    """Runs `grab` over and over; `read` hands out the newest result once."""

    def __init__(self, source: str, grab: Callable[[], Sample], release: Callable[[], None]) -> None:
        """Start reading.

        `grab` returns one image or raises a DriverError: BadData is passed on once and reading goes on, any
        other ends the thread and is passed on for good; what is no DriverError becomes Disconnected. The thread
        itself calls `release` when reading has ended, because a device must not be closed under a blocked read.
        """
        self._source = source
        self._grab = grab
        self._release = release
        self._changed = Condition()
        self._frame: Sample | None = None
        self._lost = 0
        self._bad: BadData | None = None
        self._end: DriverError | None = None
        self._stopping = False
        self._thread = Thread(target=self._run, name=f"frames of {source}", daemon=True)
        self._thread.start()

    def read(self, timeout_s: float) -> Sample:
        """Return the newest frame that was not handed out yet, waiting for one up to `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame or self._bad or self._end, timeout_s):
                raise ReadTimeout(f"{self._source}: no frame within {timeout_s:g} s")
            if self._bad is not None:
                bad, self._bad = self._bad, None
                raise bad
            if self._frame is not None:
                frame, lost = self._frame, self._lost
                self._frame, self._lost = None, 0
                return replace(frame, lost=lost)
            raise self._end or Disconnected(f"{self._source}: closed")

    def close(self) -> None:
        """Stop reading; the source is released as soon as its current read returns."""
        self._stopping = True
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        end: DriverError = Disconnected(f"{self._source}: closed")
        try:
            while not self._stopping:
                try:
                    frame = self._grab()
                except BadData as bad:
                    self._publish(bad=bad)
                else:
                    self._publish(frame=frame)
        except DriverError as error:
            end = error
        except Exception as error:  # noqa: BLE001  told to the reader, who would only see time-outs otherwise
            end = Disconnected(f"{self._source}: {type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            self._release()
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def _publish(self, frame: Sample | None = None, bad: BadData | None = None) -> None:
        with self._changed:
            if frame is not None:
                self._lost += self._frame is not None
                self._frame = frame
            if bad is not None:
                self._lost += self._bad is not None
                self._bad = bad
            self._changed.notify_all()
