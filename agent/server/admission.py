"""Calls of a kind counted by connection and host, so that none takes the share of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from agent.server.limits import Share
from agent.server.refusal import too_many


def host_of(peer: str) -> str:
    """The host of a peer as gRPC names it: `ipv4:10.0.0.7` of `ipv4:10.0.0.7:41234`."""
    return peer.rpartition(":")[0] or peer


class Calls:
    """The calls of one kind that run. `what` names them, in the plural; `advice` is what a refused client can do."""

    def __init__(self, what: str, share: Share, advice: str = "end one, or try again later") -> None:
        self._what, self._advice = what, advice
        self._limits = {
            "": share.total,
            " of one host": share.host or share.total,
            " over one connection": share.connection or share.total,
        }
        self._running: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return self._running["", ""]

    @contextmanager
    def one(self, peer: str) -> Iterator[None]:
        """Count a call of a peer while it runs. Raises Refusal when a share is used up."""
        whose = (("", ""), (" of one host", host_of(peer)), (" over one connection", peer))
        # The narrowest limit first: this client can do something about that one.
        for key in reversed(whose):
            if self._running[key] >= self._limits[key[0]]:
                raise too_many(self._what, self._limits[key[0]], self._advice, key[0])
        self._running.update(whose)
        try:
            yield
        finally:
            self._running.subtract(whose)
            for key in whose:
                if not self._running[key]:
                    del self._running[key]
