"""The fuzz targets, shortly and always in the same way: what is kept, and some hundred seeded mutations of each."""

from __future__ import annotations

import ctypes
import multiprocessing
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz import built_in, scratch
from fuzz.__main__ import wait_for
from fuzz.coverage import Coverage
from fuzz.current import Current
from fuzz.judging import Finding, Judge
from fuzz.mutation import MOST_BYTES, mutated
from fuzz.targets import CORPUS, TARGETS, Target, target

EXECUTIONS = 2000
SLOW = {"config": 500, "log_info": 1000, "viewers": 300, "published": 1000, "imu_table": 1000}
"""Targets that take a millisecond and more."""
MOST_CORPUS_BYTES = 200_000
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", TARGETS)
def test_seeded_executions_find_nothing(name: str) -> None:
    found: list[Finding] = []
    judge = built_in.fuzz(target(name), SLOW.get(name, EXECUTIONS), seed=1, tell=found.append)
    assert not found, "\n".join(f"{f.kind} for {f.data[:300]!r}:\n{f.told}" for f in found)
    assert judge.executions >= SLOW.get(name, EXECUTIONS)


def test_the_corpus_is_small_and_belongs_to_targets() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < MOST_CORPUS_BYTES
    assert all(target(name).seeds() for name in TARGETS)


def made_up(one: object, peak_mb: float = 50.0) -> Target:
    return Target("made_up", one, lambda: [b"seed"], (b"token",), peak_mb)  # type: ignore[arg-type]


def raises(data: bytes) -> None:
    if data.startswith(b"x"):
        raise ValueError("of one kind")
    if data.startswith(b"y"):
        raise KeyError("of another")


def computes(data: bytes) -> None:
    until_s = time.process_time() + len(data) / 4
    while len(data) > 4 and time.process_time() < until_s:
        pass


def hoards(data: bytes) -> None:
    bytearray(b"1") * (len(data) << 20)


def test_each_kind_of_finding_is_told_once_and_kept(tmp_path: Path) -> None:
    judge = Judge(made_up(raises))
    found = [judge.run(data) for data in (b"a", b"x1", b"x2", b"y")]
    assert [finding is not None for finding in found] == [False, True, False, True]
    assert [kind.rpartition("-")[0] for kind in judge.seen] == ["ValueError-test_fuzz", "KeyError-test_fuzz"]
    assert list(judge.seen.values()) == [2, 1]
    path = found[1].keep(tmp_path / "findings")  # type: ignore[union-attr]
    assert path.read_bytes() == b"x1"
    assert "of one kind" in path.with_suffix(".txt").read_text()


def test_what_takes_long_and_what_takes_much_memory_is_found() -> None:
    slow, hungry = Judge(made_up(computes)).run(bytes(5)), Judge(made_up(hoards)).run(bytes(200))
    assert slow is not None
    assert slow.kind == "slow"
    assert hungry is not None
    assert hungry.kind == "hungry"
    assert Judge(made_up(hoards)).run(bytes(20)) is None


def test_inputs_that_reach_new_lines_are_kept_and_mutated_further(tmp_path: Path) -> None:
    from fuzz import imu_lines

    ran: list[bytes] = []

    def one(data: bytes) -> None:
        ran.append(data)
        imu_lines.one(b"\x20\x40\n" + data)

    built_in.fuzz(made_up(one), 500, grown=tmp_path / "grown", tell=lambda _: None)
    kept = [path.read_bytes() for path in (tmp_path / "grown").iterdir()]
    assert kept
    assert set(kept) < set(ran)
    again = built_in.fuzz(made_up(one), len(kept) + 1, grown=tmp_path / "grown", tell=lambda _: None)
    assert again.executions == len(kept) + 1
    assert len(list((tmp_path / "grown").iterdir())) == len(kept), "they reach nothing new a second time"


def test_mutations_are_the_same_for_the_same_seed_and_bounded() -> None:
    def some(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [mutated([b"", b"123 abc" * 40], (b"[" * 500,), rng) for _ in range(500)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    assert max(map(len, some(3))) <= MOST_BYTES
    assert len(set(some(4))) > 300


def test_coverage_counts_lines_of_the_program_only() -> None:
    from drivers.imu.rows import axes_matrix

    coverage = Coverage()
    assert not coverage.is_new(lambda: sorted([2, 1]))
    assert coverage.is_new(lambda: axes_matrix("x y z"))
    assert not coverage.is_new(lambda: axes_matrix("x y z"))
    assert coverage.is_new(lambda: axes_matrix("no")), "raises, elsewhere"


def ends_at_the_third(path: Path) -> None:
    current = Current(path).open()
    for data in (b"one", b"two", b"three"):
        current.begin(data)
    ctypes.string_at(0)


def test_an_input_that_ends_its_process_is_known(tmp_path: Path) -> None:
    current = Current.new(tmp_path / "current")
    process = multiprocessing.get_context("spawn").Process(target=ends_at_the_third, args=[tmp_path / "current"])
    process.start()
    process.join()
    assert process.exitcode == -11
    assert (current.executions, current.data) == (3, b"three")


def test_an_input_that_hangs_ends_its_process(tmp_path: Path) -> None:
    current = Current.new(tmp_path / "current")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    assert wait_for(process, current, hang_s=0.2, look_s=0.1) == -9


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzz", "--built-in", "--executions", "300", "--keep", str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    before = set(scratch.folder().parent.glob("sensebind-fuzz-*"))
    done = subprocess.run(
        [*command, "--target", "wit", "--target", "imu_table"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["wit", "300"], ["imu_table", "300"]]
    assert done.stdout.count("new findings: none") == 2
    assert set(scratch.folder().parent.glob("sensebind-fuzz-*")) <= before
