"""Limits of clients: all bounds of the server in one place."""

from __future__ import annotations

import resource
from dataclasses import dataclass

_SPARE_FILES = 0.5
"""Fraction of the files that the process may have open: the rest is for drivers, logs and the model."""


@dataclass(frozen=True, slots=True)
class Share:
    """Calls at a time: in all, by one host, and over one connection. 0: no limit but that of all.

    A host's share is smaller than the whole, so that others still get in; on loopback all programs are one host, and
    what one of them may take is bounded by the share of its connection.
    """

    total: int
    host: int = 0
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of all clients together; beyond them calls end with RESOURCE_EXHAUSTED and connections are closed."""

    subscribers: Share = Share(256, host=192, connection=64)
    """Subscribe and Watch calls."""
    ingests: Share = Share(64, host=48, connection=16)
    """Ingest calls. One may pause for as long as it likes, so its share is what bounds it."""
    embeds: Share = Share(8, host=6, connection=4)
    """Embed calls; each holds its decoded pictures."""
    changes: Share = Share(64, host=48, connection=16)
    """AddQuery, RemoveQuery and ControlReplay calls: they wait for the model, or for one another."""
    looks: Share = Share(256, host=192, connection=32)
    """GetStatus and ListQueries calls: they wait for nothing but their own request."""
    watches: Share = Share(64, host=48, connection=8)
    """Streams of the health and reflection services."""
    queries: int = 256
    message_bytes: int = 16 * 2**20
    write_timeout_s: float = 10.0
    """A subscriber that leaves an event unread for this long is ended."""
    request_timeout_s: float = 10.0
    """A call whose request has not come after this long is ended."""
    connections: int = 512
    """TCP connections at a time; further ones are closed at once. Never more than half of the files that the process
    may have open."""
    health_connections: int = 16
    """TCP connections at a time to the address that is for health alone."""
    handshake_s: float = 3.0
    """Time after which a connection that does not speak HTTP/2 is closed."""
    idle_connection_s: float = 60.0
    """A connection without a call is closed after this long; clients connect again when they need to."""
    streams_per_connection: int = 256
    """More calls than that wait at the client. Above the shares of a connection, so that a call too many is told so."""
    calls: int = 2048
    """Calls of every kind together, answered or not: only calls opened without their request get there."""
    ping_after_s: float = 10.0
    """A peer from which nothing has come for this long is pinged. One that pings more than twice as often is sent
    away."""
    ping_timeout_s: float = 7.0
    """A peer that leaves a ping unanswered for this long has vanished or is frozen: what it held is freed."""

    def open_connections(self, wanted: int) -> int:
        """Return the number of connections, at most `wanted`, that the system's limit of open files allows."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return wanted
        return max(1, min(wanted, int(soft * _SPARE_FILES)))
