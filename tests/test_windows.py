"""Times are in milliseconds of a run that starts at T0, which is no multiple of anything."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.faults import Faults
from agent.streams import Stream, Streams
from agent.windows.row_buffer import RowBuffer
from agent.windows.windower import Tick, Window, Windower
from drivers.driver import Modality, Sample
from drivers.row_timeline import JITTER_CEILING_S

MS = 1_000_000
HOP_NS = 500 * MS
T0 = 1_700_000_000_123_456_789
FIRST = T0 // HOP_NS + 1
"""Index of the first tick."""
AUDIO_HZ, IMU_HZ = 16000.0, 400.0


def stream(sensor: str, modality: Modality, **changes: Any) -> Stream:
    rate_hz, samples_hz, window_s = {
        "vision": (10.0, 10.0, 0.2),
        "audio": (AUDIO_HZ, 50.0, 2.0),
        "depth": (5.0, 5.0, 0.0),
        "thermal": (2.0, 2.0, 0.0),
        "imu": (IMU_HZ, 20.0, 5.0),
    }[modality]
    row = {
        "rate_hz": rate_hz, "samples_hz": samples_hz, "sample_bytes": 10**6, "window_s": window_s, "keep": "all",
        "queue_depth": 64, "max_lateness_s": 0.2,
    }  # fmt: skip
    return Stream(sensor, modality, **{**row, **changes})


def streams(*modalities: Modality, **changes: Any) -> Streams:
    return {modality: stream(modality, modality, **changes) for modality in modalities}


def windower(*modalities: Modality, **changes: Any) -> Windower:
    return Windower(streams(*modalities, **changes), HOP_NS, T0)


def tick_ns(number: int) -> int:
    """Time of the n-th tick of the run, from 0."""
    return (FIRST + number) * HOP_NS


def ramp(first: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Rows that tell their number, small enough to be sound or motion."""
    return (np.arange(first, first + rows)[:, None] / 1e5 + np.arange(columns)).astype(np.float32)


def audio(first: int, rows: int = 320, t_ns: int | None = None, lost: int = 0) -> Sample:
    """A block of the rows first ... of a ramp, which began at T0."""
    at_ns = T0 + round(first * 1e9 / AUDIO_HZ) if t_ns is None else t_ns
    return Sample(at_ns, ramp(first, rows, 2), AUDIO_HZ, lost)


def imu(first: int, rows: int = 20) -> Sample:
    return Sample(T0 + round(first * 1e9 / IMU_HZ), ramp(first, rows, 6), IMU_HZ)


def audio_blocks(seconds: float, skip: Iterable[int] = ()) -> list[Sample]:
    return [audio(320 * n) for n in range(round(seconds * 50)) if n not in set(skip)]


def imu_blocks(seconds: float, skip: Iterable[int] = ()) -> list[Sample]:
    return [imu(20 * n) for n in range(round(seconds * 20)) if n not in set(skip)]


def image(t_ns: int, value: int = 0, side: int = 4, number: int | None = None) -> Sample:
    """A picture of one value, or that carries a number in its first pixel."""
    data = np.full((side, side + 2, 3), value, np.uint8)
    if number is not None:
        data[0, 0, :2] = divmod(number, 256)
    return Sample(t_ns, data)


def depth(t_ns: int, values: float = 1.5) -> Sample:
    data = np.full((3, 4), values, np.float32)
    data[0, 0] = 0.0
    return Sample(t_ns, data)


def push_all(to: Windower, sensor: str, samples: Iterable[Sample]) -> None:
    for sample in samples:
        to.push(sensor, sample)


def present(window: Window) -> NDArray[Any]:
    assert window.missing == ""
    assert window.data is not None
    return window.data


