"""The published `.pth`: what is taken out of it, what is refused with which words, and that nothing in it ever runs."""

from __future__ import annotations

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_model import MEDIUM, TINY, model, peak_rss_bytes, published_state
from torch import Tensor

from models.files import checkpoint, description, published_file
from models.files.published_file import PublishedFile, PublishedFileError, check_parts, convert
from models.transformer import TowerSizes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "tiny.pth"
    torch.save(published_state(), path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_file_becomes_one_file_per_modality(path: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    told: list[tuple[int, int]] = []
    convert(path, TINY, tmp_path, dtype, {"model": "tiny"}, lambda done, of: told.append((done, of)))
    assert {file.name for file in tmp_path.iterdir()} == {f"{m}.safetensors" for m in model().modalities}
    loaded = checkpoint.load(tmp_path, dtype).state_dict()
    for name, tensor in model().state_dict().items():
        stored_as = dtype if tensor.ndim else torch.float32  # a rounded logit scale would be off by a percent
        assert torch.equal(loaded[name], tensor.to(stored_as)), name
    assert told == sorted(told)
    assert told[-1] == (published_file.stored_bytes(TINY, dtype),) * 2
    for modality in model().modalities:
        facts = description.metadata(tmp_path / f"{modality}.safetensors")
        assert (facts["modalities"], facts["model"]) == (modality, "tiny")
        assert facts["dtype"] == str(dtype).removeprefix("torch.")


def test_mapping_anew_changes_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_file, "MAPPED_BYTES", 0)
    convert(path, TINY, tmp_path, torch.float32, {})
    loaded = checkpoint.load(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model().state_dict().items())


def test_a_file_that_changes_while_it_is_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_file, "MAPPED_BYTES", 0)
    twin = tmp_path / "twin.pth"
    twin.write_bytes(path.read_bytes())
    file = PublishedFile(twin, TINY)
    file.read("encoders.imu.cls_token")
    other = tmp_path / "other.pth"
    other.write_bytes(path.read_bytes())
    os.replace(other, twin)
    with pytest.raises(PublishedFileError, match=r"twin\.pth: was changed while it was read"):
        file.read("encoders.imu.cls_token")


def test_tensors_that_share_or_stride_are_written_as_they_read(tmp_path: Path) -> None:
    state = published_state()
    name = "modality_trunks.audio.blocks.0.mlp.fc1.weight"
    state[name] = state[name].t().contiguous().t()
    state["modality_heads.audio.0.bias"] = torch.nn.Parameter(torch.ones(1).expand(8))
    torch.save(state, tmp_path / "strided.pth")
    convert(tmp_path / "strided.pth", TINY, tmp_path, torch.float32, {})
    loaded = checkpoint.load(tmp_path).state_dict()
    assert torch.equal(loaded["encoders.audio.trunk.blocks.0.mlp.fc1.weight"], state[name])
    assert loaded["encoders.audio.head.norm.bias"].tolist() == [1.0] * 8


