"""OpenCLIP's towers as ImageBind's: the same embeddings, or a refusal that names the part.

Every parameter is moved by noise first: fresh models have zero biases and unit LayerNorms, with which a tensor that is
lost or swapped would not show.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from models.encoders import PatchEncoder
from models.files import checkpoint
from models.imagebind import HUGE, ImageBind
from models.interop.openclip import OpenClipError, from_openclip, initialise, sizes_of
from models.modalities import MODALITIES
from models.preprocess import RGB_MEAN, RGB_STD
from models.tokenizer import tokenize
from models.training.loss import info_nce
from models.transformer import TowerSizes

TOLERANCE = 5e-6  # 1e-4 is asked; LayerNorms with ImageBind's epsilon already cost 1e-3
TEXTS = ["a dog barking", "", "smoke", "the robot is falling " * 30]
VISION = {"image_size": 224, "patch_size": 32, "width": 48, "layers": 2, "head_width": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def noisy(model: nn.Module) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3 if parameter.ndim < 2 else 0.02)
    return model.eval()


def small(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return noisy(open_clip.CLIP(24, vision_cfg=VISION | (vision or {}), text_cfg=TEXT | (text or {}), **arguments))


def whole(name: str, blocks: int | None = None) -> Any:
    """A model of open_clip's own sizes; `blocks` makes both towers shallower."""
    config = open_clip.get_model_config(name)
    depth = {"layers": blocks} if blocks else {}
    torch.manual_seed(0)
    return noisy(
        open_clip.create_model(name, vision_cfg=config["vision_cfg"] | depth, text_cfg=config["text_cfg"] | depth)
    )


def images() -> Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))


Expected = tuple[Tensor, Tensor, Tensor]
"""Unit vectors of images, of their patches and of texts."""


def embedded_by(clip: Any) -> Expected:
    """What open_clip itself makes of the images and texts."""
    with torch.inference_mode():
        clip.visual.output_tokens = True
        pooled, tokens = clip.visual(images())
        clip.visual.output_tokens = False
        found = pooled, tokens @ clip.visual.proj, clip.encode_text(tokenize(TEXTS))
        pooled, tokens, texts = (F.normalize(vectors.float(), dim=-1) for vectors in found)
        return pooled, tokens, texts


def apart(model: ImageBind, expected: Expected) -> float:
    """The largest difference between embeddings of images, patches and texts."""
    with torch.inference_mode():
        ours = model.embed({"vision": images(), "text": tokenize(TEXTS)}, patches=True)
        assert ours.patches is not None
        found = ours.vectors["vision"], ours.patches.flatten(1, 2), ours.vectors["text"]
        return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def distance(model: ImageBind, clip: Any) -> float:
    """How far the embeddings of a model are from those of the one that it was made of."""
    return apart(model, embedded_by(clip))


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("ViT-H-14", 2),  # ImageBind's own, all widths as they are
        ("ViT-B-32", None),
        ("ViT-B-16", 2),
        ("ViT-B-32-quickgelu", 3),
        ("ViT-L-14", 2),  # what all its 24 blocks are copied by is what copies those of ViT-B-32
    ],
)
def test_embeddings_are_those_of_open_clip(name: str, blocks: int | None) -> None:
    clip = whole(name, blocks)
    assert distance(from_openclip(clip), clip) <= TOLERANCE


def test_quickgelu_is_kept() -> None:
    clip = small(quick_gelu=True)
    model = from_openclip(clip)
    assert model.sizes.vision.activation == model.sizes.text.activation == "quick_gelu"
    assert distance(model, clip) <= TOLERANCE


def test_h_14_has_the_sizes_of_imagebind_huge() -> None:
    with torch.device("meta"):
        clip = open_clip.create_model("ViT-H-14", device="meta")
    vision, text = (replace(tower, layer_norm_eps=1e-5) for tower in (HUGE.vision, HUGE.text))
    assert sizes_of(clip) == replace(HUGE, vision=vision, text=text)


