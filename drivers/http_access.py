"""User and password of an HTTP camera: basic access (RFC 7617) and digest access (RFC 7616)."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from typing import Any

_HASHES = {"MD5": hashlib.md5, "SHA": hashlib.sha1, "SHA-256": hashlib.sha256}

_BASIC = re.compile(r"(?i)basic\b")


class UnknownChallenge(Exception):
    """A camera asks for a password, and in no way that can be answered; the message quotes what it asks."""


class BasicAccess(urllib.request.HTTPBasicAuthHandler):
    """Answers an offer of basic access; where there is none, the standard library would raise a ValueError."""

    def http_error_auth_reqed(self, authreq: str, host: str, req: Any, headers: Any) -> Any:
        """Ask again with an answer; None when basic access is not offered."""
        for offer in headers.get_all(authreq, []):
            if _BASIC.match(offer):
                basic = HTTPMessage()
                basic[authreq] = offer
                return super().http_error_auth_reqed(authreq, host, req, basic)
        return None


class DigestAccess(urllib.request.HTTPDigestAuthHandler):
    """Answers the first challenge that it can, as RFC 7616 (3.7) says; the standard library reads the first alone."""

    def http_error_auth_reqed(self, auth_header: str, host: str, req: Any, headers: Any) -> Any:
        """Ask again with an answer; None when another way than digest access is offered. Raises UnknownChallenge."""
        offers = headers.get_all(auth_header, [])
        for parameters in digests_of(offers):
            known = parameters.get("algorithm", "MD5") in _HASHES and parameters.get("qop", "auth") == "auth"
            if known and {"realm", "nonce"} <= parameters.keys():
                if req.has_header(self.auth_header) and parameters.get("stale", "").lower() != "true":
                    return None  # refused: cameras lock whoever tries on
                challenge = ", ".join(f'{key}="{value}"' for key, value in parameters.items())
                answerable = HTTPMessage()
                answerable[auth_header] = f"Digest {challenge}"
                return super().http_error_auth_reqed(auth_header, host, req, answerable)
        if offers and not any(_BASIC.match(offer) for offer in offers):
            raise UnknownChallenge(" or ".join(offers)[:200])
        return None

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        """Return H and KD of RFC 7616 (3.3)."""

        def h(text: str) -> str:
            return _HASHES[algorithm](text.encode()).hexdigest()

        return h, lambda secret, data: h(f"{secret}:{data}")


def digests_of(offers: list[str]) -> Iterator[dict[str, str]]:
    """Yield each offer of digest access that can be taken apart, with its parameters in their usual spelling."""
    for offer in offers:
        scheme, _, challenge = offer.strip().partition(" ")
        parts = [part.partition("=") for part in urllib.request.parse_http_list(challenge)]
        if scheme.lower() == "digest" and all(equals for _, equals, _ in parts):
            parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in parts}
            if "algorithm" in parameters:
                parameters["algorithm"] = parameters["algorithm"].upper()
            if "auth" in re.split(r"[,\s]+", parameters.get("qop", "")):
                parameters["qop"] = "auth"
            yield parameters


def without_password(url: str) -> str:
    """The address as it may be shown and logged."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def opener_of(url: str) -> tuple[urllib.request.OpenerDirector, str]:
    """Take user and password out of the address; proxies of the environment are for browsers, not for cameras."""
    parts = urllib.parse.urlsplit(url)
    address = without_password(url)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if parts.username:
        keys = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        keys.add_password(None, address, user, password)
        handlers += [BasicAccess(keys), DigestAccess(keys)]
    return urllib.request.build_opener(*handlers), address
