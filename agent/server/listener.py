"""Settings of every gRPC server of the agent: detection of vanished peers, and limits of input."""

from __future__ import annotations

import grpc

from agent.address import ListenError
from agent.keepalive import ping_options
from agent.server.limits import Limits


def grpc_server(limits: Limits, connections: int) -> grpc.aio.Server:
    """Build a server that takes so many TCP connections at a time."""
    options = [
        # Two agents on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_allowed_incoming_connections", limits.open_connections(connections)),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        # The first ends a connection on which nothing is said, the second one that says no more than its first words.
        ("grpc.server_handshake_timeout_ms", round(limits.handshake_s * 1e3)),
        ("grpc.http2.settings_timeout", round(limits.handshake_s * 1e3)),
        ("grpc.max_connection_idle_ms", round(limits.idle_connection_s * 1e3)),
        *ping_options(limits.ping_after_s, limits.ping_timeout_s),
        # Who pings more often than this is sent away.
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.ping_after_s / 2 * 1e3)),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=limits.calls)


def listen(server: grpc.aio.Server, address: str) -> str:
    """Start to listen at `host:port` (port 0: any), and return the resulting address. Raises ListenError."""
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise ListenError(f"{address}: cannot listen there; listen at another address or port") from None
    return f"{address.rpartition(':')[0]}:{port}"
