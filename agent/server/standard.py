"""The health and reflection services of gRPC, with a share for their streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from agent.server.admission import Calls
from agent.server.limits import Share
from agent.server.refusal import Refusal

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthService(health.HealthServicer):  # type: ignore[misc]  # the package has no types
    """Answers checks always, and so many watchers as their share allows."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._watchers = Calls("health watchers", share)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add it to a server; may be called for several."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Tell a service's state whenever it changes."""
        try:
            with self._watchers.one(context.peer()):
                await super().Watch(request, context)
        except Refusal as refusal:
            status = refusal.status()
        await context.abort_with_status(status)


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # the package has no types
    """Describes services to so many clients at a time as their share allows."""

    def __init__(self, names: tuple[str, ...], share: Share) -> None:
        super().__init__((*names, reflection.SERVICE_NAME))
        self._clients = Calls("reflection calls", share)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add it to a server."""
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self, server)

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Yield one answer per request."""
        try:
            with self._clients.one(context.peer()):
                async for response in super().ServerReflectionInfo(request_iterator, context):
                    yield response
                return
        except Refusal as refusal:
            status = refusal.status()
        await context.abort_with_status(status)
