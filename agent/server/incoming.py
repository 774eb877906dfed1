"""The messages of a call as they come in: waited for, measured, then parsed.

Every call is taken as a stream of messages, also one that sends a single request: gRPC then asks who calls before it
takes in the request, and a call that never sends one can be ended.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from agent.server.refusal import Refusal, bad_request

MAX_MESSAGE = 128 * 2**10
"""Bytes of a request that carries neither pictures nor sound: more than the largest one that can be served."""

Request = TypeVar("Request", bound=Message)


async def first_of(context: grpc.aio.ServicerContext, timeout_s: float) -> bytes:
    """Return the first message of a call. Raises Refusal when none comes in time."""
    try:
        async with asyncio.timeout(timeout_s):
            raw: bytes = await context.read()
    except TimeoutError:
        message = f"no request came within {timeout_s:g} s of the call"
        raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, message, "NO_REQUEST") from None
    if raw is grpc.aio.EOF:
        raise bad_request(("request", "is missing"))
    return raw


def parse(request_type: type[Request], raw: bytes, max_bytes: int = MAX_MESSAGE) -> Request:
    """Return what bytes say. Raises Refusal for too many of them, and for those that are not such a request."""
    name = request_type.DESCRIPTOR.name
    if len(raw) > max_bytes:
        raise bad_request(("request", f"{len(raw)} bytes are too many; a {name} has at most {max_bytes}"))
    try:
        return request_type.FromString(raw)
    except DecodeError:
        raise bad_request(
            ("request", f"{len(raw)} bytes are not a {name}; is the client built from other protos?")
        ) from None
