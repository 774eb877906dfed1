"""The table of `make mutants` fits the source, so that it can be run whenever it is wanted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_stands_once_in_its_file_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
    files = [word.partition("::")[0] for word in shlex.split(mutant.tests) if word.endswith(".py") or "::" in word]
    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_they_are_many_and_differ() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
