"""The agent's side of the model's process: starts it, hands it requests, and replaces it when it ends or hangs."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from agent import child
from agent.back_off import BackOff
from agent.clock import RunClock
from agent.config.settings import ModelSettings
from agent.embedding.pipe import Closed, Pipe
from agent.embedding.wire import Answer, ModelOrder, Parts, raised, unpack_answer
from agent.embedding.worker import ModelGone
from common.descriptors import FOR_A_START, RESERVE
from common.errors import UserFault
from drivers.driver import Modality

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 5.0
"""Before another attempt, however many failed."""
STEADY_S = 10.0
"""A process that answered for this long was sound: its successor starts without delay."""
LOADING_S = 600.0
"""How long a process may take to load its weights before it is killed."""
REAPED_S = 2.0
"""How long a process that was killed is waited for: in the kernel, as in a driver that hangs, it may stay for ever."""
CLOSED_S = 1.0
LOOK_MS = 500
"""Between looks at whether a process was killed and did not end."""


class StartError(UserFault, RuntimeError):
    """The model's process could not be started, or ended before the model was loaded; one line."""


@dataclass(eq=False)
class _Running:
    """One process, and what connects it with this one."""

    process: subprocess.Popen[bytes]
    pipe: Pipe
    pid_fd: int
    told: str = ""
    """Why it ends, if that is known before it does."""
    killed_ns: int = 0


