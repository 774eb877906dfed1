"""Failures of a client's calls, as one line."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from common.errors import UserFault


class ClientError(UserFault):
    """A call failed; the message is one line. `code` is gRPC's, `violations` the request's fields at fault."""

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)


def error_of(error: grpc.aio.AioRpcError, address: str, timeout_s: float) -> ClientError:
    """Return what an error of gRPC's means, at an agent's address, for a client that waits so long for an answer."""
    code = error.code()
    details = error.details() or code.name
    reason = ""
    violations: list[tuple[str, str]] = []
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            violations = [(violation.field, violation.description) for violation in bad.field_violations]
    if code == grpc.StatusCode.UNAVAILABLE and not reason:
        details = f"no agent at {address}: is `sensebind run` running?"
    elif code == grpc.StatusCode.DEADLINE_EXCEEDED and not reason:
        details = f"the agent at {address} gave no answer within {timeout_s:g} s"
    return ClientError(" ".join(details.split()), code, reason, violations)
