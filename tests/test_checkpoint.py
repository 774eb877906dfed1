"""Weights in and out: what goes through unchanged, and what is refused with which words."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from published_model import MEDIUM, peak_rss_bytes
from published_model import model as published_model
from torch import Tensor

from models.files import checkpoint, description
from models.files.checkpoint import from_published, load, save
from models.files.description import CheckpointError
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
    assert description.metadata(path)["trained_on"] == "nothing"
    assert description.metadata(path)["dtype"] == "float32"
    assert list(path.parent.iterdir()) == [path]  # nothing partial is left


def test_float16_files_load_as_asked(model: ImageBind, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(model, path, {})
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load(path, dtype=dtype)
        dtypes = {name: parameter.dtype for name, parameter in loaded.named_parameters()}
        assert dtypes.pop("encoders.text.log_logit_scale") == torch.float32  # a logarithm, which rounding would shift
        assert set(dtypes.values()) == {dtype}
    audio = {"audio": torch.randn(1, 1, 128, 204)}
    with torch.inference_mode():
        assert (load(path)(audio)["audio"] * model(audio)["audio"]).sum() > 0.99999


def test_the_logit_scale_is_not_rounded(model: ImageBind, tmp_path: Path) -> None:
    path = tmp_path / "exact.safetensors"
    save(model, path, {}, torch.float32)
    assert torch.equal(load(path, torch.bfloat16).logit_scale("text"), model.logit_scale("text"))


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
    assert description.content_hash(twin) == description.content_hash(path)
    assert len(description.content_hash(path)) == 12
    twin.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert description.content_hash(twin) != description.content_hash(path)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, tmp_path: Path, kept: float) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: truncated or damaged"):
        load(cut)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    with pytest.raises(CheckpointError, match=r"none\.safetensors: no such weights file"):
        load(missing)
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read"):
        description.content_hash(missing)
    for use in (load, description.content_hash, description.metadata, description.verify):
        with pytest.raises(CheckpointError, match=rf"{tmp_path}: holds no weights file such as vision\.safetensors"):
            use(tmp_path)


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
    stored = {"format": description.FORMAT, "sizes": sizes, "modalities": "audio"}
    safetensors.torch.save_file({"w": torch.zeros(2)}, path, stored)
    with pytest.raises(CheckpointError, match="its sizes cannot be read"):
        load(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_file_with_values_that_are_not_finite_is_refused(path: Path, tmp_path: Path, value: float) -> None:
    tensors = safetensors.torch.load_file(path)
    tensors["encoders.imu.cls_token"].view(-1)[3] = value
    broken = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(tensors, broken, description.metadata(path))
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
    safetensors.torch.save_file(tensors, broken, description.metadata(path))
    with pytest.raises(CheckpointError, match=r"broken\.safetensors: encoders\.depth\.cls_token is missing"):
        load(broken)
    assert load(broken, modalities=["audio"]).modalities == ("audio",)


def test_a_file_with_a_tensor_too_many_or_misshapen_is_refused(path: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    broken = tmp_path / "broken.safetensors"
    for name in ("encoders.depth.trunk.blocks.1.norm_1.bias", "encoders.smell.cls_token", "cls_token"):
        safetensors.torch.save_file(tensors | {name: torch.zeros(8)}, broken, description.metadata(path))
        with pytest.raises(CheckpointError, match=rf"broken\.safetensors: {name} is not part of this model"):
            load(broken)
    misshapen = {"encoders.depth.cls_token": torch.zeros(1, 1, 9)}
    safetensors.torch.save_file(tensors | misshapen, broken, description.metadata(path))
    with pytest.raises(CheckpointError, match=r"depth\.cls_token has shape \[1, 1, 9\], the model needs \[1, 1, 8\]"):
        load(broken)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_load_straight_onto_a_gpu(model: ImageBind, path: Path) -> None:
    loaded = load(path, torch.bfloat16, "cuda").state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].is_cuda
        assert torch.equal(loaded[name].cpu(), tensor.to(loaded[name].dtype)), name


def test_a_modality_that_nobody_asked_for_may_be_damaged(path: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    tensors["encoders.imu.cls_token"].fill_(math.nan)
    broken = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(tensors, broken, description.metadata(path))
    assert load(broken, modalities=["text", "audio"]).modalities == ("text", "audio")


@pytest.fixture
def folder(model: ImageBind, tmp_path: Path) -> Path:
    """The model as one file per modality."""
    folder = tmp_path / "towers"
    folder.mkdir()
    for modality in model.modalities:
        file = folder / f"{modality}.safetensors"
        facts = {"model": "tiny", "source_sha256": "ab"}
        checkpoint.write(file, SIZES, [modality], model.state_dict().__getitem__, torch.float32, facts)
    return folder


def test_a_folder_loads_like_a_file(model: ImageBind, folder: Path) -> None:
    loaded = load(folder)
    assert (loaded.sizes, loaded.modalities, loaded.training) == (SIZES, model.modalities, False)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    found = description.metadata(folder)
    assert (found["model"], found["dtype"]) == ("tiny", "float32")
    assert found["modalities"] == "vision,audio,depth,thermal,imu,text"
    assert "sha256" not in found  # each of its files has its own


def test_of_a_folder_only_wanted_files_are_touched(folder: Path) -> None:
    (folder / "vision.safetensors").write_bytes(b"garbage")
    (folder / "depth.safetensors").unlink()
    assert load(folder, torch.bfloat16, modalities=["audio", "text"]).modalities == ("audio", "text")
    with pytest.raises(CheckpointError, match=r"vision\.safetensors: truncated or damaged"):
        load(folder)
    with pytest.raises(CheckpointError, match="has no encoder for depth; it has vision, audio, thermal, imu, text"):
        load(folder, modalities=["depth"])


def test_towers_of_different_models_are_not_mixed(model: ImageBind, folder: Path) -> None:
    (folder / "audio.safetensors").unlink()
    facts = {"model": "tiny", "source_sha256": "cd"}
    file = folder / "audio.safetensors"
    checkpoint.write(file, SIZES, ["audio"], model.state_dict().__getitem__, torch.float32, facts)
    with pytest.raises(
        CheckpointError, match=r"audio\.safetensors: is of another model than vision\.safetensors \(source_sha256"
    ):
        load(folder, modalities=["vision", "audio"])
    assert load(folder, modalities=["audio"]).modalities == ("audio",)


def test_a_tower_under_another_name_is_refused(folder: Path) -> None:
    (folder / "audio.safetensors").replace(folder / "depth.safetensors")
    with pytest.raises(CheckpointError, match=r"depth\.safetensors: encoders\.audio\.\S+ is not part of this model"):
        load(folder, modalities=["depth"])


def test_the_hash_of_a_folder_comes_from_its_files(folder: Path, path: Path) -> None:
    first = description.content_hash(folder)
    assert len(first) == 12
    file = folder / "imu.safetensors"
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x7f")
    assert description.content_hash(folder) == first  # which read no tensor
    with pytest.raises(CheckpointError, match=r"imu\.safetensors: damaged, its SHA-256 is \w{64} and was \w{64}"):
        description.verify(folder)
    file.unlink()
    assert description.content_hash(folder) != first
    description.verify(folder)
    description.verify(path)


def test_a_file_without_a_hash_cannot_be_verified(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "vision.safetensors"
    facts = {key: value for key, value in description.metadata(path).items() if key != "sha256"}
    safetensors.torch.save_file(safetensors.torch.load_file(path), old, facts)
    for use in (description.verify, lambda file: description.content_hash(file.parent)):
        with pytest.raises(CheckpointError, match=r"vision\.safetensors: stores no hash"):
            use(old)


def test_what_is_loaded_does_not_need_its_file(folder: Path) -> None:
    """In a process of its own: memory that is mapped from a file that is cut ends the process when it is read."""
    script = f"""
from pathlib import Path
from models.files import checkpoint, description
model = checkpoint.load(Path({str(folder)!r}))
before = {{name: tensor.clone() for name, tensor in model.state_dict().items()}}
for file in Path({str(folder)!r}).iterdir():
    file.write_bytes(b"")
assert all(bool((before[name] == tensor).all()) for name, tensor in model.state_dict().items())
assert ".safetensors" not in Path("/proc/self/maps").read_text()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_loading_takes_the_memory_of_the_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "medium.safetensors"
    save(published_model(MEDIUM), path, {}, torch.float32)
    peak = peak_rss_bytes("model = checkpoint.load(Path(sys.argv[1]), torch.bfloat16)", path)
    values = sum(shape.numel() for shape in checkpoint.tensor_shapes(MEDIUM).values())
    print(f"{peak / 1e6:.0f} MB for {2 * values / 1e6:.0f} MB of weights, from {path.stat().st_size / 1e6:.0f} MB")
    assert 2 * values < peak < 2 * values + 60e6
