"""CLIP's byte-pair tokenizer (Radford 2021; Sennrich 2016 for the pairs): text -> 77 token ids.

The vocabulary is a list of pairs to merge, in order of importance. Ids 0..255 are bytes inside a word, 256..511 bytes
that end a word, 512 + n is the result of the n-th merge, and the last two mark the start and the end of the text.
Text is data: a string that looks like a special token is tokenized as any other string.
"""

from __future__ import annotations

import gzip
import html
import zlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import ftfy
import regex
import torch
from torch import Tensor

from common.errors import UserFault
from models.encoders import TEXT_TOKENS, TEXT_VOCABULARY

START: Final = TEXT_VOCABULARY - 2
END: Final = TEXT_VOCABULARY - 1
_MERGES: Final = TEXT_VOCABULARY - 2 - 512
VOCABULARY: Final = Path(__file__).parent / "shipped" / "clip_merges.txt.gz"

_PRINTABLE: Final = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_ID_OF_BYTE: Final = {byte: i for i, byte in enumerate(_PRINTABLE + sorted(set(range(256)) - set(_PRINTABLE)))}
"""The printable Latin-1 characters come first, then the bytes that have no printable form."""

_WORD: Final = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


class TokenizerError(UserFault, RuntimeError):
    """The vocabulary file is missing or damaged."""


def tokenize(texts: Sequence[str]) -> Tensor:
    """Token ids, int64 [B, 77]: start, words, end, zeros. Longer texts are cut before the end mark.

    >>> tokenize(["A dog."])[0, :6].tolist()
    [49406, 320, 1929, 269, 49407, 0]
    """
    tokens = torch.zeros(len(texts), TEXT_TOKENS, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        ids = [i for _, word_ids in words_of(text) for i in word_ids][: TEXT_TOKENS - 2]
        row[: len(ids) + 2] = torch.tensor([START, *ids, END])
    return tokens


def words_of(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The cleaned words of a text with their token ids, uncut: what a caller needs to name words never trained.

    >>> words_of("A woof")
    [('a', (320,)), ('woof', (24028,))]
    """
    cleaned = html.unescape(html.unescape(ftfy.fix_text(text)))
    words: list[str] = _WORD.findall(" ".join(cleaned.split()).lower())
    return [(word, _ids_of_word(word)) for word in words]


@lru_cache(maxsize=16384)
def _ids_of_word(word: str) -> tuple[int, ...]:
    """Merge the neighbours whose merge comes first in the vocabulary until no neighbours merge."""
    merges = _vocabulary()
    ids = [_ID_OF_BYTE[byte] for byte in word.encode()]
    ids[-1] += 256
    while len(ids) > 1:
        merged = min(merges.get(pair, TEXT_VOCABULARY) for pair in pairwise(ids))
        if merged == TEXT_VOCABULARY:
            break
        shorter: list[int] = []
        i = 0
        while i < len(ids):
            if i + 1 < len(ids) and merges.get((ids[i], ids[i + 1])) == merged:
                shorter.append(merged)
                i += 2
            else:
                shorter.append(ids[i])
                i += 1
        ids = shorter
    return tuple(ids)


@cache
def _vocabulary() -> Mapping[tuple[int, int], int]:
    """Pair of ids -> id of their merge, from the shipped file, of which `clip_merges.LICENSE` says where it is from.

    The file writes a byte without printable form as the character 256 + n, and the end of a word as `</w>`.
    """
    try:
        lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : _MERGES + 1]
        return _parsed(lines)
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise TokenizerError(f"{VOCABULARY}: cannot be read ({error!r}); install sensebind again") from error


def _parsed(lines: Sequence[str]) -> dict[tuple[int, int], int]:
    """Lines of two symbols each, in order -> pair of ids -> id."""
    id_of: dict[str, int] = {}
    for byte, i in _ID_OF_BYTE.items():
        symbol = chr(byte) if byte in _PRINTABLE else chr(256 + i - len(_PRINTABLE))
        id_of[symbol], id_of[f"{symbol}</w>"] = i, i + 256
    merges: dict[tuple[int, int], int] = {}
    for merged, line in enumerate(lines, start=512):
        left, right = line.split()
        merges[id_of[left], id_of[right]] = id_of[left + right] = merged
    if len(merges) != _MERGES:
        raise ValueError(f"{len(merges)} merges instead of {_MERGES}")
    return merges
