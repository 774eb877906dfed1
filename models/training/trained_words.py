"""The words that a text tower was trained on."""

from __future__ import annotations

import torch

from models.datasets.dataset import About, all_captions
from models.datasets.pairs import mirrored
from models.encoders import TextEncoder
from models.imagebind import ImageBind
from models.tokenizer import tokenize


@torch.no_grad()
def forget_untrained_words(model: ImageBind, known: set[int]) -> None:
    """Set the embeddings of tokens that no caption held to exact zero, so that a word never learned can be told."""
    text = model.encoders["text"]
    assert isinstance(text, TextEncoder)
    unknown = torch.ones(len(text.token_embedding), dtype=torch.bool)
    unknown[torch.tensor(sorted(known))] = False
    text.token_embedding[unknown] = 0.0


def known_tokens(model: ImageBind) -> set[int]:
    """Ids of the tokens that a model's text tower was trained on; empty without one."""
    if "text" not in model.modalities:
        return set()
    text = model.encoders["text"]
    assert isinstance(text, TextEncoder)
    return set(text.token_embedding.any(dim=1).nonzero()[:, 0].tolist())


def trained_tokens(about: list[About]) -> set[int]:
    """The ids of all tokens of all captions, padding included."""
    texts = {text for facts in about for text in all_captions(facts)}
    return set(tokenize(sorted(texts | {mirrored(text) for text in texts})).flatten().tolist())