def test_the_supported_models_of_open_clip() -> None:
    supported = set()
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        if "timm_model_name" in vision or "hf_model_name" in text or isinstance(vision["layers"], list):
            continue  # other classes, refused by their names below
        shallow = {"vision_cfg": vision | {"layers": 1}, "text_cfg": text | {"layers": 1}}
        with torch.device("meta"):
            clip = open_clip.create_model(name, device="meta", **shallow)
        try:
            sizes_of(clip)
        except OpenClipError as error:
            assert "\n" not in str(error)  # noqa: PT017 (one line is what is asked of it)
        else:
            supported.add(name)
    with_quickgelu = {"ViT-B-16", "ViT-B-32", "ViT-H-14", "ViT-L-14"}
    others = {"ViT-B-16-plus", "ViT-H-16", "ViT-L-16", "ViT-M-16", "ViT-M-32", "ViT-S-16", "ViT-S-32"}
    alt = {"ViT-M-32-alt", "ViT-S-16-alt", "ViT-S-32-alt"}
    assert supported == with_quickgelu | {f"{name}-quickgelu" for name in with_quickgelu} | others | alt


def test_two_frames_are_their_mean_image() -> None:
    clip = small()
    frames = torch.randn(2, 3, 2, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        ours = from_openclip(clip)({"vision": frames})["vision"]
        theirs = clip.encode_image(frames.mean(dim=2), normalize=True)
    assert (ours - theirs).abs().max() <= TOLERANCE


def _swap_norms(model: ImageBind) -> None:
    vision = model.encoders["vision"]
    assert isinstance(vision, PatchEncoder)
    vision.pre_norm, vision.head.norm = vision.head.norm, vision.pre_norm


def _forget_half(model: ImageBind) -> None:
    model.get_parameter("encoders.vision.stem.weight").mul_(2)


def _other_epsilon(model: ImageBind) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


def _other_activation(model: ImageBind) -> None:
    model.get_submodule("encoders.text.trunk.blocks.1.mlp").quick = True  # type: ignore[assignment]


def _other_patch_order(model: ImageBind) -> None:
    kernel = model.get_parameter("encoders.vision.stem.weight")
    kernel.copy_(kernel.transpose(-1, -2).clone())


@pytest.mark.parametrize("mutate", [_swap_norms, _forget_half, _other_epsilon, _other_activation, _other_patch_order])
@torch.no_grad()
def test_the_comparison_sees_a_mistake(mutate: Callable[[ImageBind], None]) -> None:
    clip = small()
    model = from_openclip(clip)
    assert distance(model, clip) <= TOLERANCE
    mutate(model)
    assert distance(model, clip) > 5 * TOLERANCE


@torch.no_grad()
def test_the_comparison_sees_every_tensor() -> None:
    clip = small()
    model, expected = from_openclip(clip), embedded_by(clip)
    unseen = []
    for name, parameter in model.named_parameters():
        kept = parameter.clone()
        parameter.copy_(kept.flatten().roll(1).view_as(kept))
        if apart(model, expected) <= 100 * TOLERANCE:
            unseen.append(name)
        parameter.copy_(kept)
    assert unseen == ["encoders.text.log_logit_scale"]  # a factor of products, not of vectors
    assert model.logit_scale("text").item() == pytest.approx(clip.logit_scale.exp().item())


def test_weights_are_copied_and_the_source_stays() -> None:
    clip = small()
    before = deepcopy(clip.state_dict())
    model = from_openclip(clip)
    assert all(torch.equal(before[name], tensor) for name, tensor in clip.state_dict().items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in clip.state_dict().items())


def test_evaluation_mode_whatever_the_source_is_in() -> None:
    clip = small({"patch_dropout": 0.5}).train()  # drops patches while it trains, and none after
    model = from_openclip(clip)
    assert not model.training
    assert distance(model, clip.eval()) <= TOLERANCE


@pytest.mark.gpu
def test_the_model_lies_where_its_source_lies() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clip = small()
    model = from_openclip(clip.cuda())
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert distance(model.cpu(), clip.cpu()) <= TOLERANCE


def test_half_precision_models_become_float32() -> None:
    clip = small()
    open_clip.convert_weights_to_lp(clip, torch.bfloat16)
    model = from_openclip(clip)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert distance(model, clip.float()) <= TOLERANCE


@pytest.mark.parametrize(
    ("vision", "text", "arguments"),
    [
        ({"norm_kwargs": {"eps": 1e-6}}, {}, {}),
        ({"pos_embed_type": "sin_cos_2d"}, {}, {}),
        ({"block_type": "custom"}, {"block_type": "custom"}, {}),
        ({}, {}, {"nonscalar_logit_scale": True}),
        ({}, {}, {"cast_dtype": torch.float16}),
    ],
)
def test_variants_that_the_towers_can_express(
    vision: dict[str, Any], text: dict[str, Any], arguments: dict[str, Any]
) -> None:
    clip = small(vision, text, **arguments)
    assert distance(from_openclip(clip), clip) <= TOLERANCE


def test_images_normalised_in_another_way() -> None:
    clip = small()
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB_MEAN, RGB_STD))
    open_clip.set_model_preprocess_cfg(clip, {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.4, 0.3)})
    with torch.inference_mode():
        theirs = clip.encode_image((pixels - 0.5) / torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), normalize=True)
        ours = from_openclip(clip)({"vision": (pixels - mean) / std})["vision"]
    assert (ours - theirs).abs().max() <= TOLERANCE


