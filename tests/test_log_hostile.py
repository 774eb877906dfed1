"""Files that are made to cost more than they are, or are wrong inside while all lengths and checksums are right."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path

import pytest
from other_reader import messages

from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.unpacking import EXPANSION, FREE_BYTES, FREE_RECORDS, RECORD_BYTES
from benchmarks.faults.hostile_logs import HOSTILE, channel, chunk, log, message
from benchmarks.faults.mutation_check import check

MUTATIONS = 150
"""The benchmark of the row makes 2,000."""


@pytest.mark.parametrize(
    "name",
    [
        "one such chunk",
        "indexes in chunks",
        "empty messages, small chunks",
        "one schema over and over",
        "maps of thousands in channels",
        "metadata by the thousand",
        "channels by the thousand",
        "heads of chunks without end",
    ],
)
def test_what_a_file_costs_is_explained_by_its_size(tmp_path: Path, name: str) -> None:
    """All of them, and what memory they take, are a row of the table of faults."""
    path, out = tmp_path / "hostile.mcap", tmp_path / "out.mcap"
    path.write_bytes(HOSTILE[name]())
    began = time.process_time()
    seen = survey([path])
    repaired = repair(path, out)
    assert time.process_time() - began < 5
    for count in (sum(topic.count for topic in seen.topics.values()), repaired.messages.total()):
        assert count <= FREE_RECORDS + path.stat().st_size / RECORD_BYTES
    messages(out)


@pytest.mark.parametrize("name", ["long topics", "schemas of 4 MB", "a message of 14 MB"])
def test_memory_is_bounded_by_a_few_times_what_a_file_may_expand_to(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.mcap"
    path.write_bytes(HOSTILE[name]())
    tracemalloc.start()
    try:
        survey([path])
        repair(path, tmp_path / "out.mcap")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * FREE_BYTES


def test_what_stands_around_an_expensive_chunk_is_used(tmp_path: Path) -> None:
    good = [chunk(channel() + message(sequence=n, data=b"%d" % n), compression="") for n in range(4)]
    path, out = tmp_path / "run.mcap", tmp_path / "out.mcap"
    bombs = chunk(bytes(2**28)), chunk(channel() + message() * 10**6), chunk(message() + b"\x80" + bytes(8))
    path.write_bytes(log(good[0], bombs[0], good[1], bombs[1], good[2], bombs[2], good[3]))
    repaired = repair(path, out)
    found = [data for *_, data in messages(out) if data]
    assert found == [b"0", b"1", b"2", b"3"]
    assert len(repaired.damages) == 3
    assert f"268435456 bytes once decompressed; {EXPANSION} a byte are allowed in all" in repaired.damages[0]
    assert "bytes once decompressed" in repaired.damages[1]
    assert "a chunk with a record 128; schemas, channels and messages are allowed" in repaired.damages[2]
    seen = survey([path])
    assert seen.topics["/sensors/imu"].count == 1
    assert "once decompressed" in seen.damages[0]


def test_what_is_all_alike_may_expand(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    black = bytes(FREE_BYTES - 1000)
    path.write_bytes(log(chunk(channel() + message(data=black))))
    assert path.stat().st_size < 10_000
    assert survey([path]).topics["/sensors/imu"].size == len(black)
    assert not survey([path]).damages


def test_many_small_messages_of_a_real_log_are_no_fault(tmp_path: Path) -> None:
    rng = random.Random("rows")
    rows = [message(t_ns=10**18 + 10_000_000 * n, sequence=n, data=rng.randbytes(24)) for n in range(60_000)]
    path = tmp_path / "run.mcap"
    path.write_bytes(log(*(chunk(channel() + b"".join(rows[at : at + 5000])) for at in range(0, len(rows), 5000))))
    assert survey([path]).topics["/sensors/imu"].count == len(rows)
    assert not survey([path]).damages


def test_logs_that_are_wrong_inside_give_what_they_can_or_one_line() -> None:
    outcomes = check(MUTATIONS)
    assert not outcomes.faults
    assert outcomes.fine["survey"] > MUTATIONS // 2, "most of what is wrong does not end reading"
    assert outcomes.fine["repair"] > 0.9 * MUTATIONS
    assert outcomes.refused["replay"], "what is said of the run is altered as well"
