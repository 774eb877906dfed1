"""The store: names, versions that appear whole, and what is left when a process is killed in the middle."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from published_model import TINY, model, published_state

from models.files import checkpoint, description, published_weights, store
from models.files.description import CheckpointError
from models.files.published_file import PublishedFileError
from models.files.published_weights import import_file
from models.files.store import Store, check_room, new_version, trust


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "tiny.pth"
    torch.save(published_state(), path)
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "other.pth"
    torch.save(published_state() | {"modality_heads.imu.3.weight": torch.ones(16, 8)}, path)
    return path


def test_the_shipped_weights_are_found_by_either_spelling(place: Store) -> None:
    assert place.find("imagebind_nano") == place.find("imagebind-nano") == place.find("ImageBind-Nano")
    assert checkpoint.load(place.find("imagebind_nano"), modalities=["depth"]).modalities == ("depth",)
    found = place.describe("imagebind_nano")
    assert (found.dtype, found.licence) == ("float16", "Apache-2.0")
    assert place.names() == []
    assert not place.root.exists()


def test_an_imported_model_is_found_by_its_name(place: Store, published: Path) -> None:
    folder = import_file(place, published, "My_Model", sizes=TINY, licence="MIT")
    assert folder == place.find("my-model") == place.find("MY_MODEL") == place.folder("my_model")
    assert place.names() == ["my-model"]
    loaded = checkpoint.load(folder).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model().state_dict().items())
    found = place.describe("my-model")
    assert found.modalities == model().modalities
    assert (found.name, found.dtype, found.licence, found.source) == ("my-model", "float32", "MIT", "tiny.pth")
    assert re.fullmatch(r"[0-9a-f]{64}", found.source_sha256)
    assert found.size_bytes == sum(file.stat().st_size for file in folder.iterdir())
    facts = description.metadata(folder)
    assert facts.keys() == {"model", "source", "source_sha256", "licence", "dtype", "sizes", "modalities", "format"}


def test_paths_are_found_as_they_are(place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("here", "./here", "../none", "none.safetensors", "/a/b"):
        assert place.find(name) == Path(name)
    assert place.find("~/x.safetensors") == tmp_path / "x.safetensors"


def test_a_name_goes_before_a_path(
    place: Store, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert place.find("tiny") == Path("tiny")
    folder = import_file(place, published, "tiny", sizes=TINY)
    assert place.find("tiny") == folder
    assert place.find("./tiny") == Path("tiny")


def test_a_name_that_is_not_there(place: Store) -> None:
    for use in (place.find, place.folder):
        with pytest.raises(
            CheckpointError, match=r"imagebind-huge: no weights .*sensebind weights fetch imagebind-huge"
        ):
            use("imagebind-huge")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "-x", ".hidden", "a\0b", "a\nb", "ä", "x" * 65])
def test_what_is_no_name(place: Store, published: Path, name: str) -> None:
    for use in (place.folder, place.describe, place.trusted, lambda n: import_file(place, published, n, sizes=TINY)):
        with pytest.raises(CheckpointError, match="is not a name for weights") as caught:
            use(name)
        assert "\n" not in str(caught.value)
    assert not place.root.exists()


def test_shipped_names_cannot_be_taken(place: Store, published: Path) -> None:
    with pytest.raises(CheckpointError, match="imagebind_nano: these weights are shipped"):
        import_file(place, published, "imagebind_nano", sizes=TINY)


def test_the_store_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "elsewhere"))
    assert Store().root == tmp_path / "elsewhere"
    monkeypatch.delenv(store.ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Store().root == tmp_path / "cache" / "sensebind" / "weights"


def test_a_second_import_replaces_the_first(place: Store, published: Path, other: Path) -> None:
    first = import_file(place, published, "tiny", sizes=TINY)
    before = description.content_hash(first)
    second = import_file(place, other, "tiny", sizes=TINY, dtype=torch.bfloat16)
    assert place.find("tiny") == second != first
    assert not first.exists()
    assert description.content_hash(second) != before
    assert (place.describe("tiny").source, place.describe("tiny").dtype) == ("other.pth", "bfloat16")


def test_an_import_that_fails_leaves_what_was_there(place: Store, published: Path, tmp_path: Path) -> None:
    first = import_file(place, published, "tiny", sizes=TINY)
    broken = tmp_path / "broken.pth"
    torch.save(published_state() | {"modality_heads.imu.3.weight": torch.full((16, 8), torch.nan)}, broken)
    with pytest.raises(PublishedFileError, match="holds NaN"):
        import_file(place, broken, "tiny", sizes=TINY)
    with pytest.raises(CheckpointError, match=r"none\.pth: cannot be read \(No such file"):
        import_file(place, tmp_path / "none.pth", "tiny", sizes=TINY)
    assert place.find("tiny") == first
    description.verify(first)
    assert sorted(p.name for p in (place.root / "tiny").iterdir()) == [".lock", "1"]


def test_versions_are_counted_as_numbers(place: Store) -> None:
    for number in ("2", "10", "9", "011", "x", ".new-1"):
        (place.root / "tiny" / number).mkdir(parents=True)
    assert place.find("tiny").name == "10"
    with place.changing("tiny") as folder, new_version(folder) as version:
        assert sorted(p.name for p in folder.iterdir() if p != version) == [".lock", "011", "10", "x"]
    assert place.find("tiny").name == "11"


CHILD = """
import sys
from pathlib import Path
from published_model import TINY
from models.files.published_weights import import_file
from models.files.store import Store

