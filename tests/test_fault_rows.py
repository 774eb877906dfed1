"""The table of faults: every row has a command, what a command names is there, and the table is printed as it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as command
from benchmarks.faults.rows import FOLDER, ROWS, Row

ROOT = Path(__file__).parents[1]


def test_every_row_has_a_command_or_says_what_it_waits_for() -> None:
    assert [row.number for row in ROWS] == list(range(1, 38))
    assert all(row.file or row.tests or row.elsewhere for row in ROWS)


def test_no_row_has_two_files_and_no_file_is_without_a_row() -> None:
    files = sorted(path for path in FOLDER.glob("row*_*.py"))
    assert files == sorted(row.file for row in ROWS if row.file)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("row*_*.py")), ids=lambda path: path.stem)
def test_a_file_says_what_it_injects_and_can_be_run(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert (ast.get_docstring(tree) or "").strip()
    runs = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assert len(runs) == 1
    assert len(runs[0].args.args) == len(runs[0].args.defaults), "without arguments"
    assert runs[0].returns is not None
    assert ast.unparse(runs[0].returns) == "Measured"


def test_the_tests_that_rows_name_exist() -> None:
    for row in ROWS:
        for test in row.tests:
            path, _, name = test.partition("::")
            names = name.partition("[")[0].split("::")
            body: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
            for part in names:
                found = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part]
                assert found, f"row {row.number}: {test}"
                body = found[0].body


def write_row(folder: Path, number: int, body: str) -> Path:
    path = folder / f"row{number:02}_made_up.py"
    path.write_text(f'"""A made-up fault."""\nfrom benchmarks.faults.measured import Measured\n{body}\n')
    return path


@pytest.mark.parametrize(
    ("body", "met", "words"),
    [
        (
            'def run() -> Measured:\n    print("noise")\n    return Measured("at most 1 s", "0.5 | 1 s", True)',
            True,
            "0.5",
        ),
        ('def run() -> Measured:\n    return Measured("at most 1 s", "2 s", False)', False, "2 s"),
        ('def run() -> Measured:\n    raise ValueError("no camera")', False, "status 1: ValueError: no camera"),
        ("import os\ndef run() -> Measured:\n    os.abort()", False, "status -6"),
    ],
)
def test_a_row_is_run_apart_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, met: bool, words: str
) -> None:
    write_row(tmp_path, 1, body)
    monkeypatch.setattr("benchmarks.faults.rows.FOLDER", tmp_path)
    outcome = command.outcome_of(ROWS[0])
    assert outcome.met is met
    assert words in outcome.found
    assert words in command.told(outcome)
    assert command.told(outcome).splitlines()[0].split()[:2] == ["1", "yes" if met else "NO"]


def test_a_row_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_row(tmp_path, 1, "import time\ndef run() -> Measured:\n    time.sleep(3600)")
    monkeypatch.setattr("benchmarks.faults.rows.FOLDER", tmp_path)
    monkeypatch.setattr(command, "LIMIT_S", 2.0)
    assert command.outcome_of(ROWS[0]).found == "did not end within 2 s"


def test_the_markdown_table_and_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_row(tmp_path, 2, 'def run() -> Measured:\n    return Measured("a | b", "c", False)')
    monkeypatch.setattr("benchmarks.faults.rows.FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["faults", "2", "23", "--markdown"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "| # | fault | bar | found | met |"
    assert out[2] == f"| 2 | {ROWS[1].fault} | a \\| b | c | NO |"
    assert out[3].endswith("| not built: TLS and tokens | open |")
    assert len(out) == 4


def test_tests_are_run_as_they_are_named() -> None:
    row = Row(99, "x", tests=("tests/test_address.py",))
    outcome = command.outcome_of(row)
    assert outcome.met
    assert "passed" in outcome.found
    assert not command.outcome_of(Row(99, "x", tests=("tests/test_address.py::test_that_is_not_there",))).met


def test_the_command_knows_its_rows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "77"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no row 77" in done.stderr
