"""Weights in and out: what goes through unchanged, and what is refused with which words."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from models import checkpoint
from models.checkpoint import CheckpointError, from_published, load, save
from models.imagebind import ImageBind, Sizes
from models.transformer import TowerSizes

SIZES = Sizes(16, *[TowerSizes(8, 1, 2)] * 6)


@pytest.fixture(scope="module")
def model() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(SIZES).eval()


@pytest.fixture
def published(model: ImageBind) -> dict[str, Tensor]:
    tensors = {checkpoint.published_name(name): tensor for name, tensor in model.state_dict().items()}
    return tensors | checkpoint.published_constants()


@pytest.fixture(scope="module")
def path(model: ImageBind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(model, path, {"trained_on": "nothing"}, dtype=torch.float32)
    return path


def test_from_published_takes_every_tensor(model: ImageBind, published: dict[str, Tensor]) -> None:
    loaded = from_published(published, SIZES).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_from_published_shares_nothing_with_the_caller(published: dict[str, Tensor]) -> None:
    loaded = from_published(published, SIZES)
    before = published["modality_heads.audio.2.weight"].clone()
    with torch.no_grad():
        loaded.get_parameter("encoders.audio.head.proj.weight").zero_()
    assert torch.equal(published["modality_heads.audio.2.weight"], before)


def test_from_published_names_a_missing_tensor(published: dict[str, Tensor]) -> None:
    del published["modality_trunks.imu.blocks.0.attn.bias_k"]
    with pytest.raises(CheckpointError, match=r"modality_trunks\.imu\.blocks\.0\.attn\.bias_k is missing"):
        from_published(published, SIZES)


def test_from_published_names_an_unknown_tensor(published: dict[str, Tensor]) -> None:
    published["modality_trunks.imu.blocks.1.norm_1.bias"] = torch.zeros(8)
    with pytest.raises(CheckpointError, match=r"modality_trunks\.imu\.blocks\.1\.norm_1\.bias is not part"):
        from_published(published, SIZES)


def test_from_published_names_a_misshapen_tensor(published: dict[str, Tensor]) -> None:
    published["modality_heads.imu.3.weight"] = torch.zeros(16, 9)
    with pytest.raises(CheckpointError, match=r"modality_heads\.imu\.3\.weight has shape \[16, 9\], .* \[16, 8\]"):
        from_published(published, SIZES)


@pytest.mark.parametrize(
    "name", ["modality_postprocessors.audio.1.log_logit_scale", "modality_preprocessors.text.mask"]
)
def test_from_published_checks_constants(published: dict[str, Tensor], name: str) -> None:
    changed = published | {name: torch.zeros_like(published[name])}
    with pytest.raises(CheckpointError, match=f"{name} differs"):
        from_published(changed, SIZES)
    del changed[name]
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        from_published(changed, SIZES)


def test_save_and_load_give_the_same_model(model: ImageBind, path: Path) -> None:
    loaded = load(path)
    assert loaded.sizes == SIZES
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert checkpoint.metadata(path)["trained_on"] == "nothing"
    assert list(path.parent.iterdir()) == [path]  # nothing partial is left


def test_float16_files_load_as_asked(model: ImageBind, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(model, path, {})
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load(path, dtype=dtype)
        assert {p.dtype for p in loaded.parameters()} == {dtype}
    audio = {"audio": torch.randn(1, 1, 128, 204)}
    with torch.inference_mode():
        assert (load(path)(audio)["audio"] * model(audio)["audio"]).sum() > 0.99999


def test_only_wanted_encoders_are_loaded(path: Path, tmp_path: Path) -> None:
    loaded = load(path, modalities=["audio", "text"])
    assert set(loaded.encoders) == {"audio", "text"}
    partial = tmp_path / "two.safetensors"
    save(loaded, partial, {})
    assert load(partial).modalities == ("audio", "text")
    with pytest.raises(CheckpointError, match="no encoder for vision; it has audio, text"):
        load(partial, modalities=["vision"])


def test_a_failed_save_leaves_the_old_file(model: ImageBind, path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.safetensors"
    old.write_bytes(path.read_bytes())
    with pytest.raises(TypeError):
        save(model, old, {"epochs": 3})  # type: ignore[dict-item]
    assert old.read_bytes() == path.read_bytes()


def test_content_hash_follows_the_content(path: Path, tmp_path: Path) -> None:
    twin = tmp_path / "copy.safetensors"
    twin.write_bytes(path.read_bytes())
    assert checkpoint.content_hash(twin) == checkpoint.content_hash(path)
    assert len(checkpoint.content_hash(path)) == 12
    twin.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert checkpoint.content_hash(twin) != checkpoint.content_hash(path)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, tmp_path: Path, kept: float) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: truncated or damaged"):
        load(cut)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no such weights file"):
            load(path)
        with pytest.raises(CheckpointError, match="cannot be read"):
            checkpoint.content_hash(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a sensebind weights file"):
        load(path)


@pytest.mark.parametrize(
    "sizes",
    [
        "",
        "[1, 2]",
        '{"embedding_dim": 3}',
        json.dumps({"vision": {"width": 8, "depth": 2}}),
        "[" * 100_000,
        json.dumps(asdict(SIZES) | {"embedding_dim": -1}),
        json.dumps(asdict(SIZES) | {"embedding_dim": "16"}),
        *(
            json.dumps(asdict(SIZES) | {"audio": asdict(TowerSizes(8, 1, 2)) | wrong})
            for wrong in (
                {"width": -8},
                {"width": 8.0},
                {"width": 9},
                {"blocks": 10**9},
                {"heads": 0},
                {"drop_path": "0.1"},
                {"drop_path": float("nan")},
            )
        ),
    ],
)
def test_unreadable_sizes_are_refused(tmp_path: Path, sizes: str) -> None:
    path = tmp_path / "sizes.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path, {"format": checkpoint.FORMAT, "sizes": sizes})
    with pytest.raises(CheckpointError, match="its sizes cannot be read"):
        load(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_file_with_values_that_are_not_finite_is_refused(path: Path, tmp_path: Path, value: float) -> None:
    tensors = safetensors.torch.load_file(path)
    tensors["encoders.imu.cls_token"].view(-1)[3] = value
    broken = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(tensors, broken, checkpoint.metadata(path))
    with pytest.raises(
        CheckpointError, match=r"broken\.safetensors .*: encoders\.imu\.cls_token holds NaN or infinite"
    ):
        load(broken)


def test_weights_beyond_float16_are_not_written(model: ImageBind, tmp_path: Path) -> None:
    large = copy.deepcopy(model)
    with torch.no_grad():
        large.get_parameter("encoders.imu.cls_token").fill_(1e6)
    half = tmp_path / "half.safetensors"
    with pytest.raises(CheckpointError, match=r"half\.safetensors is not written: encoders\.imu\.cls_token .* float16"):
        save(large, half, {})
    assert not list(tmp_path.iterdir())
    save(large, half, {}, dtype=torch.float32)
    assert load(half).get_parameter("encoders.imu.cls_token").max() == 1e6
    with pytest.raises(CheckpointError, match="cls_token holds NaN or infinite values as float16"):
        load(half, dtype=torch.float16)


def test_a_file_without_a_tensor_is_refused(path: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    del tensors["encoders.depth.cls_token"]
    broken = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(tensors, broken, checkpoint.metadata(path))
    with pytest.raises(CheckpointError, match=r"broken\.safetensors: encoders\.depth\.cls_token is missing"):
        load(broken)
    assert load(broken, modalities=["audio"]).modalities == ("audio",)