def report(what, done, of):
    if what == "import" and done > of / 2:
        print("half", flush=True)
        sys.stdin.read()

import_file(Store(Path(sys.argv[1])), Path(sys.argv[2]), "tiny", sizes=TINY, report=report)
"""


@pytest.fixture
def half_imported(place: Store, other: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that imports `other` as `tiny` and stands still half-way."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD, str(place.root), str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        yield child
        child.kill()


def test_a_killed_import_leaves_nothing_half(
    place: Store, published: Path, half_imported: subprocess.Popen[bytes]
) -> None:
    folder = place.root / "tiny"
    assert len(list(folder.glob(".new-*/*.safetensors"))) > 1
    with pytest.raises(CheckpointError, match="tiny: another process is fetching or importing it"):
        import_file(place, published, "tiny", sizes=TINY)
    half_imported.send_signal(signal.SIGKILL)
    half_imported.wait()
    assert place.names() == []
    with pytest.raises(CheckpointError, match="no weights of this name"):
        place.find("tiny")
    description.verify(import_file(place, published, "tiny", sizes=TINY))
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "1"]


def test_a_killed_import_leaves_the_former_version(
    place: Store, published: Path, request: pytest.FixtureRequest
) -> None:
    first = import_file(place, published, "tiny", sizes=TINY)
    child = request.getfixturevalue("half_imported")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert place.find("tiny") == first
    description.verify(first)
    assert place.describe("tiny").source == "tiny.pth"


def test_a_disk_that_takes_no_more(place: Store, published: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same manner."""
    script = CHILD.replace("sys.stdin.read()", "pass")
    done = subprocess.run(
        [sys.executable, "-c", script, str(place.root), str(published)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert done.stderr.splitlines()[-1].endswith(
        f"CheckpointError: {place.root / 'tiny'}: cannot be written (File too large); make room, and try again"
    )
    assert [p.name for p in (place.root / "tiny").iterdir()] == [".lock"]
    assert place.names() == []


def test_room_is_looked_for_first(place: Store, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CheckpointError, match=r"1000000\.0 GB are needed and \d+\.\d GB free; make room, or set SENSEBIND"
    ):
        check_room(place.root.parent, 10**15)
    monkeypatch.setattr(published_weights.published_file, "stored_bytes", lambda *_: 10**15)
    with pytest.raises(CheckpointError, match=r"1000000\.0 GB are needed"):
        import_file(place, published, "tiny", sizes=TINY)


def test_a_store_that_cannot_be_made(published: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/store/tiny: cannot be written \(Not a directory\)"):
        import_file(Store(tmp_path / "file" / "store"), published, "tiny", sizes=TINY)


def test_what_is_trusted_is_remembered(place: Store) -> None:
    assert place.trusted("tiny") is None
    with place.changing("tiny") as folder:
        trust(folder, "ab" * 32)
    assert place.trusted("Tiny") == "ab" * 32
    (place.root / "tiny" / ".trusted").write_text("nonsense")
    with pytest.raises(CheckpointError, match=r"\.trusted: holds no SHA-256; remove it"):
        place.trusted("tiny")
