"""The gRPC server: the Perception service, the standard health service and reflection, at one address.

A second address can be given for health alone, with connections of its own: it answers whatever else is full.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from agent.address import ListenError, check_listen
from agent.server.interface import Agent
from agent.server.limits import Limits, Share
from agent.server.listener import grpc_server, listen
from agent.server.servicer import SERVICE, Servicer
from agent.server.standard import HEALTH, Health, Reflection
from agent.server.subscribers import Subscribers

__all__ = ["Limits", "ListenError", "Server", "Share"]

STOP_GRACE_S = 2.0


class Server:
    """Serves one agent. Build and use it on the asyncio loop that it is to run on."""

    def __init__(self, agent: Agent, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._limits = limits
        self._subscribers = Subscribers(agent.bus, agent.streams, write_timeout_s=limits.write_timeout_s)
        self._servicer = Servicer(agent, self._subscribers, limits)
        self._health = Health(limits.watches)
        self._grpc = grpc_server(limits, limits.connections)
        self._grpc.add_generic_rpc_handlers((self._servicer.rpc_handlers(),))
        self._health.add_to(self._grpc)
        Reflection((SERVICE.full_name, HEALTH), limits.watches).add_to(self._grpc)
        self._health_grpc: grpc.aio.Server | None = None
        self.health_address = ""
        """Address of health alone; empty without one."""

    async def start(self, address: str, *, insecure: bool = False, health_address: str = "") -> str:
        """Listen at `host:port` (port 0: any) and return the address that it became. Raises ListenError.

        Health says NOT_SERVING until `set_serving`. An address that other machines reach needs `insecure`. At
        `health_address` health and GetStatus are answered besides, also when clients have taken all connections of the
        first.
        """
        check_listen(address, insecure=insecure)
        await self.set_serving(False)
        bound = listen(self._grpc, address)
        if health_address:
            await self._start_health(health_address, insecure=insecure)
        await self._grpc.start()
        return bound

    async def set_serving(self, serving: bool) -> None:
        """Say to the health service's clients whether the model is loaded and ticks are embedded."""
        values = health_pb2.HealthCheckResponse
        for name in ("", SERVICE.full_name):
            await self._health.set(name, values.SERVING if serving else values.NOT_SERVING)

    async def begin_stop(self) -> None:
        """Refuse new calls, and report NOT_SERVING; subscribers continue. `stop` follows."""
        await self._health.enter_graceful_shutdown()
        self._subscribers.refuse()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Tell subscribers that the agent stops, and end within `grace_s`; any number of times."""
        await self.begin_stop()
        self._subscribers.stop()
        self._servicer.stop(grace_s / 2)
        await self._grpc.stop(grace_s)
        if self._health_grpc:
            await self._health_grpc.stop(0)

    async def _start_health(self, address: str, *, insecure: bool) -> None:
        check_listen(address, insecure=insecure)
        self._health_grpc = grpc_server(self._limits, self._limits.health_connections)
        self._health.add_to(self._health_grpc)
        self._health_grpc.add_generic_rpc_handlers((self._servicer.status_handlers(),))
        self.health_address = listen(self._health_grpc, address)
        await self._health_grpc.start()
