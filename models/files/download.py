"""Download of one large file over HTTP: resumes after a cut, never mixes versions, appears whole or not at all.

A part lies beside the target as `FILE.partial`, with its version in `FILE.json`. The download resumes only if the
server still has that version (`If-Range`, with the entity tag or the date that came with the first byte); otherwise the
download starts over.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final

from common.errors import UserFault

RETRIES: Final = 10
RETRIES_AT_FIRST: Final = 2
"""Retries while no server has answered: a wrong address or a missing network is reported soon."""
PROGRESS_BYTES: Final = 1 << 24
"""An attempt that brought so much counts as a success: only retries without progress are bounded by RETRIES."""
BACK_OFF_MAX_S: Final = 60.0
BLOCK_BYTES: Final = 1 << 20
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(UserFault):
    """The file could not be had; one line: from where, what is wrong, what to do."""


class HashMismatch(DownloadError):
    """Another file came than was expected; it has been removed."""

    def __init__(self, url: str, got: str, wanted: str) -> None:
        super().__init__(f"{url}: the file has SHA-256 {got}, and {wanted} is expected")
        self.got = got
        self.wanted = wanted


class _Cut(Exception):
    """An attempt ended early, and the next may go better."""


@dataclass(frozen=True, slots=True)
class _Version:
    """Version of the file that a partial download belongs to."""

    url: str
    length: int
    validator: str | None
    """A strong entity tag, or a date of last change that is as good; without one a download cannot resume."""


def _ignore(*_: int) -> None:
    """Nobody wants to be told."""


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    accept: Callable[[int, int], None] = _ignore,
    progress: Callable[[int, int], None] = _ignore,
    retries: int = RETRIES,
    back_off_s: float = 1.0,
    timeout_s: float = 30.0,
) -> str:
    """Bring `url` to `path` and return its SHA-256; a `path` that came from there earlier is kept as it is.

    `accept` is told the file's length and how many bytes of it are still to come, before any of them is written, and
    raises what it likes. Proxies are taken from the environment as urllib does. Raises DownloadError, and HashMismatch
    when `sha256` is given and is not that of the file.
    """
    _check_url(url)
    transfer = _Transfer(url, path, accept, progress, timeout_s)
    try:
        if not transfer.arrived():
            path.unlink(missing_ok=True)
            _persist(transfer, retries, back_off_s)
        whole = path if path.exists() else transfer.partial
        with whole.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            remove(path)
            raise HashMismatch(url, found, sha256)
        os.replace(whole, path)
    except OSError as error:  # of the disk: those of the network are caught where they arise
        raise DownloadError(
            f"{path}: cannot be written ({error.strerror}); make room; the same command then resumes"
        ) from None
    return found


def remove(path: Path) -> None:
    """Remove a downloaded file, its part, and what was noted about it."""
    for file in (path, _partial(path), _note(path)):
        file.unlink(missing_ok=True)


def _persist(transfer: _Transfer, retries: int, back_off_s: float) -> None:
    """Attempt until the file is whole; waits longer after every failure without progress."""
    failures = 0
    furthest = transfer.held_bytes()
    while True:
        try:
            return transfer.attempt()
        except _Cut as cut:
            held = transfer.held_bytes()
            failures = 1 if held - furthest >= PROGRESS_BYTES else failures + 1
            furthest = max(furthest, held)
            if failures > (retries if transfer.answered else min(retries, RETRIES_AT_FIRST)):
                rest = f"; {held} bytes are kept, the same command resumes there" if held else ""
                raise DownloadError(f"{transfer.url}: {cut}; attempts: {failures}{rest}") from None
            time.sleep(min(back_off_s * 2 ** (failures - 1), BACK_OFF_MAX_S))


class _Transfer:
    """One file on its way."""

    def __init__(
        self,
        url: str,
        path: Path,
        accept: Callable[[int, int], None],
        progress: Callable[[int, int], None],
        timeout_s: float,
    ) -> None:
        self.url = url
        self.partial = _partial(path)
        self.answered = False
        self._path = path
        self._accept = accept
        self._progress = progress
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_Redirects)

    def arrived(self) -> bool:
        """Return whether the whole file is there from earlier."""
        version = self._version()
        return version is not None and self._path.is_file() and self._path.stat().st_size == version.length

    def held_bytes(self) -> int:
        """Return the number of bytes that are held of the noted version."""
        return self.partial.stat().st_size if self._version() and self.partial.is_file() else 0

    def attempt(self) -> None:
        """Get the missing bytes. Raises _Cut when a retry may help, DownloadError otherwise."""
        version, held = self._version(), self.held_bytes()
        if version is not None and held == version.length:
            return
        headers = {"Accept-Encoding": "identity", "User-Agent": "sensebind"}
        if version is not None and version.validator is not None and 0 < held < version.length:
            headers |= {"Range": f"bytes={held}-", "If-Range": version.validator}
        with self._open(urllib.request.Request(self.url, headers=headers)) as response:
            self.answered = True
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DownloadError(
                    f"{self.url}: the server compresses the file, which was not asked for; try another address"
                )
            if response.status == 206 and "Range" in headers:
                assert version is not None
                self._check_part(response.headers, version, held)
            else:
                version, held = self._begin(response), 0
            self._accept(version.length, version.length - held)
            self._receive(response, version.length, held)

    def _open(self, request: urllib.request.Request) -> Any:
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            self.answered = True
            if error.code == 416:
                self._forget()
                raise _Cut("the server has no such part") from None
            said = f"the server says {error.code} {' '.join(str(error.reason).split())}"
            if error.code in _TRANSIENT:
                raise _Cut(said) from None
            raise DownloadError(f"{self.url}: {said}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError | http.client.InvalidURL):
                raise DownloadError(f"{self.url}: {reason}") from None
            raise _Cut(f"no connection ({reason})") from None

    def _begin(self, response: Any) -> _Version:
        """Note the version that comes from its first byte on, and drop what was there of another."""
        self._forget()
        length = response.headers.get("Content-Length", "")
        if response.status != 200 or not length.isdecimal():
            raise DownloadError(
                f"{self.url}: the server gives no file of known length (status {response.status}); try another address"
            )
        version = _Version(self.url, int(length), _validator(response.headers))
        _note(self._path).write_text(json.dumps(asdict(version)))
        return version

    def _check_part(self, headers: Message, version: _Version, held: int) -> None:
        """Raise _Cut, and start over, unless the response begins exactly where the part ends."""
        spans = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        same = "ETag" not in headers or _validator(headers) == version.validator
        if not same or not spans or (int(spans[1]), int(spans[2])) != (held, version.length):
            self._forget()
            raise _Cut("the server switched to another file")

    def _receive(self, response: Any, length: int, held: int) -> None:
        with self.partial.open("ab") as file:
            self._progress(held, length)
            while held < length and (block := _read(response, min(BLOCK_BYTES, length - held))):
                file.write(block)
                held += len(block)
                self._progress(held, length)
            file.flush()
            os.fsync(file.fileno())
        if held < length:
            raise _Cut(f"the connection ended at byte {held} of {length}")

    def _version(self) -> _Version | None:
        try:
            version = _Version(**json.loads(_note(self._path).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None  # none, or cut short when the machine stopped: then nothing is known of the part
        return version if version.url == self.url else None

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        _note(self._path).unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows a redirect. Raises DownloadError."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            raise DownloadError(f"{req.full_url}: redirects from {req.type} to {scheme}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(response: Any, count: int) -> bytes:
    try:
        block: bytes = response.read1(count)  # so that little is lost when this process is killed
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection broke ({error})") from None
    return block


def _check_url(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise DownloadError(f"{url}: not an address to download from; it must begin with https:// or http://")
    if parts.username is not None:
        raise DownloadError(
            f"{parts.hostname}: an address with a user name is not supported; download the file yourself"
        )


def _validator(headers: Message) -> str | None:
    """Return the validator of a version byte for byte (RFC 9110, 8.8): a strong entity tag, or a date that has aged."""
    tag: str = headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    changed, now = headers.get("Last-Modified", ""), headers.get("Date", "")
    try:
        aged = (parsedate_to_datetime(now) - parsedate_to_datetime(changed)).total_seconds() >= 1
    except (ValueError, TypeError):
        return None
    return changed if aged else None


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
