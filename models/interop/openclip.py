"""OpenCLIP's image and text towers (Radford 2021; Ilharco 2021) as ImageBind's: ImageBind is trained against them.

Embeddings of an image or a text are those of the open_clip model in evaluation mode. A model with a part that the
towers here do not have is refused by that part's name: nothing is approximated.

The 2-D patch kernel becomes one of two frames with half of its weights on each. A still image, which is both frames,
then gives what it gave before, and two frames give what their mean image gave.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from models.encoders import FRAMES, TEXT_TOKENS, TEXT_VOCABULARY
from models.extent import IMAGE_PX
from models.imagebind import HUGE, ImageBind, Sizes
from models.modalities import Modality
from models.preprocess import RGB_MEAN, RGB_STD
from models.transformer import Activation, TowerSizes

if TYPE_CHECKING:
    import open_clip

TOWERS: Final[tuple[Modality, ...]] = ("vision", "text")

_RENAMES: Final = (
    (r"encoders\.vision\.stem\.weight", r"visual.conv1.weight"),
    (r"encoders\.vision\.cls_token", r"visual.class_embedding"),
    (r"encoders\.vision\.pos_embed", r"visual.positional_embedding"),
    (r"encoders\.vision\.pre_norm\.(\w+)", r"visual.ln_pre.\1"),
    (r"encoders\.vision\.head\.norm\.(\w+)", r"visual.ln_post.\1"),
    (r"encoders\.vision\.head\.proj\.weight", r"visual.proj"),
    (r"encoders\.text\.token_embedding", r"token_embedding.weight"),
    (r"encoders\.text\.pos_embed", r"positional_embedding"),
    (r"encoders\.text\.head\.norm\.(\w+)", r"ln_final.\1"),
    (r"encoders\.text\.head\.proj\.weight", r"text_projection"),
    (r"encoders\.text\.log_logit_scale", r"logit_scale"),
    (r"encoders\.vision\.trunk\.blocks\.(.+)", r"visual.transformer.resblocks.\1"),
    (r"encoders\.text\.trunk\.blocks\.(.+)", r"transformer.resblocks.\1"),
    (r"(.+)\.norm_([12])\.(\w+)", r"\1.ln_\2.\3"),
    (r"(.+)\.attn\.qkv\.(\w+)", r"\1.attn.in_proj_\2"),
    (r"(.+)\.attn\.out\.(\w+)", r"\1.attn.out_proj.\2"),
    (r"(.+)\.mlp\.fc1\.(\w+)", r"\1.mlp.c_fc.\2"),
    (r"(.+)\.mlp\.fc2\.(\w+)", r"\1.mlp.c_proj.\2"),
)
"""Our name (a pattern for the whole name) -> open_clip's; all that match apply, one after the other."""

_FOREIGN: Final = (
    (r".*\.ls_[12]\..*", "layer scale"),
    (r"visual\.attn_pool.*", "attentional pooling"),
    (r"text_projection\..*", "a text projection with a bias"),
    (r"logit_bias", "a bias of the logits, as SigLIP has it"),
    (r".*\.(ln_q|ln_k|ln_inner|ln_attn|mlp\.ln)\..*", "LayerNorms inside attention or MLP"),
    (r".*\.attn\.(logit_scale|head_scale)", "learned scales inside attention"),
)
"""Tensors that only other architectures have (a pattern for the whole name) -> what they are."""


class OpenClipError(ValueError):
    """An open_clip model cannot be taken; one line: which part, what was found, what is needed."""

    def __init__(self, found: str) -> None:
        super().__init__(f"open_clip model: {found}")


