"""`sensebind weights` as a user runs it: what is printed, what is asked, and faults in one line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from file_server import FileServer
from published_model import TINY_ARGUMENTS, published_state
from typer.testing import CliRunner, Result

from agent.commands.weights import WeightsError, weights_app
from agent.embedding.weights import load_weights
from models.files import description
from models.files.description import CheckpointError
from models.files.download import DownloadError
from models.files.store import ENVIRONMENT, SHIPPED, Store

SENSEBIND = [sys.executable, "-c", "from agent.cli import main; main()"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "store"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Store()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "tiny.pth"
    torch.save(published_state(), path)
    return path


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "sizes.json"
    path.write_text(json.dumps(TINY_ARGUMENTS))
    return path


@pytest.fixture
def server(file: Path) -> Iterator[FileServer]:
    with FileServer(file.read_bytes()) as server:
        yield server


def weights(*words: object) -> Result:
    """Run in this process, with no terminal to ask at."""
    return CliRunner().invoke(weights_app, [str(word) for word in words])


def output(*words: object) -> str:
    done = weights(*words)
    assert done.exit_code == 0, done
    assert done.stderr == ""
    return done.stdout


def refusal(kind: type[Exception], *words: object) -> str:
    done = weights(*words)
    assert isinstance(done.exception, kind), done
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_import_list_verify_path(file: Path, sizes: Path, store: Store) -> None:
    printed = output("import", file, "--name", "My_Tiny", "--sizes", sizes, "--dtype", "bfloat16", "--licence", "MIT")
    folder = store.folder("my-tiny")
    assert printed.splitlines()[0] == f"My_Tiny: {folder}"
    assert store.describe("my-tiny").source_sha256 in printed
    head, shipped, tiny = output("list").splitlines()
    assert head.split() == ["name", "modalities", "dtype", "MB", "licence", "source", "where"]
    assert shipped.split()[:5] == [
        "imagebind-nano",
        "vision,audio,depth,thermal,imu,text",
        "float16",
        "22.2",
        "Apache-2.0",
    ]
    assert tiny.split() == [
        *("my-tiny", "vision,audio,depth,thermal,imu,text", "bfloat16", "0.9", "MIT", "tiny.pth", str(folder))
    ]
    assert output("path", "MY-TINY") == f"{folder}\n"
    assert output("verify", "my-tiny") == f"my-tiny: intact ({folder})\n"
    assert output("verify") == output("verify", "imagebind_nano").replace("_", "-", 1) + output("verify", "my-tiny")
    assert load_weights("my_tiny", ["audio"], dtype="bfloat16")[1] == f"my-tiny {description.content_hash(folder)}"


def test_shipped_weights_are_verified_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = SHIPPED["imagebind-nano"]
    assert output("verify") == f"imagebind-nano: intact ({shipped})\n"
    damaged = tmp_path / shipped.name
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setitem(SHIPPED, "imagebind-nano", damaged)
    assert refusal(CheckpointError, "verify").startswith(f"{damaged}: damaged, its SHA-256 is ")
    assert store.names() == []


def test_verify_names_the_damaged_file(file: Path, sizes: Path, store: Store) -> None:
    output("import", file, "--name", "tiny", "--sizes", sizes)
    damaged = store.folder("tiny") / "thermal.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert refusal(CheckpointError, "verify").startswith(f"{damaged}: damaged, its SHA-256 is ")
    damaged.write_bytes(content[:-1])
    assert refusal(CheckpointError, "verify", "tiny").startswith(f"{damaged}: truncated or damaged")
    done = weights("list")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"sensebind: {damaged}: truncated or damaged")
    assert "imagebind-nano" in done.stdout
    damaged.unlink()
    assert refusal(CheckpointError, "verify") == f"{damaged}: is missing; fetch or import tiny again"


def test_fetch_needs_the_licence(server: FileServer, store: Store) -> None:
    refused = refusal(WeightsError, "fetch", "imagebind-huge", "--url", server.url)
    assert refused.startswith("imagebind-huge: licence CC BY-NC 4.0: non-commercial use only; ")
    assert "--accept-licence" in refused
    assert server.requests == []
    assert not store.root.exists()


def test_fetch_and_fetch_again(server: FileServer, sizes: Path, store: Store) -> None:
    words = ("fetch", "imagebind_huge", "--url", server.url, "--sizes", sizes, "--accept-licence")
    printed = output(*words)
    assert f"from {server.url}\nlicence CC BY-NC 4.0: non-commercial use only\n" in printed
    folder = store.folder("imagebind-huge")
    assert f"imagebind-huge: {folder}\n" in printed
    assert store.describe("imagebind-huge").licence == "CC BY-NC 4.0"
    assert output(*words) == f"imagebind-huge is in the store already: {folder}; to download it again, add --again\n"
    assert len(server.requests) == 1
    server.content, server.etag = server.content + b"x", '"two"'
    assert "and the first fetch got" in refusal(CheckpointError, *words, "--again")
    assert store.folder("imagebind-huge") == folder


def test_fetch_that_fails(server: FileServer, sizes: Path) -> None:
    words = ("fetch", "imagebind-huge", "--url", server.url, "--sizes", sizes, "--accept-licence")
    server.statuses = [404]
    assert refusal(DownloadError, *words).startswith(f"{server.url}: the server says 404")
    assert "is expected" in refusal(DownloadError, *words, "--sha256", "AB" * 32)


def test_words_that_make_no_sense(file: Path, sizes: Path, tmp_path: Path) -> None:
    assert "only imagebind-huge has an address" in refusal(WeightsError, "fetch", "other")
    assert "is not 64 hexadecimal digits" in refusal(WeightsError, "fetch", "imagebind-huge", "--sha256", "xyz")
    assert "add --name" in refusal(WeightsError, "import", file, "--sizes", sizes)
    assert "cannot be read" in refusal(WeightsError, "import", file, "--name", "x", "--sizes", tmp_path)
    wrong = tmp_path / "wrong.json"
    for text in ("{", "[]", '{"smell_embed_dim": 3}', '{"audio_num_heads": 7}'):
        wrong.write_text(text)
        assert "holds no sizes" in refusal(WeightsError, "import", file, "--name", "x", "--sizes", wrong)
    assert "has shape [1, 1, 8], the model needs [1, 1, 1280]" in refusal(CheckpointError, "import", file)
    assert "is not a name for weights" in refusal(CheckpointError, "path", "../../etc")
    assert "is not a name for weights" in refusal(CheckpointError, "import", file, "--name", "../x", "--sizes", sizes)


def test_export_writes_checked_files(tmp_path: Path) -> None:
    printed = output("export", "imagebind_nano", "--format", "onnx", "--out", tmp_path / "towers", "--modality", "imu")
    path, size, _, word, cosine = printed.split()
    assert (path, word) == (str(tmp_path / "towers" / "imu.onnx"), "cosine")
    assert float(cosine) > 0.9999
    assert float(size) > 1


def test_faults_are_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        [*SENSEBIND, "weights", "fetch", "imagebind-huge"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("sensebind: imagebind-huge: licence CC BY-NC 4.0")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("answer", "fetched"), [("n", False), ("y", True)])
def test_whoever_sits_at_the_terminal_is_asked(
    server: FileServer, sizes: Path, store: Store, answer: str, fetched: bool
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    words = ["weights", "fetch", "imagebind-huge", "--url", server.url, "--sizes", str(sizes)]
    try:
        done = subprocess.run([*SENSEBIND, *words], stdin=theirs, capture_output=True, text=True)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "non-commercial use only\nDo you accept this licence? [y/N]: " in done.stdout
    assert done.returncode == (0 if fetched else 1)
    assert store.names() == (["imagebind-huge"] if fetched else [])
    assert bool(server.requests) == fetched
    if not fetched:
        assert done.stderr == "sensebind: imagebind-huge: the licence was not accepted; nothing is fetched\n"


def test_limits_are_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "nano.limits.json"
    result = CliRunner().invoke(
        weights_app, ["limits", "imagebind_nano", "--out", str(out), "--first-seed", "4", "--scenes", "1"]
    )
    assert result.exit_code == 0, result.output
    assert f"{out}: written" in result.output
    written = json.loads(out.read_text())
    assert written["limits"]["in_view"]["slope"] > 0
    assert written["provenance"]["made_by"] == "sensebind weights limits imagebind_nano --first-seed 4 --scenes 1"
    assert written["provenance"]["weights"] == description.content_hash(Store().find("imagebind_nano"))


def test_limits_that_cannot_be_written_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "nano.limits.json"
    result = CliRunner().invoke(weights_app, ["limits", "imagebind_nano", "--out", str(out)])
    assert isinstance(result.exception, WeightsError)
    assert f"{out.parent} is not a folder" in str(result.exception)
