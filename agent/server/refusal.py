"""Refusals of calls in gRPC's form: a code, one line, and details that a program can read (google.rpc)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "sensebind"
Violation = tuple[str, str]
"""A field of the request and its fault."""


class Refusal(Exception):
    """Ends a call. `reason` is a constant in capitals for programs (google.rpc.ErrorInfo)."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str,
        *,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})

    def status(self) -> grpc.Status:
        """The status to end the call with."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        details = [_packed(info)]
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for field, description in self.violations:
                bad.field_violations.add(field=field, description=description)
            details.append(_packed(bad))
        return rpc_status.to_status(status_pb2.Status(code=self.code.value[0], message=str(self), details=details))


def bad_request(*violations: Violation) -> Refusal:
    """A request that can never work: INVALID_ARGUMENT, naming every field at fault."""
    message = "; ".join(f"{field}: {description}" for field, description in violations)
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message, "BAD_REQUEST", violations=violations)


def too_many(what: str, limit: int, advice: str, whose: str = "") -> Refusal:
    """A limit is reached: RESOURCE_EXHAUSTED. `whose` says of whom it is the limit, such as " of one host"."""
    reason = f"TOO_MANY_{what.upper().replace(' ', '_')}"
    message = f"{limit} {what}{whose} are allowed, and all are in use; {advice}"
    metadata = {"limit": str(limit), "whose": whose.strip() or "all"}
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message, reason, metadata=metadata)


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