def sizes_of(clip_model: open_clip.CLIP, others: Sizes = HUGE) -> Sizes:
    """Sizes whose image and text towers are those of `clip_model`; the other modalities' are those of `others`.

    Reads no weights, so the model may lie on the meta device. Raises OpenClipError naming what the towers here do
    not have.
    """
    import open_clip

    if not isinstance(clip_model, open_clip.CLIP):
        raise OpenClipError(
            f"{type(clip_model).__name__} is not a plain open_clip.CLIP; CustomTextCLIP, CoCa and scripted models "
            "are not supported"
        )
    visual = clip_model.visual
    if not isinstance(visual, open_clip.transformer.VisionTransformer):
        raise OpenClipError(f"its image tower is a {type(visual).__name__}; only VisionTransformer is supported")
    try:
        sizes = replace(
            others,
            embedding_dim=visual.output_dim,
            vision=_tower("image", visual.transformer, visual.modules()),
            text=_tower("text", clip_model.transformer, [*clip_model.transformer.modules(), clip_model.ln_final]),
            vision_patch_px=visual.patch_size[0],
        )
    except OpenClipError:
        raise
    except ValueError as error:
        raise OpenClipError(str(error)) from error
    _check_tensors(clip_model, sizes)
    _check_settings(clip_model)
    return sizes


def from_openclip(clip_model: open_clip.CLIP) -> ImageBind:
    """The image and text towers as a model of their own, float32, in evaluation mode, on the device of `clip_model`.

    Weights are copied, never shared. Raises OpenClipError as `sizes_of` does, and for weights that are not finite.

        >>> import open_clip
        >>> model = from_openclip(open_clip.create_model("ViT-S-32"))  # random weights
        >>> model.modalities, model.sizes.embedding_dim, model.sizes.vision_grid
        (('vision', 'text'), 384, 7)
    """
    with torch.device("meta"):
        model = ImageBind(sizes_of(clip_model), TOWERS)
    model.to_empty(device=clip_model.logit_scale.device)
    initialise(model, clip_model)
    return model.eval()


@torch.no_grad()
def initialise(model: ImageBind, clip_model: open_clip.CLIP) -> None:
    """Overwrite the image and text towers of `model` with those of `clip_model`; the other towers stay as they are.

    `model` is one of `sizes_of(clip_model)`: where training of the other modalities begins. Raises OpenClipError as
    `from_openclip` does, and where the sizes differ; nothing is written then.
    """
    needed = sizes_of(clip_model, model.sizes)
    for field in ("embedding_dim", "vision_patch_px", *TOWERS):
        theirs, ours = (_without_drop_path(getattr(sizes, field)) for sizes in (needed, model.sizes))
        if theirs != ours:
            raise OpenClipError(f"its {field} is {theirs}, the ImageBind's is {ours}; build that one with sizes_of()")
    tensors = _for_our_pixels(clip_model)
    for source, value in tensors.items():
        if not value.isfinite().all():
            raise OpenClipError(f"its {source} holds NaN or infinite values; load other weights")
    for name, parameter in model.named_parameters():
        if name.split(".")[1] not in TOWERS:
            continue
        value = tensors[openclip_name(name)]
        if name == "encoders.vision.stem.weight":
            value = (value / FRAMES).unsqueeze(2).expand_as(parameter)  # [W, 3, P, P] -> [W, 3, 2, P, P]
        elif name.endswith("head.proj.weight"):
            value = value.T  # [W, D] -> [D, W]
        parameter.copy_(value.reshape(parameter.shape))  # the rest differ in axes of length 1


def openclip_name(name: str) -> str:
    """open_clip's name of one of our image or text tower's tensors."""
    for pattern, replacement in _RENAMES:
        name = re.sub(f"^{pattern}$", replacement, name)
    return name


