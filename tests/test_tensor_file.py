"""The safetensors format, held against the package of that name, and against every cut and every changed byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from models.files import tensor_file, tensor_header
from models.files.tensor_file import NotFiniteError, TensorFile
from models.files.tensor_header import TensorFileError

TENSORS = {
    "weight": torch.arange(12.0).reshape(3, 4) / 7,
    "scale": torch.tensor(3.25),
    "empty": torch.zeros(0, 4),
    "bias": torch.tensor([-1.5, 1e-3]),
}


def write(path: Path, dtype: torch.dtype = torch.float32, tensors: dict[str, Tensor] = TENSORS) -> Path:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    tensor_file.write(path, shapes, tensors.__getitem__, dtype, {"licence": 'none of "any" \\ kind', "model": "é"})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "written.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_package_reads_what_is_written(tmp_path: Path, dtype: torch.dtype) -> None:
    path = write(tmp_path / "x.safetensors", dtype)
    found = safetensors.torch.load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor.to(dtype))
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["licence"] == 'none of "any" \\ kind'
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16, torch.float16])
def test_what_the_package_writes_is_read(tmp_path: Path, stored: torch.dtype, wanted: torch.dtype) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({name: t.to(stored) for name, t in TENSORS.items()}, path, {"model": "é"})
    with TensorFile(path) as file:
        assert file.metadata == {"model": "é"}
        for name, tensor in TENSORS.items():
            assert torch.equal(file.read(name, wanted), tensor.to(stored).to(wanted))


def test_tensors_larger_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "PIECE_VALUES", 5)
    with TensorFile(write(tmp_path / "x.safetensors")) as file:
        for name, tensor in TENSORS.items():
            assert torch.equal(file.read(name, torch.float32), tensor)


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    with pytest.raises(FileExistsError):
        write(path)


def test_every_changed_byte_changes_the_hash(path: Path) -> None:
    content = path.read_bytes()
    with TensorFile(path) as file:
        stored = file.metadata[tensor_header.HASH]
    assert tensor_header.digest(path) == stored
    unseen = []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x04
        path.write_bytes(changed)
        try:
            with TensorFile(path) as file:
                if tensor_header.digest(path) == file.metadata.get(tensor_header.HASH):
                    unseen.append(place)
        except TensorFileError:
            pass  # the header cannot be read any more
    assert unseen == []


def test_every_cut_is_seen(path: Path) -> None:
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(TensorFileError):
            TensorFile(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(TensorFileError, match="bytes, and its header describes"):
        TensorFile(path)


def test_a_file_that_is_cut_after_it_was_opened(path: Path) -> None:
    content = path.read_bytes()
    with TensorFile(path) as file:
        path.write_bytes(content[:-4])
        with pytest.raises(TensorFileError, match="cut short while it was read"):
            file.read("bias", torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite(tmp_path: Path, value: float) -> None:
    tensors = TENSORS | {"bias": torch.tensor([0.0, value])}
    with pytest.raises(NotFiniteError, match="bias holds NaN or infinite values as float32"):
        write(tmp_path / "x.safetensors", tensors=tensors)
    path = tmp_path / "y.safetensors"
    safetensors.torch.save_file(tensors, path)
    with TensorFile(path) as file, pytest.raises(NotFiniteError, match="bias holds NaN or infinite values as bfloat16"):
        file.read("bias", torch.bfloat16)


def test_metadata_is_text(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="metadata epochs is 3"):
        tensor_file.write(tmp_path / "x", {}, TENSORS.__getitem__, torch.float32, {"epochs": 3})  # type: ignore[dict-item]
    assert not (tmp_path / "x").exists()


def entry(dtype: Any = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"w": 3},
        {"w": {"dtype": "F32"}},
        {"w": entry(shape=[3])},
        {"w": entry(shape=[-2])},
        {"w": entry(shape=[2.0])},
        {"w": entry(shape=[True, 2])},
        {"w": entry(shape="22")},
        {"w": entry(shape=[1 << 62, 1 << 62])},
        {"w": entry(begin=8, end=0)},
        {"w": entry(begin=-8, end=0)},
        {"w": entry(begin=4, end=12)},
        {"w": entry(end=1 << 60, shape=[1 << 58])},
        {"w": entry(), "v": entry()},
        {"w": entry(dtype=["F32"])},
        {"w\n": entry()},
        {"w": entry(), "__metadata__": {"epochs": 3}},
        {"w": entry(), "__metadata__": "text"},
    ],
)
def test_headers_that_lie(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "made-up.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(TensorFileError) as caught:
        TensorFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{", b"[" * 100_000, b'{"w": NaN}', b"null"])
def test_headers_that_are_no_json(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "made-up.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(TensorFileError, match="its header cannot be read"):
        TensorFile(path)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "made-up.safetensors"
    with path.open("wb") as file:
        file.write((1 << 34).to_bytes(8, "little"))
        file.truncate(1 << 35)  # a hole, which takes no disk
    with pytest.raises(TensorFileError, match="its header would have 17179869184 bytes"):
        TensorFile(path)


def test_a_dtype_that_no_weights_have(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"ids": torch.arange(3)}, path)
    with TensorFile(path) as file, pytest.raises(TensorFileError, match="ids has dtype I64; it must be one of F32"):
        file.read("ids", torch.float32)
