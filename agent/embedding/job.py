"""A request to the worker, and the future that its answer is waited for with."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from agent.embedding.requests import Answers, Request, answer

_LINKS = 16
"""Errors of a chain, each the cause of the one before, that are followed: a chain may be a ring."""


class Job:
    """A request that waits for its answer."""

    def __init__(self, request: Request, asked_ns: int) -> None:
        """`asked_ns` is when it was asked."""
        self.asked_ns = asked_ns
        self.future: Future[Any] = Future()
        self._request: Request | None = request

    def begin(self) -> bool:
        """Return whether it is still wanted."""
        return self.future.set_running_or_notify_cancel()

    def ask(self, model: Answers) -> Callable[[], None]:
        """Ask the model; returns what answers the future, which then holds nothing of the request.

        An error keeps the places that it passed, but not their variables: they may be pictures. From the frames it
        passed the way leads back to the callers' (`f_back`), so these too must let go of the job: its future holds the
        error, and only a full collection, which is rare, would free such a ring.
        """
        future, request, self._request = self.future, self._request, None
        assert request is not None
        try:
            return _answer(future, *_outcome(model, request))
        finally:
            del self, future, request

    def refuse(self, error: Exception) -> None:
        """Answer with an error, whether it runs or not."""
        _answer(self.future, None, error)()


def _answer(future: Future[Any], result: object, error: BaseException | None) -> Callable[[], None]:
    def set_answer() -> None:
        with suppress(InvalidStateError):  # answered meanwhile
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    return set_answer


def _outcome(model: Answers, request: Request) -> tuple[object, BaseException | None]:
    """The model's answer, or what it raises, with the variables of the frames that were passed cleared."""
    try:
        return answer(model, request), None
    except BaseException as error:  # noqa: BLE001 (whoever waits for the future gets it)
        link: BaseException | None = error
        for _ in range(_LINKS):
            if link is None:
                break
            traceback.clear_frames(link.__traceback__)
            link = link.__context__ if link.__cause__ is None else link.__cause__
        return None, error
    finally:
        del request
