"""Streams whose samples may come in another order than they were captured: what windows wait for, and how long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.live import Capture
from agent.clock import RunClock
from agent.config.parse import parse
from agent.streams import Stream, in_any_order
from agent.windows.window import Tick
from agent.windows.windower import Windower
from drivers.driver import Modality, Sample
from drivers.remote import Remote, RemoteOptions

MS = 1_000_000
HOP_NS = 500 * MS
LATENESS_MS = 300
RATE_HZ, BLOCK_MS = 16_000, 50
BLOCK = RATE_HZ * BLOCK_MS // 1_000


def sound(number: int) -> Sample:
    rows = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.float32)[:, None] / 1e6 + 1e-3
    return Sample(number * BLOCK_MS * MS, rows, float(RATE_HZ))


def picture(number: int, period_ms: int = 100) -> Sample:
    return Sample((number * period_ms + 20) * MS, np.full((3, 4, 3), number % 256, np.uint8))


def stream(modality: Modality, *, in_order: bool = False) -> Stream:
    rows = modality == "audio"
    return Stream(
        "it", modality, RATE_HZ if rows else 10.0, 20.0 if rows else 10.0, 10**6, 1.0 if rows else 0.2,
        "all", 8, LATENESS_MS / 1e3, in_order=in_order,
    )  # fmt: skip


def windows_of(arrivals: list[tuple[int, Sample]], of: Stream) -> dict[int, tuple[Any, ...]]:
    """Windows by the time of their tick in ms, from samples by the time of their arrival in ms; and when they came."""
    windower = Windower({"it": of}, HOP_NS, 0)
    found: dict[int, tuple[Any, ...]] = {}

    def note(ticks: list[Tick]) -> None:
        for tick in ticks:
            window = tick.windows["it"]
            data = None if window.data is None else window.data.tobytes()
            found[tick.t_ns // MS] = (window.missing, window.newest_ns, window.filled, data, tick.settled_ns // MS)

    for at_ms, sample in arrivals:
        now_ns = at_ms * MS
        while windower.due_ns() <= now_ns:  # as the sampler does, which wakes when a tick is due
            note(windower.advance(max(windower.due_ns(), 0)))
        windower.push("it", sample, now_ns)
        note(windower.advance(now_ns))
    note(windower.finish())
    return found


def content(found: dict[int, tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
    return {t_ms: window[:-1] for t_ms, window in found.items()}


def in_time(samples: list[Sample]) -> list[tuple[int, Sample]]:
    return [(sample.end_ns // MS, sample) for sample in samples]


def swapped(samples: list[Sample], first: int) -> list[tuple[int, Sample]]:
    """Every second sample comes before the one that was captured just before it."""
    arrivals = in_time(samples)
    for n in range(first, len(samples) - 1, 2):
        at_ms = arrivals[n + 1][0]
        arrivals[n], arrivals[n + 1] = (at_ms, samples[n + 1]), (at_ms + 1, samples[n])
    return arrivals


SOUND = [sound(n) for n in range(120)]
PICTURES = [picture(n) for n in range(60)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("samples", "modality"), [(SOUND, "audio"), (PICTURES, "vision")])
def test_samples_that_are_swapped_on_their_way_are_in_their_windows(
    samples: list[Sample], modality: Modality, first: int
) -> None:
    right = content(windows_of(in_time(samples), stream(modality, in_order=True)))
    assert len(right) >= 11
    assert content(windows_of(swapped(samples, first), stream(modality))) == right
    if modality == "vision":  # a device that keeps order is not waited for
        assert content(windows_of(swapped(samples, first), stream(modality, in_order=True))) != right


@pytest.mark.parametrize("late_ms", [60, 240])
@pytest.mark.parametrize(("samples", "modality"), [(SOUND, "audio"), (PICTURES, "vision")])
def test_a_sample_that_is_late_within_the_lateness_is_in_every_window(
    samples: list[Sample], modality: Modality, late_ms: int
) -> None:
    right = content(windows_of(in_time(samples), stream(modality, in_order=True)))
    for number in range(20, 40):
        arrivals = in_time(samples)
        arrivals[number] = (arrivals[number][0] + late_ms, samples[number])
        assert content(windows_of(sorted(arrivals, key=lambda a: a[0]), stream(modality))) == right


@pytest.mark.parametrize(("samples", "modality"), [(SOUND, "audio"), (PICTURES, "vision")])
def test_samples_in_order_are_not_delayed(samples: list[Sample], modality: Modality) -> None:
    anyhow, kept = (windows_of(in_time(samples), stream(modality, in_order=o)) for o in (False, True))
    assert anyhow == kept
    settled_ms = max(window[-1] - t_ms for t_ms, window in list(anyhow.items())[:-1])
    assert settled_ms <= (BLOCK_MS if modality == "audio" else 100)


@pytest.mark.parametrize(("samples", "modality"), [(SOUND, "audio"), (PICTURES, "vision")])
def test_a_hole_is_waited_for_no_longer_than_the_lateness(samples: list[Sample], modality: Modality) -> None:
    ends = [sample.end_ns // MS for sample in samples]
    kept = [sample for sample, end in zip(samples, ends, strict=True) if not 1_850 < end <= 2_200]
    found = windows_of(in_time(kept), stream(modality))
    assert found[2_000][-1] - 2_000 == LATENESS_MS
    assert found[2_500][-1] - 2_500 <= 100


either = st.sampled_from([(SOUND, "audio"), (PICTURES, "vision")])
lossy = st.lists(st.booleans(), min_size=120, max_size=120)


@given(lossy, either)
@settings(deadline=None, max_examples=80)
def test_a_device_in_order_has_the_same_windows_in_a_replay_whatever_it_lost(
    keep: list[bool], what: tuple[list[Sample], Modality]
) -> None:
    samples, modality = what
    kept = [sample for sample, there in zip(samples, keep, strict=False) if there]
    live, replayed = (windows_of(in_time(kept), stream(modality, in_order=o)) for o in (True, False))
    assert content(live) == content(replayed)


@given(
    st.lists(st.integers(0, 140), min_size=60, max_size=60), st.sampled_from([(SOUND, "audio"), (PICTURES, "vision")])
)
@settings(deadline=None, max_examples=80)
def test_any_order_within_the_lateness_gives_the_same_windows(
    delays_ms: list[int], what: tuple[list[Sample], Modality]
) -> None:
    samples, modality = what[0][:60], what[1]
    right = content(windows_of(in_time(samples), stream(modality, in_order=True)))
    late = [(end_ms + delay, sample) for (end_ms, sample), delay in zip(in_time(samples), delays_ms, strict=True)]
    assert content(windows_of(sorted(late, key=lambda a: a[0]), stream(modality))) == right


def test_pictures_that_come_faster_than_said_are_put_in_order_as_well() -> None:
    samples = [picture(n, 40) for n in range(150)]
    right = content(windows_of(in_time(samples), stream("vision", in_order=True)))
    found = content(windows_of(swapped(samples, 1), stream("vision")))
    wrong = [t_ms for t_ms, window in right.items() if found[t_ms] != window]
    assert not [t_ms for t_ms in wrong if t_ms > 1_000]  # until then its rate is not known


def test_a_hole_of_a_stream_costs_no_more_memory_than_its_lateness() -> None:
    windower = Windower({"it": stream("audio")}, HOP_NS, 0)
    reordering = windower._lanes["it"]._reordering
    assert reordering is not None
    for number in [*range(20), *range(23, 200, 2)]:
        windower.push("it", sound(number))
        assert len(reordering._heap) <= 2 + LATENESS_MS // BLOCK_MS


def test_samples_of_other_programs_and_of_logs_may_come_in_any_order() -> None:
    assert not Remote.stream(RemoteOptions("audio", 16_000.0)).in_order
    assert not in_any_order({"it": stream("audio", in_order=True)})["it"].in_order


def test_pictures_that_were_pushed_at_once_all_reach_the_windows() -> None:
    specs = parse({"sensors": {"eye": {"type": "remote", "modality": "vision", "rate_hz": 10}}}, "config").specs
    capture = Capture(specs, RunClock.start())
    capture.start()
    capture.poll(0.0)
    pushed = [picture(n) for n in (2, 1, 3)]
    remote = capture.remotes["eye"]
    came: list[Sample] = []
    while len(came) < 3:
        if not came and remote._open and not remote._samples:
            for sample in pushed:
                remote.push(sample)
        came += [sample for _, sample in capture.poll(0.2)]
    capture.stop()
    assert [sample.t_ns for sample in came] == [sample.t_ns for sample in pushed]


def in_place(found: dict[int, tuple[Any, ...]], right: dict[int, tuple[Any, ...]]) -> list[int]:
    """Ticks whose windows are others."""
    return [t_ms for t_ms, window in right.items() if found[t_ms] != window]


@pytest.mark.parametrize("ahead_ms", [200, 500, 900, -200, -900])
@pytest.mark.parametrize("number", [60, 63, 68, 69])
def test_one_wrong_stamp_of_a_device_in_order_moves_no_other_block(number: int, ahead_ms: int) -> None:
    of = stream("audio", in_order=True)
    right = content(windows_of(in_time(SOUND), of))
    arrivals = in_time(SOUND)
    at_ms, block = arrivals[number]
    arrivals[number] = (at_ms, Sample(block.t_ns + ahead_ms * MS, block.data, block.rate_hz))
    found = content(windows_of(arrivals, of))
    if ahead_ms > 0:
        assert not in_place(found, right)
    else:  # it comes to stand among rows that are there, and is dropped
        for t_ms in in_place(found, right):
            assert found[t_ms][2] <= BLOCK_MS / 1_000 + 1e-6
            assert 0 <= t_ms - number * BLOCK_MS <= 1_500


@pytest.mark.parametrize("ahead_ms", [220, 530, 870])
def test_one_wrong_stamp_among_samples_in_any_order_costs_that_block_alone(ahead_ms: int) -> None:
    right = content(windows_of(in_time(SOUND), stream("audio")))
    arrivals = in_time(SOUND)
    at_ms, block = arrivals[63]
    arrivals[63] = (at_ms, Sample(block.t_ns + ahead_ms * MS, block.data, block.rate_hz))
    found = content(windows_of(arrivals, stream("audio")))
    assert in_place(found, right)
    assert {window[0] for window in found.values()} == {window[0] for window in right.values()}
    assert max(window[2] for window in found.values()) == pytest.approx(BLOCK_MS / 1_000)


def test_rows_that_a_device_in_order_lost_delay_a_tick_by_one_block() -> None:
    kept = [block for number, block in enumerate(SOUND) if number not in (38, 39, 40)]
    found = windows_of(in_time(kept), stream("audio", in_order=True))
    assert found[2_000][-1] - 2_000 == 3 * BLOCK_MS
    told = [Sample(b.t_ns, b.data, b.rate_hz, lost=3 * BLOCK) if b is SOUND[41] else b for b in kept]
    again = windows_of(in_time(told), stream("audio", in_order=True))
    assert again[2_000][-1] - 2_000 == 2 * BLOCK_MS
    assert content(found) == content(again)