def test_ticks_lie_on_multiples_of_the_hop_and_come_in_order() -> None:
    w = windower("vision")
    push_all(w, "vision", [image(T0 + 100 * MS * n) for n in range(100)])
    ticks = w.advance(T0)
    assert [tick.index for tick in ticks] == list(range(FIRST, FIRST + len(ticks)))
    assert all(tick.t_ns == tick.index * HOP_NS and tick.t_ns > T0 for tick in ticks)
    assert len(ticks) == (T0 + 9_900 * MS) // HOP_NS - FIRST + 1


def test_a_tick_waits_for_every_stream_but_no_longer_than_its_lateness() -> None:
    w = windower("vision", "depth")
    w.push("vision", image(tick_ns(0)))
    assert w.due_ns() == tick_ns(0) + 200 * MS
    assert w.advance(tick_ns(0) + 199 * MS) == []
    (tick,) = w.advance(tick_ns(0) + 200 * MS)
    assert tick.windows["vision"].missing == ""
    assert tick.windows["depth"].missing == "no samples yet"
    assert tick.settled_ns == tick_ns(0) + 200 * MS
    w.push("vision", image(tick_ns(1)))
    w.push("depth", depth(tick_ns(1)))
    (tick,) = w.advance(tick_ns(1))
    assert tick.windows["depth"].missing == ""


def test_an_excluded_sensor_is_not_waited_for_and_says_why() -> None:
    w = windower("vision", "depth")
    w.exclude("depth", "lost")
    w.push("vision", image(tick_ns(0)))
    (tick,) = w.advance(tick_ns(0))
    assert tick.windows["depth"].missing == "lost"
    w.include("depth")
    w.push("vision", image(tick_ns(1)))
    assert w.advance(tick_ns(1)) == []
    w.push("depth", depth(tick_ns(1) - 50 * MS))
    (tick,) = w.advance(tick_ns(1) + 200 * MS)
    assert present(tick.windows["depth"])[1, 1] == 1.5


def test_vision_is_the_newest_frame_and_the_one_nearest_to_the_window_before() -> None:
    w = windower("vision")
    ages_ms = [430, 330, 230, 130, 30, -70]
    push_all(w, "vision", [image(tick_ns(0) - age * MS, age % 256) for age in ages_ms])
    (tick,) = w.advance(tick_ns(0))
    pair = present(tick.windows["vision"])
    assert pair.shape == (2, 4, 6, 3)
    assert (pair[0, 0, 0, 0], pair[1, 0, 0, 0]) == (230, 30)
    assert tick.windows["vision"].newest_ns == tick_ns(0) - 30 * MS


def test_one_frame_is_given_twice_and_so_is_one_after_a_change_of_size() -> None:
    w = windower("vision")
    w.push("vision", image(tick_ns(0) - 10 * MS, 7))
    w.push("vision", image(tick_ns(1) - 210 * MS, 8))
    w.push("vision", image(tick_ns(1) - 10 * MS, 9, side=5))
    first, second = w.finish() + w.advance(tick_ns(1) + 200 * MS)
    assert (present(first.windows["vision"]) == 7).all()
    assert present(second.windows["vision"]).shape == (2, 5, 7, 3)
    assert (present(second.windows["vision"]) == 9).all()


def test_images_go_stale() -> None:
    w = windower("vision")
    w.push("vision", image(tick_ns(0)))
    ticks = w.advance(tick_ns(3) + 200 * MS)
    assert [tick.windows["vision"].missing for tick in ticks] == ["", "", "", "stale"]
    assert ticks[3].windows["vision"].newest_ns == tick_ns(0)


