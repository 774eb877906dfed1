import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.capture.ring import Ring, Word
from drivers.driver import Sample


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring.create(depth=4, sample_bytes=300, modality="vision", views=2)
    yield ring
    ring.close()


def image(number: int, side: int = 10) -> Sample:
    return Sample(number * 1000 + 1, np.full((side, side, 3), number % 256, np.uint8), lost=number % 3)


def test_what_is_written_is_read_in_order(ring: Ring) -> None:
    for number in range(3):
        ring.write(image(number))
    for number in range(3):
        sample = ring.read()
        assert sample is not None
        assert (sample.t_ns, sample.lost, sample.rate_hz) == (number * 1000 + 1, number % 3, 0.0)
        np.testing.assert_array_equal(sample.data, image(number).data)
    assert ring.read() is None
    assert ring.lapped == 0


def test_rows_keep_their_rate_and_shape() -> None:
    ring = Ring.create(depth=2, sample_bytes=64, modality="imu", views=1)
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    ring.write(Sample(5, rows, rate_hz=399.5))
    sample = ring.read()
    ring.close()
    assert sample is not None
    assert sample.rate_hz == 399.5
    assert sample.data.dtype == np.float32
    np.testing.assert_array_equal(sample.data, rows)


def test_a_lapped_reader_jumps_forward_and_counts_what_it_lost(ring: Ring) -> None:
    for number in range(11):
        ring.write(image(number))
    read = []
    while (sample := ring.read()) is not None:
        read.append(sample.t_ns // 1000)
    assert read == [7, 8, 9, 10]
    assert ring.lapped == 7


def test_a_sample_that_is_overwritten_before_it_is_read_is_lost_and_counted(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.write(image(1))
    pending = ring._pending

    def lapped_after() -> int:
        found = pending()
        monkeypatch.undo()
        for number in range(2, 12):
            ring.write(image(number))
        return found

    monkeypatch.setattr(ring, "_pending", lapped_after)
    sample = ring.read()
    assert sample is not None
    number = (sample.t_ns - 1) // 1000
    assert number > 1
    np.testing.assert_array_equal(sample.data, image(number).data)
    assert ring.lapped == number - 1


def test_read_newest_skips_and_counts(ring: Ring) -> None:
    for number in range(3):
        ring.write(image(number))
    newest = ring.read_newest()
    assert newest is not None
    assert newest.t_ns == 2001
    assert (ring.superseded, ring.lapped) == (2, 0)
    assert ring.read_newest() is None


def test_a_sample_larger_than_a_slot_is_dropped_and_counted(ring: Ring) -> None:
    ring.write(image(1, side=11))
    assert ring.read() is None
    assert ring.word(Word.TOO_LARGE) == 1


def test_samples_that_are_kept_are_not_overwritten_whether_views_or_copies(ring: Ring) -> None:
    kept = []
    for number in range(40):
        ring.write(image(number))
        sample = ring.read()
        assert sample is not None
        if number % 9 == 0:
            kept.append((number, sample.data[2:5]))
    for number, part in kept:
        np.testing.assert_array_equal(part, image(number).data[2:5])
    assert len(kept) == 5  # more than the views that the ring gives
    assert ring.lapped == 0


def test_as_many_samples_as_agreed_are_views_and_further_ones_copies() -> None:
    ring = Ring.create(depth=3, sample_bytes=300, modality="vision", views=2)

    def read() -> NDArray[Any]:
        ring.write(image(1))
        sample = ring.read()
        assert sample is not None
        return sample.data

    kept = [read() for _ in range(4)]
    assert [data.flags.owndata for data in kept] == [False, False, True, True]
    part = kept.pop(0)[:1]
    assert read().flags.owndata  # a part of it is a view as well
    del part
    assert not read().flags.owndata
    kept.clear()
    ring.close()


def test_a_sample_cannot_be_changed_by_who_reads_it(ring: Ring) -> None:
    ring.write(image(1))
    sample = ring.read()
    assert sample is not None
    with pytest.raises(ValueError, match="read-only"):
        sample.data[0] = 7


def test_a_sample_that_is_kept_outlives_its_ring() -> None:
    ring = Ring.create(depth=3, sample_bytes=300, modality="vision", views=1)
    ring.write(image(5))
    sample = ring.read()
    ring.close()
    assert sample is not None
    np.testing.assert_array_equal(sample.data, image(5).data)
    assert "sensebind" in Path("/proc/self/maps").read_text()
    del sample
    assert "sensebind" not in Path("/proc/self/maps").read_text()


@given(st.lists(st.integers(0, 12), max_size=40))
@settings(deadline=None, max_examples=50)
def test_every_sample_written_is_read_or_counted(bursts: list[int]) -> None:
    ring = Ring.create(depth=4, sample_bytes=12, modality="vision", views=3)
    written, read = 0, []
    for burst in bursts:
        for _ in range(burst):
            ring.write(image(written, side=2))
            written += 1
        if (sample := ring.read()) is not None:
            read.append(sample.t_ns // 1000)
    while (sample := ring.read()) is not None:
        read.append(sample.t_ns // 1000)
    lapped = ring.lapped
    ring.close()
    assert len(read) + lapped == written
    assert read == sorted(set(read))


WRITER = """
import sys
import numpy as np
from agent.capture.ring import Ring
from drivers.driver import Sample
ring = Ring(int(sys.argv[1]), int(sys.argv[2]), 3, 30000, "vision", 4)
for number in range(int(sys.argv[3])):
    ring.write(Sample(number, np.full((100, 100, 3), number % 251, np.uint8)))
"""


def test_a_writer_that_never_waits_never_gives_a_torn_sample() -> None:
    ring = Ring.create(depth=3, sample_bytes=30000, modality="vision", views=4)
    total = 20000
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, ring.fds), str(total)],
        pass_fds=ring.fds,
        cwd=Path(__file__).parents[1],
    )
    newest, read, deadline_s = -1, 0, time.monotonic() + 60
    while newest < total - 1 and time.monotonic() < deadline_s:
        sample = ring.read()
        if sample is None:
            continue
        read += 1
        assert sample.t_ns > newest
        newest = sample.t_ns
        assert (sample.data == newest % 251).all()
    assert writer.wait() == 0
    assert newest == total - 1
    assert read + ring.lapped == total
    ring.close()


def test_a_writer_passes_over_what_the_other_process_keeps_and_gives_no_torn_sample() -> None:
    ring = Ring.create(depth=3, sample_bytes=30000, modality="vision", views=4)
    total = 20000
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, ring.fds), str(total)],
        pass_fds=ring.fds,
        cwd=Path(__file__).parents[1],
    )
    kept: deque[Sample] = deque()
    newest, deadline_s = -1, time.monotonic() + 60
    while newest < total - 1 and time.monotonic() < deadline_s:
        sample = ring.read()
        if sample is None:
            continue
        assert sample.t_ns > newest
        newest = sample.t_ns
        kept.append(sample)
        if len(kept) > 6:  # two more than views
            oldest = kept.popleft()
            assert (oldest.data == oldest.t_ns % 251).all()
    assert writer.wait() == 0
    assert newest == total - 1
    kept.clear()
    del sample, oldest
    ring.close()