class Evil:
    """What a pickle can make of whoever opens it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_holds_code_is_refused_and_never_runs(tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    torch.save(published_state() | {"modality_heads.imu.3.weight": Evil(marker)}, path)
    with pytest.raises(
        PublishedFileError, match=r"evil\.pth: refused, its pickle asks for \w+\.system, and only"
    ) as caught:
        convert(path, TINY, tmp_path, torch.float32, {})
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert not list(tmp_path.glob("*.safetensors"))
    torch.load(path, weights_only=False)
    assert marker.exists()  # so the file is what it seems


def changed(**changes: Any) -> dict[str, Any]:
    return {**published_state(), **{name.replace("__", "."): value for name, value in changes.items()}}


def without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in published_state().items() if key != name}


IMU_HEAD = "modality_heads__imu__3__weight"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            without("modality_trunks.imu.blocks.0.attn.bias_k"),
            r"modality_trunks\.imu\.blocks\.0\.attn\.bias_k is missing",
        ),
        (without("modality_preprocessors.text.mask"), r"modality_preprocessors\.text\.mask is missing"),
        (
            changed(modality_heads__smell__0__weight=torch.ones(3)),
            r"modality_heads\.smell\.0\.weight is not part of this",
        ),
        (
            changed(**{IMU_HEAD: torch.zeros(16, 9)}),
            r"modality_heads\.imu\.3\.weight has shape \[16, 9\], .* \[16, 8\]",
        ),
        (
            changed(**{IMU_HEAD: torch.full((16, 8), torch.nan)}),
            r"modality_heads\.imu\.3\.weight holds NaN or infinite",
        ),
        (changed(**{IMU_HEAD: torch.zeros(16, 8, dtype=torch.int64)}), r"imu\.3\.weight holds no floating-point"),
        (changed(**{IMU_HEAD: torch.zeros(16, 8).to_sparse()}), r"imu\.3\.weight holds no floating-point"),
        (changed(**{IMU_HEAD: torch.zeros(16, 8, device="meta")}), r"imu\.3\.weight holds no floating-point"),
        (changed(modality_preprocessors__text__mask=torch.zeros(77, 77)), "text.mask differs from the published"),
        (changed(modality_postprocessors__audio__1__log_logit_scale=torch.tensor(3.0)), "scale differs from the publ"),
        ({"state_dict": published_state(), "epoch": 3}, "is not a state dict: it has 'state_dict', a dict"),
        ({**published_state(), "two\nlines": torch.ones(1)}, r"is not a state dict: it has 'two\\nlines'"),
        ([1, 2, 3], "holds a list, not a state dict"),
        ({}, "is missing"),
    ],
)
def test_what_is_not_the_published_model(tmp_path: Path, state: Any, words: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(PublishedFileError, match=words) as caught:
        convert(path, TINY, tmp_path, torch.float32, {})
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_values_beyond_float16(tmp_path: Path) -> None:
    state = published_state()
    state["modality_heads.imu.3.weight"][3, 5] = 1e5
    torch.save(state, tmp_path / "large.pth")
    with pytest.raises(
        PublishedFileError, match=r"modality_heads\.imu\.3\.weight holds NaN or infinite values as float16"
    ):
        convert(tmp_path / "large.pth", TINY, tmp_path, torch.float16, {})


@pytest.mark.parametrize("kept", [0, 3, 4, 100, 0.5, 0.99])
def test_a_truncated_file(path: Path, tmp_path: Path, kept: float) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(PublishedFileError, match=r"cut\.pth: (truncated or damaged|is not in the zip format)"):
        PublishedFile(cut, TINY)


def test_every_part_has_its_checksum_compared(path: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    check_parts(path, lambda done, of: told.append((done, of)))
    assert 0.9 * path.stat().st_size < told[-2][0] < path.stat().st_size
    assert told[-1] == (path.stat().st_size,) * 2
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(content)
    with pytest.raises(PublishedFileError, match=r"damaged\.pth: damaged \(Bad CRC-32 for file .*\); fetch it again"):
        check_parts(damaged)


def test_other_formats(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pth"
    torch.save(published_state(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(PublishedFileError, match=r"not in the zip format of torch\.save"):
        PublishedFile(old, TINY)
    packed, script = tmp_path / "packed.pth", tmp_path / "script.pth"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as deflated,
        zipfile.ZipFile(script, "w") as archive,
    ):
        for member in source.namelist():
            deflated.writestr(member, source.read(member))
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(PublishedFileError, match="its parts are compressed"):
        PublishedFile(packed, TINY)
    with pytest.raises(PublishedFileError, match="not a state dict"):
        PublishedFile(script, TINY)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(PublishedFileError, match=r"cannot be read \((No such file|Is a directory)"):
            PublishedFile(path, TINY)


def test_another_size_is_named_by_its_first_tensor(path: Path) -> None:
    sizes = type(TINY)(16, TowerSizes(8, 2, 2), *[TowerSizes(8, 1, 2)] * 5)
    with pytest.raises(PublishedFileError, match=r"modality_trunks\.vision\.blocks\.1\..* is missing"):
        PublishedFile(path, sizes)


def test_a_damaged_pickle_is_one_line_and_no_crash(path: Path, tmp_path: Path) -> None:
    """Bytes of the pickle and of the zip's directory, changed at random: refused, or tensors as large as they say."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        pickle = next(member for member in archive.infolist() if member.filename.endswith("data.pkl"))
    rng = random.Random(0)
    damaged = tmp_path / "damaged.pth"
    refused = []
    for _ in range(60):
        changed = bytearray(content)
        first, last = rng.choice([(pickle.header_offset + 64, pickle.file_size), (len(content) - 9000, len(content))])
        for _ in range(rng.choice([1, 3, 20])):
            changed[rng.randrange(first, last)] = rng.randrange(256)
        damaged.write_bytes(changed)
        try:
            file = PublishedFile(damaged, TINY)
            for name in checkpoint.tensor_shapes(TINY):
                file.read(name).sum()
        except PublishedFileError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not [words for words in refused if "\n" in words]


@pytest.mark.parametrize("last", [b"X\x05\x00", b"K", b"M\x01", b"J\x01\x00", b"G\x00", b"\x8a\xff", b"h", b"r\x00"])
def test_a_pickle_that_ends_within_an_argument(tmp_path: Path, last: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + last)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    with pytest.raises(PublishedFileError, match="damaged, its pickle cannot be read"):
        PublishedFile(tmp_path / "x.pth", TINY)


def test_an_import_takes_less_memory_than_a_tower(tmp_path: Path) -> None:
    path = tmp_path / "medium.pth"
    torch.save(published_state(MEDIUM), path)
    vision = published_file.stored_bytes(MEDIUM, torch.float32) - sum(
        shape.numel() * 4 for name, shape in checkpoint.tensor_shapes(MEDIUM).items() if ".vision." not in name
    )
    statement = "published_weights.import_file(Store(Path(sys.argv[1])), Path(sys.argv[2]), 'medium', sizes=MEDIUM)"
    peak = peak_rss_bytes(statement, tmp_path / "store", path)
    print(f"{peak / 1e6:.0f} MB for a file of {path.stat().st_size / 1e6:.0f} MB, vision {vision / 1e6:.0f} MB")
    assert peak < vision
