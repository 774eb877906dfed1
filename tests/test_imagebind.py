"""The encoders against numbers of the published code, and the properties that those numbers do not show."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_model import REFERENCE, small_model
from safetensors.torch import load_file
from torch import Tensor

from models.encoders import PatchEncoder, TextEncoder, VisionStem
from models.files.checkpoint import published_constants, published_name
from models.imagebind import HUGE, ImageBind, InputError, Sizes, imagebind_huge, imagebind_nano
from models.modalities import MODALITIES, Modality
from models.tokenizer import tokenize
from models.transformer import TowerSizes

TINY = Sizes(
    embedding_dim=24,
    vision=TowerSizes(32, 2, 2),
    audio=TowerSizes(32, 2, 2, drop_path=0.1),
    depth=TowerSizes(16, 1, 2),
    thermal=TowerSizes(16, 1, 2),
    imu=TowerSizes(16, 1, 2),
    text=TowerSizes(16, 2, 2),
)


@pytest.fixture(scope="module")
def small() -> ImageBind:
    return small_model()


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(REFERENCE / "small_io.safetensors")


@pytest.fixture(scope="module")
def tiny() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(TINY).eval()


def inputs(batch: int = 2) -> dict[Modality, Tensor]:
    torch.manual_seed(1)
    return {
        "vision": torch.randn(batch, 3, 2, 224, 224),
        "audio": torch.randn(batch, 1, 128, 204),
        "depth": torch.randn(batch, 1, 224, 224),
        "thermal": torch.rand(batch, 1, 224, 224),
        "imu": torch.randn(batch, 6, 2000),
        "text": tokenize(["a dog barking", "smoke", "the robot is falling"][:batch]),
    }


@pytest.mark.parametrize("name", ["vision_video", "audio_clips", "depth", "thermal", "imu", "text"])
def test_reproduces_the_published_code(small: ImageBind, reference: dict[str, Tensor], name: str) -> None:
    modality: Modality = next(m for m in MODALITIES if name.startswith(m))
    raw = reference[f"output.{name}"]
    with torch.inference_mode():
        vectors = small({modality: reference[f"input.{name}"]})[modality]
    assert (vectors - F.normalize(raw, dim=-1)).abs().max() <= 2e-6  # 2e-5 is asked; a wrong epsilon already costs 1e-5
    if name in ("depth", "thermal", "imu", "text"):  # clips are averaged after scaling: shorter than the scale
        torch.testing.assert_close(raw.norm(dim=-1), small.logit_scale(modality).expand(len(raw)))


def test_huge_has_the_published_tensors() -> None:
    with torch.device("meta"):
        model = imagebind_huge()
    shapes = {published_name(name): list(t.shape) for name, t in model.state_dict().items()}
    shapes |= {name: list(t.shape) for name, t in published_constants().items()}
    expected = json.loads((REFERENCE / "imagebind_huge_keys.json").read_text())
    assert len(expected) == 1311
    assert shapes == expected


def test_nano_weighs_at_most_25_mb_in_float16() -> None:
    with torch.device("meta"):
        model = imagebind_nano()
    assert sum(p.numel() for p in model.parameters()) * 2 <= 25e6


def test_every_vector_is_a_unit_vector_of_one_space(tiny: ImageBind) -> None:
    with torch.inference_mode():
        vectors = tiny(inputs())
    assert set(vectors) == set(MODALITIES)
    for vector in vectors.values():
        assert vector.shape == (2, TINY.embedding_dim)
        torch.testing.assert_close(vector.norm(dim=-1), torch.ones(2))


def test_items_of_a_batch_do_not_mix(tiny: ImageBind) -> None:
    with torch.inference_mode():
        together = tiny(inputs())
        for i in range(2):
            alone = tiny({modality: x[i : i + 1] for modality, x in inputs().items()})
            for modality, vector in alone.items():
                torch.testing.assert_close(vector[0], together[modality][i], atol=1e-5, rtol=0)


def test_a_still_image_is_both_frames(tiny: ImageBind) -> None:
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        still = tiny({"vision": image})["vision"]
        video = tiny({"vision": torch.stack([image, image], dim=2)})["vision"]
    torch.testing.assert_close(still, video)


@pytest.mark.parametrize("modality", ["vision", "audio"])
def test_clips_are_averaged(tiny: ImageBind, modality: Modality) -> None:
    clips = inputs(3)[modality]
    with torch.inference_mode():
        each = tiny({modality: clips})[modality]
        mean = tiny({modality: clips[None]})[modality]
    torch.testing.assert_close(mean, F.normalize(each.mean(dim=0, keepdim=True), dim=-1))


@pytest.mark.parametrize("patch_px", [14, 32])
def test_vision_stem_is_a_3d_convolution(patch_px: int) -> None:
    torch.manual_seed(0)
    stem = VisionStem(8, patch_px)
    torch.nn.init.normal_(stem.weight, std=0.1)
    frames = torch.randn(2, 3, 2, 224, 224)
    expected = F.conv3d(frames, stem.weight, stride=(2, patch_px, patch_px)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(stem(frames), expected, atol=1e-4, rtol=1e-4)


def test_patches_come_from_the_same_pass(tiny: ImageBind) -> None:
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    encoder = tiny.encoders["vision"]
    assert isinstance(encoder, PatchEncoder)
    vision = {"vision": inputs()["vision"]}
    hook = encoder.trunk.register_forward_hook(count)
    with torch.inference_mode():
        dense = tiny.embed(vision, patches=True)
    hook.remove()
    assert passes == 1
    assert dense.patches is not None
    assert dense.patches.shape == (2, 16, 16, TINY.embedding_dim)
    torch.testing.assert_close(dense.patches.norm(dim=-1), torch.ones(2, 16, 16))
    with torch.inference_mode():
        torch.testing.assert_close(dense.vectors["vision"], tiny(vision)["vision"])


def test_patches_are_rows_and_columns_of_the_image(tiny: ImageBind) -> None:
    image = inputs(1)["vision"]
    changed = image.clone()
    changed[..., 3 * 14 : 4 * 14, 11 * 14 : 12 * 14] += 2.0
    with torch.inference_mode():
        before = tiny.embed({"vision": image}, patches=True).patches
        after = tiny.embed({"vision": changed}, patches=True).patches
    assert before is not None
    assert after is not None
    moved = (before - after).norm(dim=-1)[0]
    assert divmod(int(moved.argmax()), 16) == (3, 11)


def test_patches_of_another_size() -> None:
    model = ImageBind(replace(TINY, vision_patch_px=32), ["vision"]).eval()
    assert model.sizes.vision_grid == 7
    with torch.inference_mode():
        dense = model.embed({"vision": inputs()["vision"]}, patches=True)
    assert dense.patches is not None
    assert dense.patches.shape == (2, 7, 7, TINY.embedding_dim)
    with pytest.raises(ValueError, match="vision_patch_px is 15; it must divide 224"):
        replace(TINY, vision_patch_px=15)


def test_text_is_read_at_its_end_whatever_follows(tiny: ImageBind) -> None:
    tokens = tokenize(["a dog barking", "smoke"])
    encoder = tiny.encoders["text"]
    assert isinstance(encoder, TextEncoder)
    with torch.inference_mode():
        whole = F.normalize(encoder(tokens), dim=-1)  # all 77 columns
        torch.testing.assert_close(tiny({"text": tokens})["text"], whole, atol=1e-6, rtol=0)


def test_bfloat16_points_the_same_way() -> None:
    torch.manual_seed(0)
    model = ImageBind(TINY).eval()
    with torch.inference_mode():
        exact = model(inputs())
        rounded = model.bfloat16()(inputs())
    for modality, vector in rounded.items():
        assert vector.dtype == torch.float32
        assert (vector * exact[modality]).sum(dim=-1).min() >= 0.999


def test_dropping_patches_keeps_the_class_token_and_trains(tiny: ImageBind) -> None:
    encoder = tiny.encoders["audio"]
    assert isinstance(encoder, PatchEncoder)
    assert encoder.tokens(inputs()["audio"], keep=0.25).shape == (2, 1 + 57, 32)
    torch.manual_seed(0)
    model = ImageBind(TINY)
    torch.stack([v.square().sum() + v.sum() for v in model(inputs(), keep=0.5).values()]).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == ["encoders.text.log_logit_scale"]  # only a loss that scales products reaches it


def test_imu_keeps_all_its_patches(tiny: ImageBind) -> None:
    imu = {"imu": inputs()["imu"]}
    with torch.inference_mode():
        assert torch.equal(tiny(imu, keep=0.5)["imu"], tiny(imu)["imu"])


def test_dropped_patches_differ_between_items() -> None:
    torch.manual_seed(0)
    model = ImageBind(TINY).eval()
    same = inputs(1)["depth"].expand(2, -1, -1, -1)
    first, second = model({"depth": same}, keep=0.1)["depth"]
    assert (first - second).abs().max() > 1e-3


def test_logit_scales() -> None:
    model = imagebind_nano(["text"])
    assert model.logit_scale("audio").item() == 20.0
    assert model.logit_scale("text").item() == pytest.approx(1 / 0.07, rel=1e-5)
    with torch.no_grad():
        model.get_parameter("encoders.text.log_logit_scale").fill_(9.0)
    assert model.logit_scale("text").item() == 100.0


@pytest.mark.parametrize(
    "cast", [lambda m: m.bfloat16(), lambda m: m.to("cpu", torch.float16), lambda m: m.double().half().float()]
)
def test_the_logit_scale_is_never_rounded(cast: Callable[[ImageBind], ImageBind]) -> None:
    torch.manual_seed(0)
    model = ImageBind(TINY, ["text"])
    names = list(model.state_dict())
    with torch.no_grad():
        model.get_parameter("encoders.text.log_logit_scale").fill_(4.59)  # in bfloat16 4.59375, in float16 4.58984375
    (model.logit_scale("text") + model({"text": inputs()["text"]})["text"].sum()).backward()
    assert cast(model) is model
    assert model.logit_scale("text").item() == pytest.approx(math.exp(4.59), rel=1e-6)
    scale = model.get_parameter("encoders.text.log_logit_scale")
    assert scale.requires_grad
    assert scale.grad is not None
    assert scale.dtype == scale.grad.dtype == torch.float32
    others = {p.dtype for name, p in model.named_parameters() if name != "encoders.text.log_logit_scale"}
    assert others == {model.get_parameter("encoders.text.pos_embed").dtype}
    assert list(model.state_dict()) == names


def test_a_cast_model_without_memory_says_which_dtypes_it_takes() -> None:
    with torch.device("meta"):
        state = ImageBind(TINY).bfloat16().state_dict()
    assert [name for name, tensor in state.items() if tensor.dtype != torch.bfloat16] == [
        "encoders.text.log_logit_scale"
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_may_be_empty(dtype: torch.dtype) -> None:
    model = ImageBind(TINY).to(dtype).eval()
    empty = {modality: x[:0] for modality, x in inputs().items()} | {"audio": torch.zeros(0, 3, 1, 128, 204)}
    with torch.inference_mode():
        found = model.embed(empty, patches=True)
    assert {vector.shape for vector in found.vectors.values()} == {(0, 24)}
    assert found.patches is not None
    assert found.patches.shape == (0, 16, 16, 24)


def test_only_the_asked_encoders_are_built() -> None:
    model = ImageBind(TINY, ["audio"])
    assert {name.split(".")[1] for name in model.state_dict()} == {"audio"}
    with pytest.raises(InputError, match="no encoder for 'depth'; it has audio"):
        model({"depth": torch.zeros(1, 1, 224, 224)})


@pytest.mark.parametrize(
    ("modality", "wrong", "message"),
    [
        ("vision", torch.zeros(1, 2, 3, 224, 224), r"vision: shape \(1, 2, 3, 224, 224\) is not \[B, 3, 2, 224, 224\]"),
        ("vision", torch.zeros(1, 3, 2, 224, 224, dtype=torch.uint8), "vision: a tensor of torch.uint8"),
        ("audio", torch.zeros(1, 1, 128, 200), r"is not \[B, 1, 128, 204\]"),
        ("audio", torch.zeros(1, 0, 1, 128, 204), "audio: shape"),
        ("depth", torch.zeros(1, 2, 1, 224, 224), "depth: shape"),
        ("imu", torch.zeros(6, 2000), "imu: shape"),
        ("text", torch.zeros(1, 77), "text: a tensor of torch.float32"),
        ("text", torch.zeros(1, 77, dtype=torch.uint8), "text: a tensor of torch.uint8"),
        ("depth", np.zeros((1, 1, 224, 224), np.float32), "depth: a ndarray is not what models.preprocess"),
    ],
)
def test_wrong_inputs_are_named(tiny: ImageBind, modality: Modality, wrong: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny({modality: wrong})


def test_patches_need_a_whole_image(tiny: ImageBind) -> None:
    with pytest.raises(InputError, match="patches need a vision input"):
        tiny.embed({"audio": inputs()["audio"]}, patches=True)
    with pytest.raises(InputError, match="keep = 1"):
        tiny.embed({"vision": inputs()["vision"]}, patches=True, keep=0.5)


def test_sizes_from_published_arguments() -> None:
    huge = {
        "vision_embed_dim": 1280,
        "vision_num_blocks": 32,
        "vision_num_heads": 16,
        "text_embed_dim": 1024,
        "text_num_blocks": 24,
        "text_num_heads": 16,
        "out_embed_dim": 1024,
        "audio_drop_path": 0.1,
        "imu_drop_path": 0.7,
        "kernel_size": (2, 14, 14),
        "audio_stride": 10,
    }
    assert Sizes.from_published(huge) == HUGE
    with pytest.raises(ValueError, match="unknown argument 'vision_depth'"):
        Sizes.from_published({"vision_depth": 3})
    with pytest.raises(ValueError, match="audio_stride is 16; only 10 is supported"):
        Sizes.from_published({"audio_stride": 16})
