"""The gRPC server: the Perception service, the standard health service and reflection, at one address."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from agent.server.address import ListenError, check_listen
from agent.server.interface import Agent
from agent.server.servicer import SERVICE, Servicer
from agent.server.subscribers import Subscribers

__all__ = ["Limits", "ListenError", "Server"]

STOP_GRACE_S = 2.0
_OTHER_CALLS = 64
"""Calls that may run beside the subscriptions."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take together; beyond, calls end with RESOURCE_EXHAUSTED."""

    subscribers: int = 256
    queries: int = 256
    message_bytes: int = 16 * 2**20
    write_timeout_s: float = 10.0
    """A subscriber that leaves an event unread for this long is ended."""


class Server:
    """Serves one agent. Build and use it on the asyncio loop that it is to run on."""

    def __init__(self, agent: Agent, limits: Limits = Limits()) -> None:
        self._subscribers = Subscribers(
            agent.bus, agent.streams, limit=limits.subscribers, write_timeout_s=limits.write_timeout_s
        )
        self._health = health.HealthServicer()
        self._grpc = grpc.aio.server(
            options=[
                # Two agents on one port would each get some of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limits.message_bytes),
                # Pings find a peer that vanished without a word within 20 s.
                ("grpc.keepalive_time_ms", 10_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
            maximum_concurrent_rpcs=limits.subscribers + _OTHER_CALLS,
        )
        servicer = Servicer(agent, self._subscribers, max_queries=limits.queries)
        self._grpc.add_generic_rpc_handlers((servicer.rpc_handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = (SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self, address: str, *, insecure: bool = False) -> str:
        """Listen at `host:port` (port 0: any) and return the address that it became. Raises ListenError.

        Health says NOT_SERVING until `set_serving`. An address that other machines reach needs `insecure`.
        """
        check_listen(address, insecure=insecure)
        await self.set_serving(False)
        try:
            port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            raise ListenError(f"{address}: cannot listen there; listen at another address or port") from None
        await self._grpc.start()
        return f"{address.rpartition(':')[0]}:{port}"

    async def set_serving(self, serving: bool) -> None:
        """Say to the health service's clients whether the model is loaded and ticks are embedded."""
        values = health_pb2.HealthCheckResponse
        for name in ("", SERVICE.full_name):
            await self._health.set(name, values.SERVING if serving else values.NOT_SERVING)

    async def begin_stop(self) -> None:
        """Refuse what is new, and say NOT_SERVING; subscribers go on. `stop` follows."""
        await self._health.enter_graceful_shutdown()
        self._subscribers.refuse()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Tell subscribers that the agent stops, and end within `grace_s`; any number of times."""
        await self.begin_stop()
        self._subscribers.stop()
        await self._grpc.stop(grace_s)
