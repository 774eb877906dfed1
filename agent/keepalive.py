"""Pings by which either end of a connection notices that the other has vanished or is frozen."""

from __future__ import annotations


def ping_options(after_s: float, timeout_s: float) -> list[tuple[str, int]]:
    """Options of a gRPC channel or server: ping a peer that was silent for `after_s`, give it up after `timeout_s`."""
    timeout_ms = round(timeout_s * 1e3)
    return [
        ("grpc.keepalive_time_ms", round(after_s * 1e3)),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        # Alone the former does nothing: this one's default of a minute goes before it.
        ("grpc.http2.ping_timeout_ms", timeout_ms),
        ("grpc.http2.max_pings_without_data", 0),
    ]
