"""Downloads from a real server on loopback: every way to be cut, and never a byte that the server does not have."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import OLD_DATE, FileServer
from real_sources import free_port

from models.files import download
from models.files.download import DownloadError, HashMismatch

CONTENT = os.urandom(3_000_000)
OTHER = os.urandom(3_000_000)
PART = 1_000_000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def fetch(server: FileServer, path: Path, **options: Any) -> str:
    return download.fetch(server.url, path, **{"retries": 2, "back_off_s": 0.0, "timeout_s": 20.0, **options})


def assert_whole(path: Path, content: bytes = CONTENT) -> None:
    assert path.read_bytes() == content
    assert not path.with_name("weights.pth.partial").exists()


def test_a_file_arrives_whole_and_its_progress_is_told(server: FileServer, path: Path) -> None:
    told: list[tuple[int, int]] = []
    accepted: list[tuple[int, int]] = []
    found = fetch(server, path, progress=lambda done, of: told.append((done, of)), accept=lambda *a: accepted.append(a))
    assert found == hashlib.sha256(CONTENT).hexdigest()
    assert_whole(path)
    assert accepted == [(len(CONTENT), len(CONTENT))]
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_download_goes_on_where_it_was_cut(server: FileServer, path: Path) -> None:
    server.cuts = [PART, PART]
    fetch(server, path)
    assert_whole(path)
    assert [r.get("Range") for r in server.requests] == [None, f"bytes={PART}-", f"bytes={2 * PART}-"]
    assert [r.get("If-Range") for r in server.requests] == [None, '"one"', '"one"']


def test_a_later_run_goes_on_too(server: FileServer, path: Path) -> None:
    server.cuts = [PART, PART]
    with pytest.raises(DownloadError, match=r"ended at byte 1000000 of 3000000; attempts: 1; 1000000 bytes are kept"):
        fetch(server, path, retries=0)
    assert not path.exists()
    accepted: list[tuple[int, int]] = []
    fetch(server, path, accept=lambda *a: accepted.append(a))
    assert_whole(path)
    assert accepted[0] == (3 * PART, 2 * PART)
    assert [r.get("Range") for r in server.requests] == [None, f"bytes={PART}-", f"bytes={2 * PART}-"]


def test_a_server_without_ranges_starts_over(server: FileServer, path: Path) -> None:
    server.ranges = False
    server.cuts = [PART]
    fetch(server, path)
    assert_whole(path)
    assert server.requests[1]["Range"] == f"bytes={PART}-"


@pytest.mark.parametrize("guards_ranges", [True, False])
def test_a_file_that_changed_between_two_parts_is_not_mixed(
    server: FileServer, path: Path, guards_ranges: bool
) -> None:
    server.cuts = [PART]
    with pytest.raises(DownloadError):
        fetch(server, path, retries=0)
    server.content, server.etag, server.guards_ranges = OTHER, '"two"', guards_ranges
    fetch(server, path)
    assert_whole(path, OTHER)


def test_a_file_that_became_longer_is_not_mixed_even_without_a_tag(server: FileServer, path: Path) -> None:
    server.etag, server.last_modified, server.cuts = None, OLD_DATE, [PART]
    with pytest.raises(DownloadError):
        fetch(server, path, retries=0)
    server.content, server.guards_ranges = OTHER + b"more", False
    fetch(server, path)
    assert_whole(path, OTHER + b"more")
    assert server.requests[1]["If-Range"] == OLD_DATE


@pytest.mark.parametrize(("etag", "last_modified"), [(None, None), ('W/"weak"', None)])
def test_without_a_strong_validator_nothing_is_gone_on_with(
    server: FileServer, path: Path, etag: str | None, last_modified: str | None
) -> None:
    server.etag, server.last_modified, server.cuts = etag, last_modified, [PART]
    fetch(server, path)
    assert_whole(path)
    assert all("Range" not in request for request in server.requests)


def test_a_date_of_this_second_is_no_validator(server: FileServer, path: Path) -> None:
    server.etag, server.cuts = None, [PART]
    server.extra = {"Date": OLD_DATE, "Last-Modified": OLD_DATE}
    fetch(server, path)
    assert_whole(path)
    assert "Range" not in server.requests[1]


def test_a_part_of_another_address_is_not_used(server: FileServer, path: Path) -> None:
    server.cuts = [PART]
    with pytest.raises(DownloadError):
        fetch(server, path, retries=0)
    download.fetch(f"{server.url}?mirror", path, back_off_s=0.0)
    assert_whole(path)
    assert "Range" not in server.requests[1]


def test_a_part_longer_than_the_file_is_dropped(server: FileServer, path: Path) -> None:
    server.cuts = [PART]
    with pytest.raises(DownloadError):
        fetch(server, path, retries=0)
    with path.with_name("weights.pth.partial").open("ab") as part:
        part.write(OTHER)
    fetch(server, path)
    assert_whole(path)


def test_a_damaged_note_means_starting_over(server: FileServer, path: Path) -> None:
    server.cuts = [PART]
    with pytest.raises(DownloadError):
        fetch(server, path, retries=0)
    path.with_name("weights.pth.json").write_text('{"url": "http')
    fetch(server, path)
    assert_whole(path)


def test_the_right_hash_and_a_wrong_one(server: FileServer, path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(server, path, sha256=right) == right
    download.remove(path)
    wrong = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(HashMismatch, match=f"has SHA-256 {right}, and {wrong} is expected"):
        fetch(server, path, sha256=wrong)
    assert list(path.parent.iterdir()) == []


def test_what_arrived_earlier_is_not_downloaded_again(server: FileServer, path: Path) -> None:
    first = fetch(server, path)
    assert fetch(server, path) == first
    assert len(server.requests) == 1


def test_a_connection_that_ends_early_every_time(server: FileServer, path: Path) -> None:
    server.ranges, server.cuts = False, [PART] * 9
    with pytest.raises(DownloadError, match=r"the connection ended at byte 1000000 of 3000000; attempts: 3"):
        fetch(server, path)
    assert len(server.requests) == 3
    assert not path.exists()


def test_cuts_that_let_much_through_are_not_counted(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PROGRESS_BYTES", PART // 2)
    server.cuts = [PART, PART, PART // 4]
    fetch(server, path, retries=2)
    assert_whole(path)
    assert len(server.requests) == 4


def test_a_server_that_says_no_size(server: FileServer, path: Path) -> None:
    server.extra = {"Content-Length": None}
    with pytest.raises(DownloadError, match="no file of known length"):
        fetch(server, path)


def test_a_server_that_packs(server: FileServer, path: Path) -> None:
    server.extra = {"Content-Encoding": "gzip"}
    with pytest.raises(DownloadError, match="compresses the file"):
        fetch(server, path)


def test_what_is_not_accepted_is_not_written(server: FileServer, path: Path) -> None:
    def refuse(length: int, left: int) -> None:
        raise LookupError(f"{length} and {left}")

    with pytest.raises(LookupError, match="3000000 and 3000000"):
        fetch(server, path, accept=refuse)
    assert not path.exists()
    assert not path.with_name("weights.pth.partial").exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_retried(server: FileServer, path: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=rf"weights.pth: the server says {status} \w+"):
        fetch(server, path)
    assert len(server.requests) == 1


def test_a_server_that_is_busy_is_asked_again(server: FileServer, path: Path) -> None:
    server.statuses = [503, 429]
    fetch(server, path)
    assert_whole(path)
    server.statuses = [500] * 9
    with pytest.raises(DownloadError, match=r"the server says 500 .* attempts: 3"):
        download.fetch(f"{server.url}?again", path, retries=2, back_off_s=0.0)


def test_a_port_where_nobody_listens(path: Path) -> None:
    with pytest.raises(DownloadError, match=r"no connection .*refused.*; attempts: 3$"):
        download.fetch(f"http://127.0.0.1:{free_port()}/weights.pth", path, retries=99, back_off_s=0.0)


def test_a_name_that_does_not_resolve(path: Path) -> None:
    with pytest.raises(DownloadError, match=r"no connection \(.+\); attempts: 1$"):
        download.fetch("http://weights.invalid/weights.pth", path, retries=0)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "weights.pth", "http://", "http://[::1", "http://h:99999/"],
)
def test_what_is_no_web_address(url: str, path: Path) -> None:
    with pytest.raises(DownloadError, match="not an address to download from"):
        download.fetch(url, path)


def test_an_address_with_a_password_is_refused_without_repeating_it(path: Path) -> None:
    with pytest.raises(DownloadError, match="user name is not supported") as caught:
        download.fetch("https://me:secret@example.com/x", path)
    assert "secret" not in str(caught.value)


def test_a_redirect_is_followed(server: FileServer, path: Path) -> None:
    server.statuses, server.location = [302], "/elsewhere.pth"
    fetch(server, path)
    assert_whole(path)
    assert server.paths == ["/weights.pth", "/elsewhere.pth"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(server: FileServer, path: Path, location: str) -> None:
    server.statuses, server.location = [302], location
    with pytest.raises(DownloadError, match=r"not followed|is not allowed"):
        fetch(server, path)
    assert not path.exists()


def test_a_redirect_from_https_to_http_is_refused() -> None:
    from urllib.request import Request

    redirects = download._Redirects()
    with pytest.raises(DownloadError, match="redirects from https to http, which is not followed"):
        redirects.redirect_request(Request("https://a.example/x"), io.BytesIO(), 302, "", {}, "http://a.example/x")


def test_a_proxy_of_the_environment_is_used(server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/weights.pth"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    download.fetch("http://weights.invalid/x.pth", path)
    assert_whole(path)
    assert server.paths == ["http://weights.invalid/x.pth"]


CHILD = """
import sys
from pathlib import Path
from models.files import download
try:
    download.fetch(sys.argv[1], Path(sys.argv[2]), progress=lambda done, of: print(done, flush=True), back_off_s=0.0)
except download.DownloadError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_killed_download_goes_on(server: FileServer, path: Path) -> None:
    server.stalls_at = PART
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    while int(child.stdout.readline()) < PART:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not path.exists()
    kept = path.with_name("weights.pth.partial").stat().st_size
    assert PART // 2 < kept <= PART
    server.stalls_at = None
    fetch(server, path)
    assert_whole(path)
    assert server.requests[1]["Range"] == f"bytes={kept}-"


def test_a_disk_that_takes_no_more(server: FileServer, path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same manner."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, server.url, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (PART, PART)),
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"refused: {path}: cannot be written (File too large); make room; the same command then resumes\n"
    )
    assert len(server.requests) == 1  # it is no use asking the server again
    assert not path.exists()
    fetch(server, path)
    assert_whole(path)
    assert server.requests[1]["Range"] == f"bytes={PART}-"
