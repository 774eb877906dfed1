"""Fetching into the store from a server on loopback: trust on first use, pins, what is kept and what is not."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer
from published_model import TINY, published_state

from models.files import checkpoint, description, published_weights
from models.files.description import CheckpointError
from models.files.download import DownloadError, HashMismatch
from models.files.published_file import PublishedFileError
from models.files.published_weights import IMAGEBIND_HUGE, Published, held
from models.files.store import Store


def saved(**changes: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.save(published_state() | changes, buffer)
    return buffer.getvalue()


CONTENT = saved()
OTHER = saved(**{"modality_heads.imu.3.weight": torch.ones(16, 8)})
SHA256, OTHER_SHA256 = (hashlib.sha256(content).hexdigest() for content in (CONTENT, OTHER))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def offer(server: FileServer) -> Published:
    return Published("tiny", f"{server.url}?signature=secret", TINY, "CC BY-NC 4.0")


def fetch(store: Store, server: FileServer, **options: Any) -> Path:
    return published_weights.fetch(store, offer(server), **{"retries": 1, "back_off_s": 0.0, **options})


def left(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "tiny").iterdir())


def test_a_fetched_model_is_in_the_store_and_its_source_is_not(store: Store, server: FileServer) -> None:
    steps: list[str] = []
    folder = fetch(store, server, report=lambda *told: steps.append(told[0]))
    assert list(dict.fromkeys(steps)) == ["download", "check", "import"]
    assert folder == store.find("tiny")
    description.verify(folder)
    assert checkpoint.load(folder).sizes == TINY
    found = store.describe("tiny")
    assert (found.licence, found.source_sha256) == ("CC BY-NC 4.0", SHA256)
    assert found.source == server.url  # without what may be secret
    assert left(store) == [".lock", ".trusted", "1"]


def test_what_the_first_fetch_got_is_trusted_and_nothing_else(store: Store, server: FileServer) -> None:
    first = fetch(store, server)
    assert store.trusted("tiny") == SHA256
    server.content, server.etag = OTHER, '"two"'
    with pytest.raises(
        CheckpointError, match=rf"SHA-256 {OTHER_SHA256}, and the first fetch got {SHA256}; if .* --sha256"
    ):
        fetch(store, server, again=True)
    assert store.find("tiny") == first
    assert left(store) == [".lock", ".trusted", "1"]
    fetch(store, server, again=True, sha256=OTHER_SHA256)
    assert store.trusted("tiny") == OTHER_SHA256
    assert store.describe("tiny").source_sha256 == OTHER_SHA256


def test_a_pin_that_does_not_hold(store: Store, server: FileServer) -> None:
    with pytest.raises(HashMismatch, match=rf"has SHA-256 {SHA256}, and {OTHER_SHA256} is expected"):
        fetch(store, server, sha256=OTHER_SHA256)
    assert store.names() == []
    assert store.trusted("tiny") is None
    assert left(store) == [".lock"]


def test_the_downloaded_file_is_kept_on_request_and_used_again(store: Store, server: FileServer) -> None:
    fetch(store, server, keep=True)
    kept = store.root / "tiny" / "tiny.pth"
    assert kept.read_bytes() == CONTENT
    fetch(store, server, dtype=torch.bfloat16)
    assert len(server.requests) == 1
    assert store.describe("tiny").dtype == "bfloat16"
    assert not kept.exists()


def test_again_means_from_the_server(store: Store, server: FileServer) -> None:
    fetch(store, server, keep=True)
    fetch(store, server, again=True)
    assert len(server.requests) == 2


def test_a_cut_fetch_goes_on(store: Store, server: FileServer) -> None:
    server.cuts = [500_000]
    with pytest.raises(DownloadError, match="500000 bytes are kept"):
        fetch(store, server, retries=0)
    assert store.names() == []
    fetch(store, server)
    assert server.requests[1]["Range"] == "bytes=500000-"
    assert store.describe("tiny").source_sha256 == SHA256


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", CONTENT[:9000]])
def test_a_file_that_is_too_small_is_not_downloaded(store: Store, server: FileServer, content: bytes) -> None:
    server.content = content
    with pytest.raises(
        CheckpointError, match=rf"has {len(content)} bytes, and tiny needs \d+ at least: not the weights"
    ):
        fetch(store, server)
    assert not list(store.root.glob("**/*.partial"))


def test_what_is_not_the_model_is_removed_and_not_trusted(store: Store, server: FileServer) -> None:
    server.content = bytes(len(CONTENT))
    with pytest.raises(PublishedFileError, match=r"is not in the zip format"):
        fetch(store, server)
    assert left(store) == [".lock"]
    server.content, server.etag = CONTENT, '"two"'
    fetch(store, server)
    assert store.trusted("tiny") == SHA256


def test_a_part_that_was_lost_on_the_disk_is_found(store: Store, server: FileServer) -> None:
    """Zeros in the place of data that was never written: what a loss of power can leave of a download."""
    server.cuts = [len(CONTENT) // 2]
    with pytest.raises(DownloadError):
        fetch(store, server, retries=0)
    partial = store.root / "tiny" / "tiny.pth.partial"
    with partial.open("r+b") as file:
        file.seek(200_000)
        file.write(bytes(100_000))
    with pytest.raises(PublishedFileError, match=r"tiny\.pth: damaged \(Bad CRC-32 for file"):
        fetch(store, server)
    assert left(store) == [".lock"]


def test_a_disk_without_room_is_found_before_the_first_byte(store: Store, server: FileServer) -> None:
    server.extra = {"Content-Length": str(10**15)}
    with pytest.raises(CheckpointError, match=r"1000000\.0 GB are needed and \d+\.\d GB free"):
        fetch(store, server)
    assert not list(store.root.glob("**/*.partial"))


def test_what_is_held_need_not_be_fetched(store: Store, server: FileServer) -> None:
    assert held(store, "tiny", None, torch.float32) is None
    folder = fetch(store, server)
    assert held(store, "tiny", None, torch.float32) == held(store, "tiny", SHA256, torch.float32) == folder
    assert held(store, "tiny", None, torch.bfloat16) is None
    assert held(store, "tiny", OTHER_SHA256, torch.float32) is None
    (folder / "audio.safetensors").write_bytes(b"damaged")
    assert held(store, "tiny", None, torch.float32) is None


def test_the_published_model_is_meta_s() -> None:
    assert IMAGEBIND_HUGE.source == "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth"
    assert replace(IMAGEBIND_HUGE, url="https://a.example/x?key=1#part").source == "https://a.example/x"
