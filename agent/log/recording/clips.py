"""Clips: seconds before and after something happened, as a small complete log of their own, from a ring in memory.

The ring is filled by the recorder, whether it writes files as well or not.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.log.encoded import Encoded
from agent.log.format import LogError, RecordError, RunFacts
from agent.log.whole_file import save_log

log = logging.getLogger(__name__)

LATENESS_S = 1.0
"""Seconds that a clip waits, after its end, for samples and events of its last moments."""
POLL_S = 0.1
MAX_WAITING = 64
MESSAGE_BYTES = 400
"""Memory of a message in the ring beside its data."""


class ClipBuffer:
    """The latest messages, at most so many seconds and bytes of them; the oldest goes first. Pure."""

    def __init__(self, max_s: float, max_bytes: int) -> None:
        self._max_ns = round(max_s * 1e9)
        self._max_bytes = max_bytes
        self._held: deque[tuple[int, Encoded]] = deque()
        self.size = 0
        """Size in bytes."""

    def add(self, message: Encoded, now_ns: int) -> None:
        """Take a message that came now. Its age counts from here: its own stamps may be wrong."""
        self._held.append((now_ns, message))
        self.size += _memory_of(message)
        while self._held and (self.size > self._max_bytes or now_ns - self._held[0][0] > self._max_ns):
            _, oldest = self._held.popleft()
            self.size -= _memory_of(oldest)

    def between(self, from_ns: int, to_ns: int) -> list[Encoded]:
        """Messages of capture times from `from_ns` up to and without `to_ns`, in the order in which they came."""
        return [message for _, message in self._held if from_ns <= message.log_ns < to_ns]

    def __len__(self) -> int:
        return len(self._held)


def _memory_of(message: Encoded) -> int:
    return message.size + MESSAGE_BYTES * (1 + len(message.beside))


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that was saved."""

    path: Path
    messages: int
    from_ns: int
    """Later than was asked for when the ring did not reach back so far."""
    to_ns: int


@dataclass(frozen=True, slots=True)
class _Request:
    path: Path
    from_ns: int
    to_ns: int
    answer: Future[Clip]


class Clips:
    """Saves clips from a ring, on a thread of its own, while the ring continues. Any thread may call."""

    def __init__(
        self, facts: RunFacts, now_ns: Callable[[], int], *, seconds: float, max_bytes: int = 64 * 2**20
    ) -> None:
        """`now_ns` is the time of the data: the run's clock, or offline the newest sample's.

        `seconds` must hold the longest clip.
        """
        self._facts = facts
        self._now_ns = now_ns
        self._model = ""
        self._ring = ClipBuffer(seconds + 2 * LATENESS_S, max_bytes)
        self._changed = threading.Condition()
        self._requests: deque[_Request] = deque()
        self._saving: _Request | None = None
        """The one that is being written."""
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def add(self, message: Encoded) -> None:
        """Take a message into the ring."""
        now_ns = self._now_ns()
        with self._changed:
            self._ring.add(message, now_ns)

    def set_model(self, name: str) -> None:
        """Note which weights the run uses."""
        self._model = name

    def request(self, path: Path, from_ns: int, to_ns: int) -> Future[Clip]:
        """Ask for a clip, which is saved once its end is over, or at `close` with what there is by then.

        The answer fails with RecordError when it cannot be written, there is nothing in it, or too many wait.
        """
        request = _Request(path, from_ns, to_ns, Future())
        with self._changed:
            if self._closing or len(self._requests) >= MAX_WAITING:
                why = "the run is over" if self._closing else f"{MAX_WAITING} clips wait to be saved"
                self._refuse(request, RecordError(f"{path}: not saved: {why}"))
                return request.answer
            self._requests.append(request)
            self._changed.notify_all()
        return request.answer

    def close(self, timeout_s: float | None = None) -> None:
        """Save the clips that were asked for and end, in time or, without one, when all are saved; `give_up` follows.

        May be called again.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        self.give_up()

    def give_up(self) -> None:
        """Refuse the clips that are not saved by now: the disk is too slow."""
        with self._changed:
            self._closing = True
            waiting = [*self._requests, *([self._saving] if self._saving else [])]
            self._requests.clear()
            self._saving = None
        for request in waiting:
            self._refuse(request, RecordError(f"{request.path}: not saved: the disk was too slow at the end"))

    def _run(self) -> None:
        while request := self._next():
            with self._changed:
                messages = self._ring.between(request.from_ns, request.to_ns)
            try:
                clip = self._save(request, messages)
            except LogError as error:
                self._refuse(request, error)
            except Exception as error:
                log.exception("%s: a clip failed", request.path)
                self._refuse(request, RecordError(f"{request.path}: not saved: {error}"))
            else:
                with suppress(InvalidStateError):  # it was given up
                    request.answer.set_result(clip)
            with self._changed:
                self._saving = None

    def _refuse(self, request: _Request, error: LogError) -> None:
        with suppress(InvalidStateError):  # it was given up
            request.answer.set_exception(error)
            log.warning("%s", error)

    def _next(self) -> _Request | None:
        """Wait for a request that is due; None when all is over."""
        with self._changed:
            while True:
                now_ns = self._now_ns()
                for request in self._requests:
                    if self._closing or now_ns >= request.to_ns + round(LATENESS_S * 1e9):
                        self._requests.remove(request)
                        self._saving = request
                        return request
                if self._closing:
                    return None
                self._changed.wait(POLL_S if self._requests else None)

    def _save(self, request: _Request, messages: Sequence[Encoded]) -> Clip:
        if not messages:
            raise RecordError(f"{request.path}: not saved: no sample of that time is held any more")
        facts = replace(self._facts, part=0, start_ns=max(request.from_ns, min(m.log_ns for m in messages)))
        save_log(request.path, facts, messages, self._model)
        return Clip(request.path, len(messages), facts.start_ns, request.to_ns)
