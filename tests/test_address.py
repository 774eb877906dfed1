from __future__ import annotations

import socket

import pytest

from agent.address import ListenError, check_listen, is_loopback, split_address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0:0", "TLS and authentication are not built yet"),
        ("[::]:0", "TLS and authentication are not built yet"),
        ("192.0.2.1:50051", "--insecure"),
        ("127.0.0.1", "is not an address; write host:port"),
        ("127.0.0.1:http", "is not an address"),
        ("127.0.0.1:70000", "is not an address"),
        (":50051", "is not an address"),
    ],
)
def test_an_unusable_address_is_one_line(address: str, words: str) -> None:
    with pytest.raises(ListenError) as refused:
        check_listen(address, insecure=False)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_hosts_that_are_not_here_are_named() -> None:
    with pytest.raises(ListenError, match="this machine has no such address"):
        check_listen("192.0.2.1:50051", insecure=True)
    with pytest.raises(ListenError, match=r"host 'no\.such\.host\.invalid' is not known"):
        check_listen("no.such.host.invalid:50051", insecure=True)


def test_a_busy_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError) as refused:
            check_listen(address, insecure=False)
    assert str(refused.value) == f"{address}: another program listens there; stop it, or listen at another port"
    check_listen(address, insecure=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


def test_ipv6_stands_in_brackets() -> None:
    assert split_address("[::1]:50051") == ("::1", 50051)
    assert not is_loopback("::")