def test_training_of_the_other_modalities_begins_here() -> None:
    clip = small()
    tower = TowerSizes(width=16, blocks=1, heads=2)
    others = replace(HUGE, audio=tower, depth=tower, thermal=tower, imu=tower)
    sizes = sizes_of(clip, others)
    assert sizes.embedding_dim == 24
    assert sizes.audio == others.audio
    torch.manual_seed(5)
    model = ImageBind(replace(sizes, vision=replace(sizes.vision, drop_path=0.1)))
    fresh = deepcopy(model.state_dict())
    initialise(model, clip)
    moved = {name.split(".")[1] for name, tensor in model.state_dict().items() if not torch.equal(fresh[name], tensor)}
    assert moved == {"vision", "text"}
    assert model.modalities == MODALITIES
    assert distance(model.eval(), clip) <= TOLERANCE

    for modality in ("vision", "text"):
        model.encoders[modality].requires_grad_(False)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    depth = torch.randn(2, 1, 224, 224, generator=torch.Generator().manual_seed(6))
    losses = []
    for _ in range(8):
        vectors = model({"vision": images(), "depth": depth})
        loss = info_nce(vectors["vision"] @ vectors["depth"].T, model.logit_scale("depth"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert distance(model, clip) <= TOLERANCE


def test_only_the_towers_that_the_model_has_are_initialised() -> None:
    clip = small()
    model = ImageBind(sizes_of(clip), ["text"])
    initialise(model, clip)
    with torch.inference_mode():
        ours, theirs = model({"text": tokenize(TEXTS)})["text"], clip.encode_text(tokenize(TEXTS), normalize=True)
    assert (ours - theirs).abs().max() <= TOLERANCE
    with pytest.raises(OpenClipError, match=r"its embedding_dim is 24, the ImageBind's is 1024; build that one with"):
        initialise(ImageBind(HUGE, []), clip)
    before = deepcopy(model.state_dict())
    with pytest.raises(OpenClipError, match=r"visual\.proj holds NaN"):
        initialise(model, _not_a_number())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    other = replace(sizes_of(clip), vision_patch_px=16)
    with pytest.raises(OpenClipError, match="its vision_patch_px is 32, the ImageBind's is 16"):
        initialise(ImageBind(other, ["text"]), clip)


def test_weights_files_there_and_back(tmp_path: Path) -> None:
    """An OpenCLIP file, read by open_clip; one of ours, written and read again."""
    theirs = whole("ViT-S-32-alt", blocks=1)
    config = open_clip.get_model_config("ViT-S-32-alt")
    shallow = {key: config[key] | {"layers": 1} for key in ("vision_cfg", "text_cfg")}
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    clip = open_clip.create_model(
        "ViT-S-32-alt", pretrained=str(tmp_path / "open_clip_model.safetensors"), force_quick_gelu=True, **shallow
    )
    model = from_openclip(clip)
    path = tmp_path / "towers.safetensors"
    checkpoint.save(model, path, {"source": "random"}, torch.float32)
    loaded = checkpoint.load(path)
    assert loaded.sizes == model.sizes
    assert (loaded.sizes.vision_patch_px, loaded.sizes.text.activation) == (32, "quick_gelu")
    assert loaded.sizes.vision.layer_norm_eps == 1e-5
    assert loaded.modalities == ("vision", "text")
    assert distance(loaded, clip.eval()) <= TOLERANCE


def _custom_text(**arguments: Any) -> Any:
    return open_clip.CustomTextCLIP(24, VISION, TEXT, **arguments)


def _coca() -> Any:
    from open_clip.coca_model import MultimodalCfg

    pooled = VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    text = TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True}
    return open_clip.CoCa(24, MultimodalCfg(width=32, heads=2, layers=1, attn_pooler_heads=2), text, pooled)


def _pruned() -> Any:
    clip = small()
    clip.visual.prune_intermediate_layers(prune_head=True)
    return clip


def _not_a_number() -> Any:
    clip = small()
    with torch.no_grad():
        clip.visual.proj[0, 0] = torch.nan
    return clip


TRUNK = r"visual\.transformer\.resblocks\.0"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ("model", None, None), "tuple is not a plain open_clip.CLIP"),
        (_custom_text, "CustomTextCLIP is not a plain"),
        (lambda: _custom_text(init_logit_bias=-10.0), "CustomTextCLIP is not a plain"),
        (_coca, "CoCa is not a plain"),
        pytest.param(
            lambda: torch.jit.script(small()),
            "RecursiveScriptModule is not a plain",
            marks=pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
        ),
        (lambda: small({"layers": [1, 1, 1, 1]}), "its image tower is a ModifiedResNet; only VisionTransformer"),
        (lambda: small({"timm_model_name": "vit_tiny_patch16_224"}), "its image tower is a TimmModel"),
        (
            lambda: small({"attentional_pool": True, "attn_pooler_heads": 2}),
            r"attentional pooling \(visual\.attn_pool\.",
        ),
        (lambda: small({"attentional_pool": "parallel", "attn_pooler_heads": 2}), "it has attentional pooling"),
        (lambda: small({"pool_type": "avg"}), "pooling of its image tower is avg; only tok is supported"),
        (lambda: small({"no_ln_pre": True}), r"it has no visual\.ln_pre\.bias, which ImageBind's towers have"),
        (lambda: small({"ls_init_value": 0.1}), rf"it has layer scale \({TRUNK}\.ls_1\.gamma\)"),
        (lambda: small(text={"ls_init_value": 0.1}), r"it has layer scale \(transformer\.resblocks\.0"),
        (
            lambda: small({"image_size": 256}),
            r"size of its images is \(256, 256\).*; create it with force_image_size=224",
        ),
        (lambda: small({"image_size": (224, 448)}), r"size of its images is \(224, 448\)"),
        (lambda: small({"patch_size": (32, 16)}), r"size of its patches is \(32, 16\); only \(32, 32\)"),
        (lambda: small({"patch_size": 18}), "vision_patch_px is 18; it must divide 224"),
        (lambda: small({"mlp_ratio": 4.5}), "the MLPs of its image tower are 4.5 times as wide as it, not 4"),
        (lambda: small(text={"mlp_ratio": 2.0}), "the MLPs of its text tower are 2 times as wide"),
        (lambda: small({"act_kwargs": {"approximate": "tanh"}}), r"image tower is GELU\(approximate='tanh'\)"),
        (lambda: small({"norm_kwargs": {"eps": 0.1}}), "layer_norm_eps is 0.1"),
        (lambda: small(text={"norm_kwargs": {"elementwise_affine": False}}), r"it has no ln_final\.bias"),
        (lambda: small({"qk_norm": True}), rf"LayerNorms inside attention or MLP \({TRUNK}\.attn\.ln_k"),
        (lambda: small({"scale_attn": True}), rf"LayerNorms inside attention or MLP \({TRUNK}\.ln_attn"),
        (lambda: small({"scale_attn_inner": True}), "LayerNorms inside attention or MLP"),
        (lambda: small({"scale_fc": True}), "LayerNorms inside attention or MLP"),
        (lambda: small({"scale_heads": True}), r"learned scales inside attention \(.*head_scale"),
        (lambda: small({"scaled_cosine_attn": True}), r"learned scales inside attention \(.*logit_scale"),
        (lambda: small(text={"context_length": 32}), "length of its texts is 32; only 77 is supported"),
        (lambda: small(text={"embed_cls": True}), "length of its texts is 78; only 77"),
        (lambda: small(text={"vocab_size": 32000}), "vocabulary is 32000; only 49408 is supported"),
        (lambda: small(text={"pool_type": "last"}), "pooling of its text tower is last; only argmax"),
        (lambda: small(text={"no_causal_mask": True}), "its text tower has no causal mask"),
        (lambda: small(text={"proj_bias": True}), r"a text projection with a bias \(text_projection\.bias\)"),
        (lambda: small(text={"proj_type": "none"}), "it has no text_projection"),
        (lambda: small(init_logit_bias=-10.0), r"a bias of the logits, as SigLIP has it \(logit_bias\)"),
        (_pruned, r"it has no visual\.proj, which"),
        (_not_a_number, r"its visual\.proj holds NaN or infinite values; load other weights"),
    ],
)
def test_what_the_towers_cannot_express_is_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(OpenClipError, match=f"^open_clip model: .*{message}") as refusal:
        from_openclip(build())
    assert "\n" not in str(refusal.value)
