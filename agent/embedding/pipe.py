"""Messages between two processes: their bytes lie in memory that both share, a socket tells how many there are.

Each direction has an anonymous file (memfd) of its own and holds one message at a time: who sends waits for an answer
before the next. Nothing of it has a name, so nothing outlives the processes, however these end. Going through the
kernel orders a message's bytes before the word of it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from common.descriptors import RESERVE

MOST_BYTES = 1 << 30
"""Of a message."""
KEPT_BYTES = 64 << 20
"""Of memory that is kept for the next message; what a larger one took is given back."""
MOST_PARTS = 4096
"""Of a message."""

Bytes = NDArray[np.uint8]


class Closed(ConnectionError):
    """The other end has gone."""


class TooLarge(ValueError):
    """A message is larger than may be sent; one line."""


class Pipe:
    """One end. Takes over its three file descriptors."""

    def __init__(self, socket_fd: int, out_fd: int, in_fd: int) -> None:
        self._socket = socket.socket(fileno=socket_fd)
        self._out_fd, self._in_fd = out_fd, in_fd

    @classmethod
    def pair(cls) -> tuple[Pipe, tuple[int, int, int]]:
        """One end, and the descriptors of the other for a process that inherits them.

        Close the first of these, the socket, once it has; the files are this end's too. Raises OSError, and leaves
        nothing open then.
        """
        with ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            undo.callback(theirs.close)
            out_fd = os.memfd_create("sensebind-model", os.MFD_CLOEXEC)
            undo.callback(os.close, out_fd)
            in_fd = os.memfd_create("sensebind-model", os.MFD_CLOEXEC)
            undo.pop_all()
        return cls(ours.detach(), out_fd, in_fd), (theirs.detach(), in_fd, out_fd)

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Hand over a message of at least one part, each a row of bytes.

        Raises Closed; TooLarge, or OSError when there is no memory, with nothing sent.
        """
        views = [memoryview(part) for part in parts]
        sizes = [view.nbytes for view in views]
        if sum(sizes) > MOST_BYTES or len(sizes) > MOST_PARTS:
            raise TooLarge(
                f"{sum(sizes) / 1e6:.0f} MB in {len(sizes)} parts are more than the {MOST_BYTES / 1e6:.0f} MB in "
                f"{MOST_PARTS} that the model's process takes at once"
            )
        if os.fstat(self._out_fd).st_size > KEPT_BYTES:
            os.ftruncate(self._out_fd, 0)
        offset = 0
        for view in views:
            written = 0
            while written < view.nbytes:
                written += os.pwrite(self._out_fd, view[written:], offset + written)
            offset += view.nbytes
        try:
            self._socket.send(struct.pack(f"<{len(sizes)}q", *sizes))
        except ConnectionError:
            raise Closed from None

    def receive(self, timeout_s: float | None = None) -> list[Bytes]:
        """Wait for a message; its parts are copies. Raises Closed, TimeoutError, and ValueError for a senseless one."""
        self._socket.settimeout(timeout_s)
        try:
            packet = self._socket.recv(8 * MOST_PARTS)
        except ConnectionError:
            raise Closed from None
        if not packet:
            raise Closed
        sizes = [size for (size,) in struct.iter_unpack("<q", packet)] if len(packet) % 8 == 0 else [-1]
        if min(sizes) < 0 or sum(sizes) > MOST_BYTES:
            raise ValueError("a message of an impossible size")
        parts, offset = [], 0
        for size in sizes:
            parts.append(self._read(size, offset))
            offset += size
        return parts

    def close(self) -> None:
        """Release everything; may be called again, by the thread that alone uses it."""
        if self._out_fd < 0:
            return
        for fd in (self._socket.detach(), self._out_fd, self._in_fd):
            RESERVE.close(fd)
        self._out_fd = self._in_fd = -1

    def _read(self, size: int, offset: int) -> Bytes:
        """Memory of its own for each part, so that none keeps the others."""
        part = np.empty(size, np.uint8)
        done = 0
        while done < size:
            read = os.preadv(self._in_fd, [part.data[done:]], offset + done)
            if not read:
                raise ValueError("a message that is shorter than it says")
            done += read
        return part
