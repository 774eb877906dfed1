"""The small model whose outputs the published code computed: `tests/data/reference/small_*`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.encoders import TEXT_VOCABULARY
from models.files.checkpoint import from_published
from models.imagebind import ImageBind, Sizes

REFERENCE = Path(__file__).parent / "data" / "reference"


def small_model() -> ImageBind:
    """In evaluation mode; the token table's rows that no text uses are zero."""
    state = load_file(REFERENCE / "small_state.safetensors")
    ids, rows = state.pop("token_ids"), state.pop("token_rows")
    table = torch.zeros(TEXT_VOCABULARY, rows.shape[1]).index_copy(0, ids, rows)
    state["modality_preprocessors.text.token_embedding.weight"] = table
    sizes = Sizes.from_published(json.loads((REFERENCE / "small_config.json").read_text()))
    return from_published(state, sizes).eval()
