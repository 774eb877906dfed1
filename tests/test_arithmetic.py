"""Combinations of embeddings: what an expression says, and where the sum points."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.arithmetic import CombinationError, Term, combine, parse

KINDS = ["text", "image", "audio"]


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("0.5*image:beach.jpg + 0.5*audio:rain.wav", [(0.5, "image", "beach.jpg"), (0.5, "audio", "rain.wav")]),
        ("image:a.jpg", [(1.0, "image", "a.jpg")]),
        ("-image:a.jpg+text:b", [(-1.0, "image", "a.jpg"), (1.0, "text", "b")]),
        ("image:a.jpg - .5 * text: a dog  ", [(1.0, "image", "a.jpg"), (-0.5, "text", "a dog")]),
        ("image:a.jpg -2e-1*text:b", [(1.0, "image", "a.jpg"), (-0.2, "text", "b")]),
        ("text:a + -3.*text:b", [(1.0, "text", "a"), (-3.0, "text", "b")]),
        ("text:a - -1*text:b", [(1.0, "text", "a"), (1.0, "text", "b")]),
        ("image:a-b_c.jpg + audio:../x y.wav", [(1.0, "image", "a-b_c.jpg"), (1.0, "audio", "../x y.wav")]),
        (
            "text:'C++ - a language'-text:\"don't + stop\"",
            [(1.0, "text", "C++ - a language"), (-1.0, "text", "don't + stop")],
        ),
        ("text:don't", [(1.0, "text", "don't")]),
        ("image:C:\\a*b.jpg", [(1.0, "image", "C:\\a*b.jpg")]),
        ("text:'a image:b'", [(1.0, "text", "a image:b")]),
        ("0*text:a", [(0.0, "text", "a")]),
    ],
)
def test_expressions(expression: str, terms: list[tuple[float, str, str]]) -> None:
    assert parse(expression, KINDS) == [Term(*term) for term in terms]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "",
            r"at character 1 expected KIND:NAME or WEIGHT\*KIND:NAME, KIND being one of text, image, audio; found its",
        ),
        ("  ", "at character 3 expected KIND:NAME"),
        ("beach.jpg", "at character 1 expected KIND:NAME .* found 'beach.jpg'"),
        ("smell:x", "at character 1 expected KIND:NAME .* found 'smell:x'"),
        ("image:a.jpg + dog.jpg", "at character 15 expected KIND:NAME .* found 'dog.jpg'"),
        ("0.5image:a", "at character 1 expected KIND:NAME"),
        ("0.5*", "at character 5 expected KIND:NAME .* found its end"),
        ("text:a +", "at character 9 expected KIND:NAME .* found its end"),
        ("text:a + + text:b", r"at character 10 expected KIND:NAME .* found '\+ text:b'"),
        ("image:", "at character 7 expected a name, in quotes if it holds"),
        ("image: + text:a", "at character 7 expected a name"),
        ("text:'a", "at character 6 expected a name"),
        ("text:' '", "at character 6 expected a name"),
        ("text:'a' text:b", "at character 6 expected a name"),
        ("text:a image:b.jpg", r"at character 7 expected \+ or -; found ' image:b.jpg'"),
        ("0.5*text:a*image:b", r"at character 11 expected \+ or -"),
        ("1e999*text:a", "at character 1 expected a weight that is not infinite"),
        ("nan*text:a", "at character 1 expected KIND:NAME"),
        ("x" * 99, r"found 'x{24}'\.\.\.$"),
    ],
)
def test_what_cannot_be_read_is_shown_with_its_place(expression: str, message: str) -> None:
    with pytest.raises(CombinationError, match=message) as caught:
        parse(expression, KINDS)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="0123456789.eE*:+-'\" abtexim\n", max_size=40))
def test_every_string_is_read_or_refused(expression: str) -> None:
    try:
        terms = parse(expression, ["text", "a"])
    except CombinationError:
        return
    assert terms
    for term in terms:
        assert math.isfinite(term.weight)
        assert term.kind in ("text", "a")
        assert term.name.strip()


@given(
    st.lists(
        st.tuples(
            st.floats(-9, 9).map(lambda x: round(x, 3)), st.sampled_from(KINDS), st.sampled_from(["a", "b+c", "d - e"])
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_in_quotes_is_read_again(terms: list[tuple[float, str, str]]) -> None:
    expression = " + ".join(f"{weight}*{kind}:'{name}'" for weight, kind, name in terms)
    assert parse(expression, KINDS) == [Term(*term) for term in terms]


def test_a_combination_is_the_normalised_sum_of_weighted_unit_vectors() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 16) * torch.tensor([[20.0], [1.0], [0.01]])  # lengths do not matter
    weights = [0.5, -1.0, 2.0]
    units = vectors / vectors.norm(dim=-1, keepdim=True)
    expected = F.normalize(0.5 * units[0] - units[1] + 2.0 * units[2], dim=0)
    found = combine(vectors, weights)
    torch.testing.assert_close(found, expected)
    assert float(found.norm()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(combine(vectors.bfloat16(), weights), expected, atol=2e-2, rtol=0)


def test_half_and_half_lies_between() -> None:
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(combine(torch.stack([x, y]), [0.5, 0.5]), torch.tensor([0.5, 0.5]).sqrt())


@pytest.mark.parametrize("scale", [1e-300, 1e39, 1e300])
def test_only_the_ratio_of_weights_matters(scale: float) -> None:
    vectors = torch.eye(2)
    torch.testing.assert_close(combine(vectors, [3 * scale, -4 * scale]), torch.tensor([0.6, -0.8]))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [math.nan, 1.0]])
def test_a_sum_without_direction_is_refused(weights: list[float]) -> None:
    torch.manual_seed(0)
    vector = torch.randn(16)
    with pytest.raises(CombinationError, match="the terms cancel"):
        combine(torch.stack([vector, 3 * vector]), weights)
