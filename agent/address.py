"""Addresses of the server: their form, and whether it may and can listen there."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from common.errors import UserFault
from common.printable import brief


class ListenError(UserFault):
    """The server cannot listen; the message is one line: the address, what is wrong, what to do."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[ipv6]:port`. Raises ListenError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ListenError(f"{brief(address)} is not an address; write host:port, for example 127.0.0.1:50051")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_listen(address: str, *, insecure: bool) -> None:
    """Check that the server may and can listen at an address. Raises ListenError."""
    host, port = split_address(address)
    if not is_loopback(host) and not insecure:
        raise ListenError(
            f"{address}: other machines could watch and listen: TLS and authentication are not built yet; "
            "listen on 127.0.0.1, or accept that with --insecure"
        )
    try:
        family, kind, protocol, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As gRPC binds, so that connections of an agent that has just ended do not count as busy.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(resolved)
    except socket.gaierror:
        raise ListenError(f"{address}: host {host!r} is not known; write an address of this machine") from None
    except OSError as error:
        raise ListenError(f"{address}: {_advice(error)}") from None


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there; stop it, or listen at another port"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; listen on 127.0.0.1 or an address of its own"
        case errno.EACCES:
            return "ports below 1024 are for the superuser; listen at a higher one"
        case _:
            return f"cannot listen there: {error.strerror}"
