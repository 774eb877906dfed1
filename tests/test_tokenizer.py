"""Tokens against the published code's, and text as data that no one trained."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tokenizer
from models.tokenizer import END, START, TokenizerError, tokenize, words_of

REFERENCE = json.loads((Path(__file__).parent / "data" / "reference" / "texts.json").read_text("utf-8"))


@pytest.fixture
def fresh_vocabulary() -> Iterator[None]:
    """Nothing cached before, nothing odd cached after."""
    caches = (tokenizer._vocabulary, tokenizer._ids_of_word)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: repr(case["text"][:20]))
def test_tokens_of_the_published_code(case: dict[str, object]) -> None:
    ids = case["ids"]
    assert isinstance(ids, list)
    assert tokenize([str(case["text"])])[0].tolist() == ids + [0] * (77 - len(ids))


def test_reference_holds_a_cut_and_an_empty_text() -> None:
    lengths = [len(case["ids"]) for case in REFERENCE]
    assert min(lengths) == 2
    assert max(lengths) == 77


def test_a_batch_is_its_rows() -> None:
    texts = [case["text"] for case in REFERENCE]
    batch = tokenize(texts)
    assert batch.dtype == torch.int64
    assert batch.shape == (len(texts), 77)
    for i, text in enumerate(texts):
        assert torch.equal(batch[i], tokenize([text])[0])
    assert tokenize([]).shape == (0, 77)


@pytest.mark.parametrize("special", ["<|startoftext|>", "<|endoftext|>", "<start_of_text>", "<end_of_text>"])
def test_special_token_strings_are_plain_text(special: str) -> None:
    ids = tokenize([f"{special} dog"])[0].tolist()
    assert ids.count(START) == 1
    assert ids.count(END) == 1
    assert ids.index(END) == len([i for i in ids if i]) - 1


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=100))
def test_any_text_gives_one_start_one_end_and_zeros(text: str) -> None:
    ids = tokenize([text])[0].tolist()
    end = ids.index(END)
    assert ids[0] == START
    assert all(0 <= i < START for i in ids[1:end])
    assert not any(ids[end + 1 :])


def test_words_are_the_tokens_in_between() -> None:
    words = words_of("Don't fall,  ROBOT &amp; 🐶!")
    assert [word for word, _ in words] == ["don", "'t", "fall", ",", "robot", "&", "🐶!"]
    flat = [i for _, ids in words for i in ids]
    assert tokenize(["Don't fall,  ROBOT &amp; 🐶!"])[0, : len(flat) + 2].tolist() == [START, *flat, END]
    assert len(words_of("supercalifragilisticexpialidocious")[0][1]) > 1


def made_up_texts(seed: int, number: int) -> list[str]:
    """Texts of many alphabets, emoji, numbers, punctuation, markup, UTF-8 read as Latin-1, and control characters."""
    draw = random.Random(seed)
    alphabets = [
        "etaoin shrdlu " * 3 + "'", "ABCDEFGHIJ klmnop", "0123456789.,:", "àéîõüçßñÆØ ", "абвгдежзийклмн ", "αβγδεζηθ ",
        "日本語中文한국어 ", "ابتثجحخ ", "हिन्दी ", "🐶🔥🤖👍🏽 ", "!?.,;:-–—…“”‘’()[]{}<>@#$%^&*_+=|~`",
        "\t\n\u00a0\u2028\x85\x00\x7f ", "ﬁﬂＡＢＣ½Ⅶ²", "Ã©â€™Ã¼ ", "&amp;lt; &quot; &eacute; <b>",
    ]  # fmt: skip
    return [
        "".join(
            draw.choice(alphabet)
            for alphabet in draw.choices(alphabets, k=draw.randint(1, 6))
            for _ in range(draw.randint(1, 14))
        )
        for _ in range(number)
    ]


def test_tokens_of_open_clip_as_they_were_stored() -> None:
    """`made_up_texts(9, 120)` with the ids that open_clip 3.3.0 gave."""
    stored = json.loads((Path(__file__).parent / "data" / "tokenizer" / "open_clip.json").read_text("utf-8"))
    assert len(stored) == 120
    tokens = tokenize([text for text, _ in stored])
    for row, (text, ids) in zip(tokens.tolist(), stored, strict=True):
        assert row == ids + [0] * (77 - len(ids)), text


def test_tokens_are_those_of_open_clip() -> None:
    theirs = pytest.importorskip("open_clip.tokenizer", reason="open_clip_torch is not installed").SimpleTokenizer()
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    texts = made_up_texts(11, 3000) + readme.splitlines()
    expected = theirs(texts)
    for text, ours, other in zip(texts, tokenize(texts), expected, strict=True):
        assert torch.equal(ours, other), text


def test_the_shipped_merges_are_those_of_open_clip() -> None:
    file = Path(str(pytest.importorskip("open_clip").__file__)).with_name("bpe_simple_vocab_16e6.txt.gz")
    shipped = gzip.decompress(tokenizer.VOCABULARY.read_bytes()).decode()
    assert gzip.decompress(file.read_bytes()).decode().startswith(shipped)
    assert shipped.count("\n") == 49408 - 512 - 2 + 1


def test_text_needs_no_open_clip() -> None:
    code = "import sys; from models.tokenizer import tokenize; tokenize(['a dog']); print('open_clip' in sys.modules)"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.usefixtures("fresh_vocabulary")
@pytest.mark.parametrize(
    "content",
    [None, b"not gzip", gzip.compress(b"#version\na b\n"), gzip.compress(b"x" * 999)[:20]],
    ids=["missing", "not gzip", "one merge", "cut"],
)
def test_damaged_vocabulary_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "merges.txt.gz"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(tokenizer, "VOCABULARY", file)
    with pytest.raises(TokenizerError, match=r"merges\.txt\.gz: cannot be read .*; install sensebind again"):
        tokenize(["dog"])
