"""Every example in a docstring of `models` and in a page of `docs` does what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import models

ROOT = Path(__file__).parents[1]
MODULES = sorted(info.name for info in pkgutil.walk_packages(models.__path__, "models."))
PAGES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples may write files."""
    monkeypatch.chdir(tmp_path)


def failures(examples: doctest.DocTest) -> str:
    said: list[str] = []
    doctest.DocTestRunner().run(examples, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    for examples in doctest.DocTestFinder().find(importlib.import_module(name)):
        assert failures(examples) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_pages(page: Path) -> None:
    # A fence is not what the example before it prints.
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.MULTILINE)
    assert failures(doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)) == ""


def test_an_example_that_is_wrong_is_found() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected:\n    3\nGot:\n    2" in failures(wrong)