def _tower(which: str, transformer: Any, modules: Iterable[nn.Module]) -> TowerSizes:
    blocks = list(transformer.resblocks)
    width = transformer.width
    mlp_width = blocks[0].mlp.c_fc.out_features
    if mlp_width != 4 * width:
        raise OpenClipError(f"the MLPs of its {which} tower are {mlp_width / width:.4g} times as wide as it, not 4")
    epsilons = {module.eps for module in modules if isinstance(module, nn.LayerNorm)}
    if len(epsilons) > 1:
        raise OpenClipError(f"the LayerNorms of its {which} tower differ in eps ({sorted(epsilons)})")
    return TowerSizes(
        width,
        len(blocks),
        blocks[0].attn.num_heads,
        layer_norm_eps=epsilons.pop(),
        activation=_activation(which, blocks[0].mlp.gelu),
    )


def _activation(which: str, module: nn.Module) -> Activation:
    import open_clip

    if isinstance(module, open_clip.transformer.QuickGELU):
        return "quick_gelu"
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
    raise OpenClipError(f"the activation of its {which} tower is {module}; exact GELU and QuickGELU are supported")


def _check_tensors(clip_model: open_clip.CLIP, sizes: Sizes) -> None:
    with torch.device("meta"):
        needed = {openclip_name(name) for name, _ in ImageBind(sizes, TOWERS).named_parameters()}
    held = set(clip_model.state_dict())
    if foreign := sorted(held - needed):
        part = next((part for pattern, part in _FOREIGN if re.fullmatch(pattern, foreign[0])), "an unknown part")
        raise OpenClipError(f"it has {part} ({foreign[0]}), which ImageBind's towers do not have")
    if lacking := sorted(needed - held):
        raise OpenClipError(f"it has no {lacking[0]}, which ImageBind's towers have")


def _check_settings(clip_model: open_clip.CLIP) -> None:
    """Check the settings that the tensors' names do not show."""
    visual = clip_model.visual
    patch_px = tuple(visual.patch_size)
    settings = (
        ("size of its images", tuple(visual.image_size), (IMAGE_PX, IMAGE_PX), "; create it with force_image_size=224"),
        ("size of its patches", patch_px, patch_px[:1] * 2, ""),
        ("pooling of its image tower", visual.pool_type, "tok", ""),
        ("pooling of its text tower", clip_model.text_pool_type, "argmax", ""),
        ("length of its texts", len(clip_model.positional_embedding), TEXT_TOKENS, ""),
        ("vocabulary", clip_model.token_embedding.num_embeddings, TEXT_VOCABULARY, ""),
    )
    for what, found, needed, advice in settings:
        if found != needed:
            raise OpenClipError(f"the {what} is {found}; only {needed} is supported{advice}")
    if clip_model.attn_mask is None:
        raise OpenClipError("its text tower has no causal mask; only causal text is supported")


def _for_our_pixels(clip_model: open_clip.CLIP) -> dict[str, Tensor]:
    """The model's tensors, such that its images may be normalised as `models.preprocess` does it.

    A few models were trained with another mean m' and standard deviation s'. With ours, m and s, their pixel is
    x s / s' + (m - m') / s': a factor on the kernel, and a constant that every patch's position takes.
    """
    tensors: dict[str, Tensor] = clip_model.state_dict()
    kernel = tensors["visual.conv1.weight"].float()  # [W, 3, P, P]
    positions = tensors["visual.positional_embedding"].float()  # [1 + patches, W]
    visual = clip_model.visual
    theirs = (getattr(visual, "image_mean", RGB_MEAN), getattr(visual, "image_std", RGB_STD))
    mean, std, their_mean, their_std = (kernel.new_tensor(v).view(3, 1, 1) for v in (RGB_MEAN, RGB_STD, *theirs))
    constant = (kernel * ((mean - their_mean) / their_std)).sum(dim=(1, 2, 3))  # [W]
    return tensors | {
        "visual.conv1.weight": kernel * (std / their_std),
        "visual.positional_embedding": torch.cat([positions[:1], positions[1:] + constant]),
    }


def _without_drop_path(size: int | TowerSizes) -> int | TowerSizes:
    """Stochastic depth is the training run's own choice."""
    return replace(size, drop_path=0.0) if isinstance(size, TowerSizes) else size
