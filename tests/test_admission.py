from __future__ import annotations

from contextlib import ExitStack

import grpc
import pytest

from agent.server.admission import Calls, host_of
from agent.server.limits import Share
from agent.server.refusal import Refusal


def admit(stack: ExitStack, calls: Calls, *peers: str) -> list[str]:
    """Of whom the limit is that refuses each call; empty for those that are admitted."""
    refused = []
    for peer in peers:
        try:
            stack.enter_context(calls.one(peer))
            refused.append("")
        except Refusal as refusal:
            refused.append(refusal.metadata["whose"])
    return refused


def test_no_connection_and_no_host_takes_all() -> None:
    calls = Calls("calls", Share(5, host=3, connection=2))
    here, there = "ipv4:127.0.0.1", "ipv6:[fe80::1]"
    with ExitStack() as stack:
        assert admit(stack, calls, *[f"{here}:1"] * 3) == ["", "", "over one connection"]
        assert admit(stack, calls, f"{here}:2", f"{here}:3") == ["", "of one host"]
        assert admit(stack, calls, *(f"{there}:{port}" for port in (1, 2, 3))) == ["", "", "all"]
        assert len(calls) == 5
    assert len(calls) == 0
    with ExitStack() as stack:
        assert admit(stack, calls, f"{here}:1") == [""]


def test_a_refusal_says_what_is_taken_and_what_to_do() -> None:
    calls = Calls("subscribers", Share(2, connection=1), "end one")
    with calls.one("a:1"), pytest.raises(Refusal) as refused, calls.one("a:1"):
        pass
    assert str(refused.value) == "1 subscribers over one connection are allowed, and all are in use; end one"
    assert refused.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (refused.value.reason, refused.value.metadata["limit"]) == ("TOO_MANY_SUBSCRIBERS", "1")


@pytest.mark.parametrize(
    ("peer", "host"),
    [("ipv4:10.0.0.7:41234", "ipv4:10.0.0.7"), ("ipv6:%5B::1%5D:9", "ipv6:%5B::1%5D"), ("unix:", "unix")],
)
def test_hosts(peer: str, host: str) -> None:
    assert host_of(peer) == host
