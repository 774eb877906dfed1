"""Events in transit to a client that reports its progress. Pure."""

from __future__ import annotations

from collections import deque


class Unread:
    """The seqs of the events that were sent and not yet read: at most `most` of them, in the order of sending.

    A Gap may be followed by one more: else a client far away, for which what waits grows too old in the time that its
    word takes to come, would be sent nothing but Gaps.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seqs: deque[int] = deque()
        self._newest = 0
        self._was_gap = False

    def __len__(self) -> int:
        return len(self._seqs)

    @property
    def full(self) -> bool:
        """True if no further event may be sent."""
        return len(self._seqs) >= self._most + self._was_gap

    def sent(self, seq: int, *, is_gap: bool = False) -> None:
        """Note an event that is sent."""
        self._seqs.append(seq)
        self._was_gap = is_gap
        self._newest = max(self._newest, seq)

    def read(self, seq: int) -> bool:
        """Take off all up to a seq, and say whether there were any. Raises ValueError for one that was not sent."""
        if seq > self._newest:
            raise ValueError(f"is {seq}, but the newest event that was sent is {self._newest}")
        before = len(self._seqs)
        while self._seqs and self._seqs[0] <= seq:
            self._seqs.popleft()
        return len(self._seqs) < before
