"""Starts processes of the agent's own: fresh interpreters that end with it, whatever ends it.

Never a fork: locks and threads of the parent must not be copied. What a process is to do goes to it as a pickle in an
anonymous file, its standard input.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from common.descriptors import NONE_LEFT

log = logging.getLogger(__name__)


def launch_line(module: str) -> str:
    """Argument of `python -c` that runs the `main` of a module: so the parent's main module is not imported again.

    Its arguments are sys.path as JSON, the parent's process id, and whatever `main` takes.
    """
    return (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from agent.parent import die_with; "
        f"die_with(int(sys.argv[2])); from {module} import main; main()"
    )


def launch(module: str, order: object, arguments: Sequence[str], pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start the `main` of a module in a process; leaves nothing behind when it cannot. Raises OSError.

    `arguments` are its sys.argv[3:]. It inherits `pass_fds`. The kernel kills it when the thread that calls this ends.
    """
    order_fd = os.memfd_create("sensebind-order", os.MFD_CLOEXEC)
    try:
        os.write(order_fd, pickle.dumps(order))
        os.lseek(order_fd, 0, os.SEEK_SET)
        # What native libraries print would spoil the terminal; what matters is told in other ways.
        output = None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, "-c", launch_line(module), json.dumps(sys.path), str(os.getpid()), *arguments],
            stdin=order_fd,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            process_group=0,  # Ctrl-C reaches the parent only, and `kill` takes what the process started along
        )
    finally:
        os.close(order_fd)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started; it may have ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def ended_by(status: int) -> str:
    """Return the end of a process in words, from its status as `subprocess` has it."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def refused(error: OSError, purpose: str, saving: str) -> str:
    """Return the system's reason for refusing a process for a purpose, and what to do; one line.

    `saving` is how it would take less memory.
    """
    if error.errno in NONE_LEFT:
        return f"no free file descriptor to {purpose} with; raise the limit with ulimit -n or LimitNOFILE="
    if error.errno == errno.EAGAIN:
        return f"no further process is allowed to {purpose}; raise the limit with ulimit -u or TasksMax="
    if error.errno == errno.ENOMEM:
        return f"no memory is left to {purpose}; end other programs, or {saving}"
    return f"its process could not be started: {error}"