class Keeper:
    """Keeps one process of the model running, from `start` to `close`, on a thread of its own."""

    def __init__(self, settings: ModelSettings, modalities: Collection[Modality], clock: RunClock) -> None:
        """Nothing is started yet. `clock` is the one that both processes have."""
        self._settings, self._modalities, self._clock = settings, tuple(sorted(modalities)), clock
        self._first: Future[dict[str, Any]] = Future()
        self._asking = threading.Lock()
        """Held while the pipe of the process is in use."""
        self._changed = threading.Condition()
        # What follows is guarded by _changed.
        self._running: _Running | None = None
        self._ready: _Running | None = None
        self._gone = "is being loaded"
        self._closing = False
        # What follows is the thread's.
        self._back_off = BackOff(LONGEST_WAIT_S)
        self._unreaped: list[subprocess.Popen[bytes]] = []
        self._logged = ""
        self._thread = threading.Thread(target=self._run, name="model keeper", daemon=True)

    def start(self) -> dict[str, Any]:
        """Start the process, wait until the model is loaded, and return what it says of it: seconds.

        Raises what loading raises, StartError, and ModelGone when it is closed meanwhile.
        """
        self._thread.start()
        return self._first.result()

    @property
    def gone(self) -> str:
        """Reason for taking no requests now, one line; empty when it takes them."""
        with self._changed:
            return "" if self._ready else self._gone

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a process can be asked; False when none can by then, or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closing, timeout_s)
            return self._ready is not None and not self._closing

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        with self._changed:
            return self._running.process.pid if self._running else None

    def ask(self, request: Parts, limit_s: float) -> Answer:
        """The answer to a request; a process that has none in time is killed, and so is one that cannot go on.

        Raises ModelGone; TooLarge or OSError, with nothing asked.
        """
        with self._asking:
            with self._changed:
                running = self._ready
                if running is None:
                    raise ModelGone(f"the model {self._gone}; try again later")
            try:
                running.pipe.send(request)
            except Closed:
                answer, why = None, ""
            else:
                answer, why = _awaited(running, limit_s)
        if answer is not None:
            return answer
        self._end(running, why)
        with self._changed:
            # The thread that looks after it learns what ended it.
            self._changed.wait_for(lambda: self._ready is not running, REAPED_S)
            raise ModelGone(f"the model {self._gone}; try again later")

    def close(self) -> None:
        """End the process; may be called again, and by any thread."""
        with self._changed:
            self._closing = True
            running = self._running
            self._changed.notify_all()
        if running is not None:
            self._end(running, "is stopped")
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(CLOSED_S)

    def _end(self, running: _Running, why: str) -> None:
        """Kill a process; `why` is told, unless something was before."""
        with self._changed:
            running.told = running.told or why
            running.killed_ns = running.killed_ns or self._clock.now_ns()
            if running.process.returncode is None:
                child.kill(running.process)

    def _run(self) -> None:
        # The kernel kills the process when the thread that started it ends.
        while not self._closing:
            wait_s = LONGEST_WAIT_S
            try:
                wait_s = self._one_life()
            except Exception:
                log.exception("looking after the model's process failed")
            with self._changed:
                self._changed.wait_for(lambda: self._closing, wait_s)
        if not self._first.done():
            self._first.set_exception(ModelGone("the agent stops"))

    def _one_life(self) -> float:
        """Start a process and look after it until it ends; how long to wait before the next."""
        self._unreaped = [process for process in self._unreaped if process.poll() is None]
        try:
            running = RESERVE.open(self._launch, FOR_A_START)
        except OSError as error:
            why = child.refused(error, "run the model", "configure a smaller model")
            self._fail_start(f"the model's process: {why}")
            self._note_gone(f"cannot be started again: {why}")
            return self._back_off.next_s()
        ready_ns = 0
        try:
            with self._changed:
                self._running, closing = running, self._closing
            if closing:
                self._end(running, "is stopped")
            elif why := self._load(running):
                self._end(running, why)
            else:
                ready_ns = self._clock.now_ns()
                self._await_end(running)
        finally:
            self._bury(running)
        if ready_ns and self._clock.now_ns() - ready_ns > STEADY_S * 1e9:
            self._back_off.reset()
        return self._back_off.next_s()

    def _launch(self) -> _Running:
        """Start the process; leaves nothing behind when it cannot. Raises OSError."""
        with ExitStack() as undo:
            pipe, fds = Pipe.pair()
            undo.callback(pipe.close)
            try:
                order = ModelOrder(self._settings, self._modalities, self._clock, fds)
                process = child.launch("agent.embedding.process", order, [], fds)
            finally:
                os.close(fds[0])
            undo.callback(process.wait)
            undo.callback(child.kill, process)
            pid_fd = os.pidfd_open(process.pid)
            undo.pop_all()
        return _Running(process, pipe, pid_fd)

    def _load(self, running: _Running) -> str:
        """Wait until the model is loaded; returns why it cannot be, or "" when it is or its process has ended."""
        answer, why = _awaited(running, LOADING_S)
        if answer is None:
            return why
        if answer.trouble:
            if not self._first.done():
                self._first.set_exception(raised(answer))
                self._closing = True  # what a person must mend is no reason to try again
            return f"cannot be loaded again: {answer.message}"
        if self._first.done() and answer.value != self._first.result():
            return (
                f"is another one than at the start, {answer.value['name']}: start the agent again, or restore its file"
            )
        with self._changed:
            self._ready, self._logged = running, ""
            self._changed.notify_all()
        if self._first.done():
            log.info("the model is loaded again")
        else:
            self._first.set_result(answer.value)
        return ""

    def _await_end(self, running: _Running) -> None:
        """Wait until the process ends, or was killed and does not end."""
        poll = select.poll()
        poll.register(running.pid_fd, select.POLLIN)
        while not poll.poll(LOOK_MS):
            if running.killed_ns and self._clock.now_ns() - running.killed_ns > REAPED_S * 1e9:
                return

    def _bury(self, running: _Running) -> None:
        """Let go of a process, and say why it has ended."""
        child.kill(running.process)  # what it started may live on
        why = running.told
        try:
            status = running.process.wait(REAPED_S)
        except subprocess.TimeoutExpired:
            self._unreaped.append(running.process)
        else:
            ended = child.ended_by(status)
            self._fail_start(f"the model's process {ended} while it loaded the weights; see whether memory is short")
            why = why or f"has lost its process, which {ended}; it is started again"
        with self._changed:
            self._running = self._ready = None
        self._note_gone(why)
        with self._asking:
            running.pipe.close()
        RESERVE.close(running.pid_fd)

    def _fail_start(self, why: str) -> None:
        """The first process is the last one when it does not get as far as a model: let whoever waits for it know."""
        if not self._first.done() and not self._closing:
            self._first.set_exception(StartError(why))
            self._closing = True

    def _note_gone(self, why: str) -> None:
        """Say why nothing can be asked; logged once while it stays the same. `agent.embedding.watch` tells users."""
        with self._changed:
            self._gone = why
            self._changed.notify_all()
        if not self._closing and why != self._logged:
            log.info("the model %s", why)
            self._logged = why


def _awaited(running: _Running, limit_s: float) -> tuple[Answer | None, str]:
    """The next answer of a process, or None and why there is none; "" when the process has ended."""
    try:
        answer = unpack_answer(running.pipe.receive(limit_s))
    except Closed:
        return None, ""
    except TimeoutError:
        return None, f"has not come back for {limit_s:.1f} s; its process is killed and started again"
    except (ValueError, KeyError, TypeError) as error:
        return None, f"gave an answer that is none ({error}); its process is started again"
    if answer.trouble == "fatal":
        return None, f"cannot go on in its process, which is started again: {answer.message}"
    return answer, ""