HALF_WRITER = """
import os, signal, sys
import numpy as np
from agent.capture.ring import Ring
from drivers.driver import Sample
ring = Ring(int(sys.argv[1]), int(sys.argv[2]), 3, 30000, "vision", 4)
ring.write(Sample(1, np.full((100, 100, 3), 1, np.uint8)))
view = ring._view
def die(*where):
    view(*where)[:50] = 9
    os.kill(os.getpid(), signal.SIGKILL)
ring._view = die
for _ in range(int(sys.argv[3])):
    ring._filled = ring._filled - 1  # the slot that holds the sample before
    ring.write(Sample(2, np.full((100, 100, 3), 2, np.uint8)))
"""


def test_a_sample_of_which_a_killed_writer_has_overwritten_half_is_not_read() -> None:
    ring = Ring.create(depth=3, sample_bytes=30000, modality="vision", views=4)
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITER, *map(str, ring.fds), "1"],
        pass_fds=ring.fds,
        cwd=Path(__file__).parents[1],
    )
    assert writer.wait() == -signal.SIGKILL
    assert ring.read() is None
    assert ring.lapped == 1
    ring.close()


def test_closing_gives_everything_back() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(50):
        ring = Ring.create(depth=4, sample_bytes=1000, modality="vision", views=2)
        ring.write(image(1))
        ring.read()
        ring.close()
        ring.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert "sensebind" not in Path("/proc/self/maps").read_text()
