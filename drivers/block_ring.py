"""Audio blocks between PortAudio's callback, which must neither wait nor allocate, and the thread that reads them."""

from __future__ import annotations

from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray


class BlockRing:
    """A fixed number of blocks for one writer and one reader; when it is full, new blocks are dropped and counted.

    Dropping the new rather than the old keeps the blocks that are handed out gapless as long as possible. The
    writer and the reader each own a counter of their own, so neither needs a lock.
    """

    def __init__(self, blocks: int, rows: int, channels: int) -> None:
        self._blocks = np.zeros((blocks, rows, channels), np.float32)
        self._arrived: SimpleQueue[tuple[int, int, int]] = SimpleQueue()
        self._put = 0
        self._taken = 0
        self._dropped = 0

    def put(self, rows: NDArray[np.float32], t_ns: int) -> None:
        """Copy in a block measured to begin at `t_ns`."""
        if self._put - self._taken == len(self._blocks):
            self._dropped += len(rows)
            return
        self._blocks[self._put % len(self._blocks), : len(rows)] = rows
        self._put += 1
        self._arrived.put((len(rows), t_ns, self._dropped))
        self._dropped = 0

    def wake(self) -> None:
        """Let a waiting reader return: no more blocks will come."""
        self._arrived.put((0, 0, 0))

    def get(self, timeout_s: float) -> tuple[NDArray[np.float32], int, int]:
        """Return (block [n, channels], t_ns, rows dropped before it); an empty block after `wake`.

        Raises queue.Empty after `timeout_s`.
        """
        rows, t_ns, dropped = self._arrived.get(timeout=timeout_s)
        if rows == 0:
            return self._blocks[0, :0], 0, 0
        block = self._blocks[self._taken % len(self._blocks), :rows].copy()
        self._taken += 1
        return block, t_ns, dropped
