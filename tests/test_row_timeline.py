"""One definition of a gap: whoever counts the rows of a stream calls the same a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.source import CaptureReport
from agent.exchange.bag_topics import (
    IMAGE,
    STAMPED_AUDIO,
    AudioFormat,
    AudioTopic,
    FirstMessages,
    PictureTopic,
    Received,
)
from agent.exchange.row_blocks import RowBlocks
from agent.exchange.stamp_clock import StampClock
from agent.health.health import Health
from agent.streams import Stream
from agent.windows.row_buffer import RowBuffer
from drivers.driver import Modality, Sample
from drivers.row_timeline import JITTER_CEILING_S, JITTER_FLOOR_S, RowTimeline, arriving

BEGIN_NS = 10**12
RUNNING = CaptureReport("running", "", 0, {})

rates = st.sampled_from([50.0, 100.0, 416.6, 8_000.0, 44_100.0])
jitters_s = st.floats(-0.4 * JITTER_FLOOR_S, 0.4 * JITTER_FLOOR_S)
crystals_ppm = st.floats(-300, 300)


class Watched:
    """Windows and health of one stream, and what each of them calls a gap."""

    def __init__(self, modality: Modality, rate_hz: float) -> None:
        stream = Stream("rows", modality, rate_hz, 20.0, 10**6, 40.0, "all", 64, 0.2)
        self._buffer = RowBuffer(stream)
        self._health = Health({"rows": stream})
        self._gaps = 0

    def blanks(self) -> int:
        return int(np.count_nonzero(~self._buffer._real[: self._buffer._count]))

    def gap(self, sample: Sample) -> tuple[int, bool]:
        """How many rows the windows fill before a sample, and whether health counts a gap there."""
        before = self.blanks()
        self._buffer.add(sample)
        self._health.observe("rows", sample, sample.end_ns)
        gaps = self._health.report(sample.end_ns, {"rows": RUNNING})["rows"].gaps
        counted, self._gaps = gaps - self._gaps, gaps
        return max(0, self.blanks() - before), counted == 1


def first_of(received: Sequence[Received], kind: str) -> FirstMessages:
    probed = FirstMessages()
    for one in received:
        probed.add(kind, one)
    return probed


def block(t_ns: int, rows: int, rate_hz: float, lost: int = 0, columns: int = 1) -> Sample:
    data = np.full((rows, columns), 0.5, np.float32)
    return Sample(t_ns, data, rate_hz, lost)


@settings(deadline=None)
@given(rates, st.integers(1, 60), crystals_ppm, st.lists(st.tuples(jitters_s, st.integers(0, 90)), max_size=40))
def test_windows_health_and_import_find_the_same_gaps_in_blocks_of_sound(
    rate_hz: float, rows: int, ppm: float, steps: list[tuple[float, int]]
) -> None:
    rate_hz = round(rate_hz)
    watched, at = Watched("audio", rate_hz), 0
    message: Any = SimpleNamespace(audio=SimpleNamespace(data=np.full(rows, 99, np.int16)))
    imported: AudioTopic | None = None
    for late_s, missing in [(0.0, 0), *steps]:
        at += missing
        t_ns = BEGIN_NS + round(at * (1e9 + ppm * 1e3) / rate_hz + late_s * 1e9)
        at += rows
        message.header = SimpleNamespace(stamp=SimpleNamespace(sec=t_ns // 10**9, nanosec=t_ns % 10**9))
        received = Received(message, t_ns)
        imported = imported or AudioTopic(
            "sound", first_of([received], STAMPED_AUDIO), StampClock(), STAMPED_AUDIO, AudioFormat(int(rate_hz))
        )
        (sample,) = imported.samples(received)
        filled, counted = watched.gap(block(t_ns, rows, rate_hz))
        assert (filled, counted) == (sample.lost, sample.lost > 0)


@settings(deadline=None)
@given(
    rates,
    st.lists(
        st.tuples(st.integers(1, 60), st.floats(-3, 3), st.sampled_from([0, 0, 1, 5, 40])), min_size=1, max_size=40
    ),
)
def test_windows_and_health_find_the_same_gaps_in_any_order_of_blocks(
    rate_hz: float, steps: list[tuple[int, float, int]]
) -> None:
    watched, t_ns = Watched("audio", rate_hz), BEGIN_NS
    for rows, apart, lost in steps:
        t_ns += round(apart * rows * 1e9 / rate_hz)
        filled, counted = watched.gap(block(t_ns, rows, rate_hz, lost))
        assert (filled > 0) == counted


@settings(deadline=None)
@given(
    st.sampled_from([100.0, 208.0, 1_000.0]),
    crystals_ppm,
    st.lists(st.tuples(st.integers(1, 300), st.floats(0.03, 0.5)), max_size=4),
    st.randoms(use_true_random=False),
)
def test_rows_that_an_import_counts_as_lost_are_those_that_windows_fill(
    rate_hz: float, ppm: float, stretches: list[tuple[int, float]], random: Any
) -> None:
    blocks, watched, at = RowBlocks(rate_hz), Watched("imu", rate_hz), 0
    samples: list[Sample] = []
    for rows, missing_s in [*stretches, (50, 0.0)]:
        for _ in range(rows):
            late_s = random.uniform(-0.1, 0.1) / rate_hz
            t_ns = BEGIN_NS + round(at * (1e9 + ppm * 1e3) / rate_hz + late_s * 1e9)
            samples += blocks.add(t_ns, [0.5] * 6)
            at += 1
        at += round(missing_s * rate_hz)
    samples += blocks.flush()
    lost, missing = (
        sum(sample.lost for sample in samples),
        sum(round(missing_s * rate_hz) for _, missing_s in stretches),
    )
    assert abs(lost - missing) <= 1  # seconds without a row do not tell how far a crystal is off
    for sample in samples:
        assert watched.gap(sample) == (sample.lost, sample.lost > 0)


@settings(deadline=None)
@given(st.floats(0.5, 60.0), st.lists(st.floats(0.2, 5.0), max_size=20))
def test_health_and_import_find_the_same_gaps_between_pictures(rate_hz: float, periods: list[float]) -> None:
    stamps_ns = [BEGIN_NS]
    for apart in [1.0, 1.0, *periods]:  # the first tell the import its rate
        stamps_ns.append(stamps_ns[-1] + round(apart * 1e9 / rate_hz))
    picture: Any = SimpleNamespace(encoding="rgb8", height=2, width=3, step=9, is_bigendian=0, data=bytes(range(18)))

    def received(t_ns: int) -> Received:
        stamp = SimpleNamespace(sec=t_ns // 10**9, nanosec=t_ns % 10**9)
        return Received(SimpleNamespace(**vars(picture), header=SimpleNamespace(stamp=stamp)), t_ns)

    topic = PictureTopic("eye", first_of([received(t_ns) for t_ns in stamps_ns[:3]], IMAGE), StampClock(), IMAGE, None)
    health = Health({"eye": Stream("eye", "vision", rate_hz, topic.sensor.rate_hz, 10**6, 0.0, "latest", 4, 0.2)})
    gaps = 0
    for t_ns in stamps_ns:
        (sample,) = topic.samples(received(t_ns))
        health.observe("eye", replace(sample, lost=0), t_ns)
        counted = health.report(t_ns, {"eye": RUNNING})["eye"].gaps - gaps
        gaps += counted
        assert counted == (sample.lost > 0)


def test_a_late_block_that_goes_on_past_the_newest_row_stands_where_it_is_counted() -> None:
    buffer = RowBuffer(Stream("rows", "imu", 100.0, 20.0, 10**6, 0.26, "all", 64, 0.2))
    period_ns = 10_000_000
    for first, stop in ((0, 10), (20, 22), (11, 26)):
        values = np.repeat(np.arange(first, stop, dtype=np.float32)[:, None], 6, axis=1)
        assert buffer.add(Sample(BEGIN_NS + first * period_ns, values, 100.0)) == ""
    window = buffer.cut(BEGIN_NS + 26 * period_ns)
    assert window.data is not None
    assert window.data[:, 0].tolist() == list(range(26))
    assert window.filled * 26 == pytest.approx(1.0)


def test_a_block_is_placed_by_what_its_driver_knows_when_its_stamp_agrees() -> None:
    timeline = RowTimeline(16_000.0)
    timeline.take(BEGIN_NS, 800)
    after_ns = BEGIN_NS + 50_000_000
    assert timeline.gap(after_ns + 3 * 62_500, 800, lost=3) == 3
    assert timeline.gap(after_ns + 3 * 62_500, 800) == 0
    assert timeline.gap(after_ns, 800, lost=1_600) == 0
    assert timeline.gap(after_ns + 100_000_000, 800) == 1_600
    assert timeline.gap(BEGIN_NS, 800) == -800


def test_arrivals_are_trusted_less_than_stamps_and_a_driver_more() -> None:
    timeline = RowTimeline(1_000.0, arriving(1_000.0, 10))
    timeline.take(BEGIN_NS, 10)
    after_ns = BEGIN_NS + 10_000_000
    assert timeline.gap(after_ns, 10, lost=25) == 25
    late_ns = [after_ns + (110 + 10 * k) * 1_000_000 for k in range(3)]
    found = []
    for t_ns in late_ns:
        found.append(timeline.gap(t_ns, 10))
        timeline.take(t_ns, 10, found[-1])
    assert found == [0, 0, 110]


@pytest.mark.parametrize("rows", [1, 40, 400])
def test_jitter_that_was_seen_is_tolerated_within_limits(rows: int) -> None:
    rate_hz = 1_000.0
    timeline = RowTimeline(rate_hz)
    assert timeline.tolerance(rows) == max((rows - 1) / 2, JITTER_FLOOR_S * rate_hz)
    for k in range(200):
        timeline.take(BEGIN_NS + k * rows * 1_000_000 + (30_000_000 if k % 2 else -30_000_000), rows)
    assert timeline.tolerance(rows) == max((rows - 1) / 2, JITTER_CEILING_S * rate_hz)


def test_rows_of_a_block_that_overlaps_count_as_far_as_they_are_new() -> None:
    timeline = RowTimeline(1_000.0)
    timeline.take(BEGIN_NS, 100)
    assert timeline.gap(BEGIN_NS + 40_000_000, 100) == -60
    assert timeline.take(BEGIN_NS + 40_000_000, 100, -60) == BEGIN_NS + 40_000_000
    assert timeline.end_ns == BEGIN_NS + 140_000_000
    timeline.take(BEGIN_NS, 20, timeline.gap(BEGIN_NS, 20))
    assert timeline.end_ns == BEGIN_NS + 140_000_000