def test_a_fast_camera_keeps_few_frames() -> None:
    w = windower("vision")
    for n in range(3000):
        w.push("vision", image(T0 + n * MS))
        w.advance(T0 + n * MS)
        assert len(w._lanes["vision"]._buffer._frames) <= 8  # type: ignore[union-attr]


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60, unique=True),
    st.sampled_from([0, 70, 250, 500, 1200]),
    st.sampled_from([50, 100, 500]),
)
@settings(deadline=None)
def test_what_a_camera_buffer_lets_go_is_never_missed(times_ms: list[int], window_ms: int, hop_ms: int) -> None:
    """In any order of arrival within the lateness, against keeping every frame."""
    hop_ns = hop_ms * MS
    lateness_s = 4.0  # all of them come within it
    table = {"vision": stream("vision", "vision", window_s=window_ms / 1e3, max_lateness_s=lateness_s)}
    w = Windower(table, hop_ns, 0)
    arrived: list[int] = []
    expected: dict[int, tuple[int, int]] = {}
    for t_ms in times_ms:
        before = max(arrived, default=0)
        arrived.append(t_ms)
        w.push("vision", image(t_ms * MS, side=2, number=t_ms))
        for index in range(before // hop_ms + 1, t_ms // hop_ms + 1):  # the ticks that this frame settles
            past = sorted(t for t in arrived if t <= index * hop_ms)
            if past and index * hop_ms - past[-1] <= 1000:
                wanted_ms = index * hop_ms - window_ms
                older = min(past, key=lambda t: abs(t - wanted_ms))
                expected[index] = (older if wanted_ms - older <= 1000 else past[-1], past[-1])
    found = {
        tick.index: tuple(_number(picture) for picture in tick.windows["vision"].data)
        for tick in w.finish()
        if tick.windows["vision"].data is not None
    }
    assert found == expected


def _number(picture: NDArray[np.uint8]) -> int:
    return int(picture[0, 0, 0]) * 256 + int(picture[0, 0, 1])


def test_an_audio_window_ends_at_the_tick_to_the_row() -> None:
    w = windower("audio")
    push_all(w, "audio", audio_blocks(4.0))
    ticks = w.advance(T0 + 4_000 * MS)
    assert [tick.windows["audio"].missing for tick in ticks[:3]] == ["too short"] * 3
    for tick in ticks[4:]:
        window = tick.windows["audio"]
        rows = present(window)
        stop = round((tick.t_ns - T0) * AUDIO_HZ / 1e9)
        np.testing.assert_array_equal(rows, ramp(stop - 32000, 32000, 2))
        assert (window.rate_hz, window.filled, window.newest_ns) == (AUDIO_HZ, 0.0, tick.t_ns)


def test_jitter_of_stamps_neither_cuts_nor_stretches_audio() -> None:
    rng = np.random.default_rng(1)
    w = windower("audio")
    for block in audio_blocks(12.0):
        w.push("audio", Sample(block.t_ns + round(rng.normal(0, 3e6)), block.data, AUDIO_HZ))
    tick = w.advance(T0 + 12_000 * MS)[-1]
    rows = present(tick.windows["audio"])
    assert tick.windows["audio"].filled == 0.0
    np.testing.assert_allclose(np.diff(rows[:, 0]), 1e-5, atol=3e-7)
    stop = round((tick.t_ns - T0) * AUDIO_HZ / 1e9)
    assert abs(rows[-1, 0] * 1e5 - stop) < 0.003 * AUDIO_HZ


@pytest.mark.parametrize("ppm", [-300, 300])
def test_a_drifting_clock_is_followed_without_gaps(ppm: float) -> None:
    w = windower("audio")
    for n in range(60 * 50):
        w.push("audio", audio(320 * n, t_ns=T0 + round(n * 20e6 * (1 + ppm / 1e6))))
    (*_, tick) = w.advance(T0 + 60_000 * MS)
    rows = present(tick.windows["audio"])
    assert tick.windows["audio"].filled == 0.0
    row_now = (tick.t_ns - T0) / (1 + ppm / 1e6) * AUDIO_HZ / 1e9
    assert abs(rows[-1, 0] * 1e5 - row_now) < 0.001 * AUDIO_HZ


@pytest.mark.parametrize("told", [True, False])
def test_lost_audio_is_zero_and_counted_and_what_follows_is_in_place(told: bool) -> None:
    w = windower("audio")
    blocks = audio_blocks(4.0, skip=[150])
    if told:
        blocks[150] = audio(320 * 151, lost=320)
    push_all(w, "audio", blocks)
    tick = w.advance(T0 + 4_000 * MS)[-1]
    rows = present(tick.windows["audio"])
    stop = round((tick.t_ns - T0) * AUDIO_HZ / 1e9)
    expected = ramp(stop - 32000, 32000, 2)
    hole = 320 * 150 - (stop - 32000)
    expected[hole : hole + 320] = 0
    np.testing.assert_array_equal(rows, expected)
    assert tick.windows["audio"].filled == pytest.approx(0.01)


def test_too_much_lost_audio_is_a_gap_until_it_has_passed() -> None:
    w = windower("audio")
    push_all(w, "audio", audio_blocks(6.5, skip=range(100, 125)))
    ticks = w.advance(T0 + 6_500 * MS)
    missing = {round((tick.t_ns - T0) / 1e9, 1): tick.windows["audio"].missing for tick in ticks}
    for at_s, reason in missing.items():
        hole_s = min(at_s, 2.5) - max(at_s - 2.0, 2.0)
        assert (reason == "gap") == (hole_s > 0.4) or reason == "too short"


def test_audio_goes_stale_when_nothing_comes() -> None:
    w = windower("audio")
    push_all(w, "audio", audio_blocks(3.0))
    ticks = w.advance(T0 + 6_000 * MS)
    age_s = {(tick.t_ns - T0) / 1e9 - 3.0: tick.windows["audio"].missing for tick in ticks}
    assert {reason for age, reason in age_s.items() if -0.9 < age <= 0.4} == {""}
    assert {reason for age, reason in age_s.items() if 0.4 < age <= 1.0} == {"gap"}
    assert {reason for age, reason in age_s.items() if age > 1.0} == {"stale"}


def test_out_of_order_duplicate_late_and_future_samples() -> None:
    w = windower("audio")
    blocks = audio_blocks(3.5)
    blocks[120], blocks[121], blocks[122] = blocks[122], blocks[120], blocks[121]
    blocks.insert(130, blocks[128])
    blocks.insert(140, blocks[20])
    push_all(w, "audio", blocks)
    w.push("audio", audio(320 * 400), now_ns=T0 + 3_500 * MS)
    w.push("audio", audio(320 * 50 * 120))
    tick = w.advance(T0 + 3_500 * MS)[-1]
    stop = round((tick.t_ns - T0) * AUDIO_HZ / 1e9)
    np.testing.assert_array_equal(present(tick.windows["audio"]), ramp(stop - 32000, 32000, 2))
    assert tick.windows["audio"].filled == 0.0
    assert w.drops() == {"audio": {"duplicate": 1, "late": 1, "far future": 2}}


@pytest.mark.parametrize("early_ms", [20, 21, 60, 150])
def test_a_block_that_lies_before_the_first_one_is_late(early_ms: int) -> None:
    w = windower("audio")
    w.push("audio", audio(6400))
    w.push("audio", audio(6400 - 16 * early_ms))
    push_all(w, "audio", [audio(6720 + 320 * n) for n in range(150)])
    assert w.drops() == {"audio": {"late": 1}}
    window = w.advance(T0 + 3_400 * MS)[-1].windows["audio"]
    stop = round((window.newest_ns - T0) * AUDIO_HZ / 1e9)
    np.testing.assert_array_equal(present(window), ramp(stop - 32000, 32000, 2))


def test_a_block_that_begins_before_the_first_one_and_reaches_beyond_it_adds_what_fits() -> None:
    w = windower("audio")
    w.push("audio", audio(1600, rows=160))
    w.push("audio", audio(0, rows=2400))
    push_all(w, "audio", [audio(2400 + 320 * n) for n in range(150)])
    window = w.advance(T0 + 3_000 * MS)[-1].windows["audio"]
    stop = round((window.newest_ns - T0) * AUDIO_HZ / 1e9)
    np.testing.assert_array_equal(present(window), ramp(stop - 32000, 32000, 2))


BLOCKS = st.lists(
    st.tuples(st.integers(-400, 4_000), st.integers(1, 1_500), st.booleans(), st.sampled_from([0, 0, 1, 320, 10**9])),
    min_size=1,
    max_size=40,
)
"""(begin in milliseconds, rows, whether of another rate and width, rows said to be lost before)."""


@given(BLOCKS, st.sampled_from([0.05, 0.2, 5.0]))
@settings(deadline=None, max_examples=300)
def test_no_order_overlap_or_change_of_blocks_is_a_fault(
    blocks: list[tuple[int, int, bool, int]], lateness_s: float
) -> None:
    faults = Faults()
    w = Windower(streams("audio", max_lateness_s=lateness_s), HOP_NS, T0, faults)
    ticks: list[Tick] = []
    for begin_ms, rows, other, lost in blocks:
        rate_hz, columns = (AUDIO_HZ / 2, 1) if other else (AUDIO_HZ, 2)
        w.push("audio", Sample(T0 + begin_ms * MS, ramp(0, rows, columns), rate_hz, lost))
        ticks += w.advance(w.newest_ns)
    ticks += w.finish()
    assert faults.counts() == {}
    assert [tick.index for tick in ticks] == list(range(FIRST, FIRST + len(ticks)))
    assert w.drops()["audio"].keys() <= {"late", "duplicate"}


@given(BLOCKS)
@settings(deadline=None, max_examples=300)
def test_rows_lie_where_their_stamps_say(blocks: list[tuple[int, int, bool, int]]) -> None:
    """Rows carry their time; in a window they lie within the tolerance of stamps of where they belong."""
    buffer = RowBuffer(stream("audio", "audio", max_lateness_s=5.0))
    longest = max(rows for _, rows, _, _ in blocks)
    for begin_ms, rows, _, lost in blocks:
        first = round(begin_ms * AUDIO_HZ / 1e3)
        data = (np.arange(first, first + rows, dtype=np.float32)[:, None] + 10_000) / 1e5
        buffer.add(Sample(T0 + begin_ms * MS, data, AUDIO_HZ, lost))
    window = buffer.cut(buffer.settled_ns)
    if window.missing:
        assert window.missing in ("gap", "too short", "stale")
        return
    rows_at = present(window)[:, 0].astype(np.float64) * 1e5 - 10_000
    stop = (window.newest_ns - T0) * AUDIO_HZ / 1e9
    off = rows_at - (stop - 32_000 + np.arange(32_000))
    real = rows_at > -10_000 + 1
    assert np.abs(off[real]).max() <= longest / 2 + 2 * JITTER_CEILING_S * AUDIO_HZ


@given(
    st.lists(st.tuples(st.integers(-400, 4_000), st.integers(1, 9), st.integers(0, 300)), min_size=1, max_size=60),
    st.sampled_from(["vision", "depth"]),
)
@settings(deadline=None, max_examples=150)
def test_no_order_or_size_of_pictures_is_a_fault(pictures: list[tuple[int, int, int]], modality: Modality) -> None:
    """(time, size, how much later it comes); windows hold the newest picture that had come by then."""
    faults = Faults()
    w = Windower(streams(modality, max_lateness_s=0.3), HOP_NS, T0, faults)
    ticks: list[Tick] = []
    for t_ms, side, _ in sorted(pictures, key=lambda picture: picture[0] + picture[2]):
        at_ns = T0 + t_ms * MS
        values = np.full((side, side), 1.0 + t_ms / 1e3, np.float32)
        values[0, 0] = 0.0
        w.push(modality, image(at_ns, side=side) if modality == "vision" else Sample(at_ns, np.abs(values)))
        ticks += w.advance(w.newest_ns)
    ticks += w.finish()
    assert faults.counts() == {}
    times_ns = {T0 + t_ms * MS for t_ms, _, _ in pictures}
    for tick in ticks:
        window = tick.windows[modality]
        assert window.missing or window.newest_ns in times_ns
        assert window.newest_ns <= tick.t_ns


class Poison(Sample):
    """A sample whose data cannot be read."""

    __slots__ = ()

    @property
    def data(self) -> NDArray[Any]:
        raise ZeroDivisionError("poison")

    def __init__(self, t_ns: int) -> None:
        object.__setattr__(self, "t_ns", t_ns)
        object.__setattr__(self, "rate_hz", 0.0)
        object.__setattr__(self, "lost", 0)


def test_a_sample_that_is_a_fault_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    w = Windower(streams("audio", "vision"), HOP_NS, T0, faults)
    ticks: list[Tick] = []
    for number, block in enumerate(audio_blocks(5.0)):
        if number in (180, 200):  # the width of a block that has none cannot be told
            block = Sample(block.t_ns, block.data[:, 0], AUDIO_HZ)
        w.push("audio", block)
        if number % 5 == 0:
            w.push("vision", image(block.t_ns))
        ticks += w.advance(w.newest_ns)
    assert faults.counts() == {"audio": 2}
    assert w.drops() == {"audio": {"fault": 2}, "vision": {}}
    assert len(caplog.records) == 1
    last = ticks[-1]
    assert present(last.windows["vision"]).shape == (2, 4, 6, 3)
    assert present(last.windows["audio"]).shape == (32000, 2)
    assert last.windows["audio"].filled == pytest.approx(640 / 32000)


def test_a_window_that_cannot_be_cut_is_missing_alone() -> None:
    faults = Faults()
    w = Windower(streams("audio", "vision"), HOP_NS, T0, faults)
    push_all(w, "audio", audio_blocks(4.0))
    for n in range(40):
        at_ns = T0 + 100 * MS * n
        w.push("vision", Poison(at_ns) if at_ns < tick_ns(5) <= at_ns + 100 * MS else image(at_ns))
    ticks = w.advance(w.newest_ns)
    missing = [tick.windows["vision"].missing for tick in ticks]
    assert missing.count("fault") == 1
    assert missing[5] == "fault"
    assert missing[-1] == ""
    assert faults.first("vision") == "ZeroDivisionError: poison"
    assert ticks[-1].windows["audio"].missing == ""


def test_a_stream_that_only_fails_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it remembers may itself be the cause."""
    faults = Faults()
    w = Windower(streams("audio"), HOP_NS, T0, faults)
    blocks = audio_blocks(6.0)
    push_all(w, "audio", blocks[:50])
    broken = w._lanes["audio"]._buffer
    monkeypatch.setattr(broken, "add", lambda _: 1 // 0)
    push_all(w, "audio", blocks[50:])
    assert 0 < w.drops()["audio"]["fault"] == faults.counts()["audio"] < 20
    assert present(w.advance(T0 + 6_000 * MS)[-1].windows["audio"]).shape == (32000, 2)


def test_sound_that_stands_at_full_scale_is_invalid_and_silence_is_not() -> None:
    for value, missing in ((0.0, ""), (1.0, "invalid: constant"), (-1.0, "invalid: constant"), (0.01, "")):
        w = windower("audio")
        blocks = [Sample(b.t_ns, np.full_like(b.data, value), AUDIO_HZ) for b in audio_blocks(4.0, skip=[150])]
        push_all(w, "audio", blocks)
        assert w.advance(T0 + 4_000 * MS)[-1].windows["audio"].missing == missing
    loud = windower("audio")
    push_all(loud, "audio", [Sample(b.t_ns, np.sign(np.sin(b.data * 900)), AUDIO_HZ) for b in audio_blocks(4.0)])
    assert loud.advance(T0 + 4_000 * MS)[-1].windows["audio"].missing == ""


def test_a_hole_in_imu_is_interpolated_up_to_a_tenth_of_a_second() -> None:
    w = windower("imu")
    push_all(w, "imu", imu_blocks(6.0, skip=[40, 41]))
    tick = w.advance(T0 + 6_000 * MS)[-1]
    rows = present(tick.windows["imu"])
    stop = round((tick.t_ns - T0) * IMU_HZ / 1e9)
    np.testing.assert_allclose(rows, ramp(stop - 2000, 2000, 6), atol=1e-5)
    assert tick.windows["imu"].filled == pytest.approx(40 / 2000)
    longer = windower("imu")
    push_all(longer, "imu", imu_blocks(6.0, skip=[40, 41, 42]))
    assert longer.advance(T0 + 6_000 * MS)[-1].windows["imu"].missing == "gap"


def test_single_rows_with_jitter_are_one_timeline() -> None:
    rng = np.random.default_rng(2)
    w = windower("imu", window_s=1.0)
    for n in range(1200):
        w.push("imu", Sample(T0 + round(n * 2.5e6 + rng.normal(0, 1e6)), ramp(n, 1, 6), IMU_HZ))
    tick = w.advance(T0 + 3_000 * MS)[-1]
    np.testing.assert_allclose(np.diff(present(tick.windows["imu"])[:, 0]), 1e-5, atol=3e-7)
    assert w.drops() == {"imu": {}}


def _bad_imu(change: str) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(0, 1, (2400, 6)).astype(np.float32)
    if change == "not finite":
        rows[2000, 4] = np.nan
    elif change == "constant":
        rows[:] = rows[0]
    elif change == "saturated":
        rows[:, 2] = np.clip(rows[:, 2] * 30, -39.2, 39.2)
    elif change == "out of range":
        rows[2000, 1] = 1e30
    return rows


@pytest.mark.parametrize("change", ["not finite", "constant", "saturated", "out of range", ""])
def test_impossible_imu_rows_make_the_window_invalid(change: str) -> None:
    rows = _bad_imu(change)
    w = windower("imu")
    push_all(w, "imu", [Sample(T0 + n * 50 * MS, rows[20 * n : 20 * n + 20], IMU_HZ) for n in range(120)])
    window = w.advance(T0 + 6_000 * MS)[-1].windows["imu"]
    assert window.missing == (f"invalid: {change}" if change else "")
    assert (window.data is None) == bool(change)


@pytest.mark.parametrize(
    ("modality", "value", "reason"),
    [
        ("depth", 0.0, "all zero"), ("depth", math.nan, "not finite"), ("depth", math.inf, "not finite"),
        ("depth", -1.0, "out of range"), ("thermal", math.nan, "not finite"), ("thermal", -300.0, "out of range"),
        ("audio", math.nan, "not finite"), ("audio", -math.inf, "not finite"), ("audio", 1e20, "out of range"),
    ],
)  # fmt: skip
def test_impossible_values_make_the_window_invalid(modality: Modality, value: float, reason: str) -> None:
    w = windower(modality)
    if modality == "audio":
        blocks = audio_blocks(3.0)
        blocks[120].data[7, 1] = value
        push_all(w, "audio", blocks)
        window = w.advance(T0 + 3_000 * MS)[-1].windows[modality]
    else:
        w.push(modality, depth(tick_ns(0), value))
        (tick,) = w.advance(tick_ns(0))
        window = tick.windows[modality]
    assert window.missing == f"invalid: {reason}"
    assert window.data is None


def test_a_change_of_rate_or_channels_begins_a_new_timeline() -> None:
    w = windower("audio")
    push_all(w, "audio", audio_blocks(3.0))
    for n in range(150):
        w.push("audio", Sample(T0 + (3000 + 20 * n) * MS, np.full((160, 1), 0.5, np.float32), 8000.0))
    ticks = w.advance(T0 + 6_000 * MS)
    window = ticks[-1].windows["audio"]
    assert present(window).shape == (16000, 1)
    assert window.rate_hz == 8000.0
    assert "too short" in [tick.windows["audio"].missing for tick in ticks[6:9]]


def test_a_long_hole_gives_its_ticks_in_portions() -> None:
    w = windower("audio")
    push_all(w, "audio", audio_blocks(3.0))
    hole_ns = 3600 * 10**9
    push_later = [Sample(block.t_ns + hole_ns, block.data, AUDIO_HZ) for block in audio_blocks(3.0)]
    w.advance(T0 + 3_000 * MS)
    for block in push_later:
        w.push("audio", block, now_ns=block.end_ns)
    portions = [w.advance(push_later[-1].end_ns) for _ in range(20)]
    ticks = [tick for portion in portions for tick in portion]
    assert max(len(portion) for portion in portions) == 600
    assert [tick.index for tick in ticks] == list(range(ticks[0].index, ticks[0].index + len(ticks)))
    assert ticks[-1].index == push_later[-1].end_ns // HOP_NS
    assert {tick.windows["audio"].missing for tick in ticks[10:-6]} <= {"gap", "stale"}
    assert ticks[-1].windows["audio"].missing == ""


def test_finish_gives_the_rest_with_what_there_is() -> None:
    w = windower("audio", "vision")
    push_all(w, "audio", audio_blocks(3.0))
    push_all(w, "vision", [image(T0 + 100 * MS * n) for n in range(35)])
    ticks = w.finish()
    assert [tick.index for tick in ticks] == list(range(FIRST, (T0 + 3_400 * MS) // HOP_NS + 1))
    assert w.finish() == []


def digest(ticks: list[Tick]) -> list[Any]:
    return [
        (tick.index, name, window.missing, window.newest_ns, window.filled,
         None if window.data is None else window.data.tobytes())
        for tick in ticks for name, window in sorted(tick.windows.items())
    ]  # fmt: skip


def _disturbed() -> dict[str, list[Sample]]:
    """Three streams with holes, swaps and duplicates, each in one fixed order of arrival."""
    sound, motion = audio_blocks(4.0, skip=[60, 110, 111]), imu_blocks(4.0, skip=[50])
    frames = [image(T0 + 70 * MS * n + n % 3 * MS, n) for n in range(57)]
    sound[80], sound[81] = sound[81], sound[80]
    frames[20], frames[21] = frames[21], frames[20]
    motion.insert(30, motion[29])
    return {"audio": sound, "imu": motion, "vision": frames}


@given(st.randoms(use_true_random=False), st.integers(1, 150))
@settings(deadline=None, max_examples=40)
def test_any_interleaving_gives_the_same_windows(random: Any, skew_ms: int) -> None:
    def run(skew_ns: int) -> list[Any]:
        table = {
            name: stream(name, name, window_s=window_s, max_lateness_s=0.4)  # type: ignore[arg-type]
            for name, window_s in (("audio", 1.0), ("imu", 1.0), ("vision", 0.2))
        }
        w = Windower(table, HOP_NS, T0)
        arrivals: list[tuple[int, str, Sample]] = []
        for name, samples in _disturbed().items():
            at_ns = 0
            for sample in samples:
                at_ns = max(at_ns, sample.end_ns + random.randint(0, skew_ns))
                arrivals.append((at_ns, name, sample))
        ticks: list[Tick] = []
        newest_ns = 0
        for _, name, sample in sorted(arrivals, key=lambda arrival: arrival[:2]):
            w.push(name, sample)
            newest_ns = max(newest_ns, sample.end_ns)
            ticks += w.advance(newest_ns)
        return digest(ticks + w.finish())

    assert run(skew_ms * MS) == run(0)
