"""Two versions compared: measured in turn, divided round by round, held to the bar; nothing is left checked out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import two_versions
from benchmarks.two_versions import BARRED, CPU, SETTLED, compare

ROOT = Path(__file__).parents[1]


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


pytestmark = pytest.mark.skipif(git("rev-parse", "HEAD").returncode != 0, reason="not in a checkout of git")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[Path]]:
    """Gives runs made-up figures, this tree's `factor` times the other's; returns the trees as they are measured."""

    def give(factor: float) -> list[Path]:
        trees: list[Path] = []

        def figures(tree: Path, _seconds: float, *, busy: bool) -> dict[str, float]:
            assert (tree / "agent" / "cli.py").exists()
            assert busy
            trees.append(tree)
            mine = factor if tree == ROOT else 1.0
            return {"start, s": 3.0, SETTLED: 80.0 * mine * len(trees), CPU: 100.0 * mine * len(trees)}

        monkeypatch.setattr(two_versions, "_figures", figures)
        return trees

    return give


@pytest.mark.parametrize(("factor", "status"), [(0.5, 0), (3.0, 1)])
def test_both_are_measured_in_turn_and_divided(
    measured: Callable[[float], list[Path]], capsys: pytest.CaptureFixture[str], factor: float, status: int
) -> None:
    trees, before = measured(factor), git("worktree", "list").stdout
    with pytest.raises(SystemExit) as ended:
        compare("HEAD", rounds=3, seconds=1.0, busy=True)
    assert int(ended.value.code or 0) == status
    assert [tree == ROOT for tree in trees] == [True, False, False, True, True, False]
    out = capsys.readouterr().out
    for name in BARRED:
        [line] = [line for line in out.splitlines() if line.startswith(name)]
        ratios = [float(word) for word in line.removeprefix(name).split()[:4]]
        assert ratios == pytest.approx([factor / 2, factor * 4 / 3, factor * 5 / 6, factor * 5 / 6], abs=2e-3)
        assert ("NOT MET" in line) == bool(status)
    assert git("worktree", "list").stdout == before
    assert not trees[1].exists()


def test_a_revision_that_is_not_there() -> None:
    with pytest.raises(SystemExit, match="no-such-thing: cannot be checked out"):
        compare("no-such-thing", rounds=1, seconds=1.0)
