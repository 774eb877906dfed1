"""What follows from a recording does not depend on how it is read: windows and health, without a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_run import SENSORS, START_NS, event, facts, samples

from agent.capture.source import CaptureReport, Jump
from agent.clock import ManualClock
from agent.faults import Faults
from agent.health.health import Health, StreamState
from agent.log.format import LogError
from agent.log.recording.recorder import Recorder
from agent.log.replay.control import ALL, Command, ReplayOptions
from agent.log.replay.samples import SampleReplay
from agent.policy import LIVE, LOSSLESS
from agent.run.sampler import Outlet, Sampler, SampleStretch
from agent.streams import Stream, Streams, in_any_order
from agent.windows.windower import Tick, Windower
from drivers.driver import Sample
from drivers.remote import Remote

S = 1_000_000_000
HOP_NS = S // 2
STEPS = 120
"""Tenths of a second."""
MEMORY_S = 4
"""The longest window is 1 s, and where its rows lie is known to a row after another two or three."""
Pairs = list[tuple[str, Sample]]


def streams() -> Streams:
    window_s = {"vision": 0.25, "audio": 0.5, "imu": 1.0}
    return in_any_order(
        {
            name: Stream(name, s.modality, s.rate_hz, 10.0, 1 << 20, window_s.get(s.modality, 0.0), "all", 8, 0.2)
            for name, s in SENSORS.items()
        }
    )


def unruly(seed: int, steps: int = STEPS) -> Pairs:
    """Samples that come late, out of order between sensors, with holes, and one with a wrong stamp."""
    rng = random.Random(seed)
    handed = [(name, sample) for name, sample in samples(steps) if not (name == "imu" and 300 < sample.t_ns % S < 400)]
    handed = [pair for pair in handed if not START_NS + 4 * S < pair[1].t_ns < START_NS + 5 * S or pair[0] == "camera"]
    order = sorted(range(len(handed)), key=lambda i: handed[i][1].t_ns + rng.randrange(0, 150_000_000))
    handed = [handed[i] for i in order]
    name, sample = handed[len(handed) // 3]
    handed[len(handed) // 3] = name, replace(sample, t_ns=sample.t_ns + 90 * S)
    return handed


def late(steps: int = STEPS) -> Pairs:
    """Samples of which many come late, and none is missing."""
    rng = random.Random(2)
    handed = samples(steps)
    order = sorted(range(len(handed)), key=lambda i: handed[i][1].t_ns + rng.randrange(0, 150_000_000))
    return [handed[i] for i in order]


def write(path: Path, handed: Pairs, event_every_s: float | None = None) -> Path:
    with Recorder(path, facts(), policy=LOSSLESS) as recorder:
        seq = 0
        for name, sample in handed:
            recorder.write_sample(name, sample)
            while event_every_s and START_NS + seq * HOP_NS < sample.t_ns < START_NS + 3000 * S:
                seq += 1
                recorder.write_event(event(seq))
    assert not recorder.report().drops
    return path


class Taken(Outlet[Any]):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        """Ticks, states of health, and "anew", in the order in which they came."""
        self.on_item: Callable[[], object] = lambda: None
        self.on_ticks: Callable[[int], None] = lambda _: None

    def keep(self, item: tuple[str, Sample]) -> None:  # noqa: ARG002
        self.on_item()

    def ticked(self, count: int) -> None:
        self.on_ticks(count)

    def submit(self, ticks: Sequence[Tick]) -> None:
        self.said += ticks

    def tell(self, states: Sequence[StreamState], now_ns: int) -> None:
        self.said += [(now_ns, state) for state in states]

    def start_anew(self) -> None:
        self.said.append("anew")

    @property
    def ticks(self) -> list[Tick]:
        return [said for said in self.said if isinstance(said, Tick)]


def run(
    replay: SampleReplay,
    *,
    on_ticks: Callable[[int], None] = lambda _: None,
    on_item: Callable[[Sampler[tuple[str, Sample]], Taken], object] = lambda *_: None,
    lasting: bool = False,
    taken: Taken | None = None,
    faults: Faults | None = None,
) -> Taken:
    taken = taken or Taken()
    faults = faults or Faults()

    def begin(start_ns: int) -> SampleStretch:
        windower, health = Windower(streams(), HOP_NS, start_ns, faults), Health(streams(), faults)
        return SampleStretch(windower, health, replay.reports, None, faults)

    sampler = Sampler(replay, begin, replay.clock.start_ns, taken, LOSSLESS, lasting=lasting, faults=faults)
    taken.on_item, taken.on_ticks = partial(on_item, sampler, taken), on_ticks
    sampler.start()
    sampler.ended.result(60)
    sampler.join()
    return taken


def plain(said: Sequence[Any]) -> list[Any]:
    """What was said as values that can be compared, every number of every window included."""

    def window_of(tick: Tick, name: str) -> tuple[Any, ...]:
        window = tick.windows[name]
        data = None if window.data is None else (window.data.shape, window.data.tobytes())
        return (name, window.missing, window.newest_ns, window.filled, window.rate_hz, data)

    return [
        (said.index, said.t_ns, said.settled_ns, *(window_of(said, name) for name in SENSORS))
        if isinstance(said, Tick)
        else said
        for said in said
    ]


class Gulps(SampleReplay):
    """Gives what is due in gulps of any size, some of them empty."""

    seed = 0

    def start(self) -> None:
        super().start()
        self._rng = random.Random(self.seed)
        self._gave = False

    @property
    def ended(self) -> bool:
        return super().ended and not self._gave  # the end comes after the last gulp, not with it

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:
        gulp: Pairs = []
        for _ in range(self._rng.choice([0, 1, 2, 7, 40])):
            polled = super().poll(timeout_s)
            if isinstance(polled, Jump):
                assert not gulp
                return polled
            gulp += polled
        self._gave = bool(gulp)
        return gulp


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log") / "run.mcap", unruly(1))


@pytest.fixture(scope="module")
def first(log: Path) -> Taken:
    return run(SampleReplay(log))


def test_the_log_is_a_hard_one(first: Taken) -> None:
    assert len(first.ticks) == 2 * STEPS // 10
    reasons = {window.missing for tick in first.ticks for window in tick.windows.values()}
    assert len(reasons) >= 3
    assert {state.state for said in first.said if isinstance(said, tuple) for state in [said[1]]} >= {"ok", "ended"}


@pytest.mark.parametrize("seed", range(3))
def test_gulps_do_not_matter(log: Path, first: Taken, seed: int) -> None:
    replay = Gulps(log)
    replay.seed = seed
    assert plain(run(replay).said) == plain(first.said)


@pytest.mark.parametrize("speed", [0.1, 1.0, 3.7, 1000.0])
def test_the_speed_does_not_matter(log: Path, first: Taken, speed: float) -> None:
    pace = ManualClock()
    assert plain(run(SampleReplay(log, options=ReplayOptions(speed=speed), pace=pace)).said) == plain(first.said)
    assert pace.now_ns() / S == pytest.approx(STEPS / 10 / speed, rel=0.05), "it was paced"


def test_pauses_steps_and_changes_of_speed_do_not_matter(log: Path, first: Taken) -> None:
    rng = random.Random(5)

    class Fidgety(SampleReplay):
        def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:
            speed = rng.choice([None, 0.5, 20.0])
            commands = [Command(speed=speed), Command(paused=True), Command(paused=False), Command(step_ticks=2)]
            self.control.ask(rng.choices(commands, weights=[5, 1, 8, 2])[0])
            return super().poll(timeout_s)

    replay = Fidgety(log, options=ReplayOptions(speed=2.0), pace=ManualClock())
    assert plain(run(replay, on_ticks=replay.control.ticked).said) == plain(first.said)


def test_status_that_is_asked_meanwhile_does_not_matter(log: Path, first: Taken) -> None:
    found = run(SampleReplay(log), on_item=lambda sampler, _: sampler.stretch.states())
    assert plain(found.said) == plain(first.said)


@pytest.fixture(scope="module")
def late_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("late") / "run.mcap", late())


@pytest.fixture(scope="module")
def all_of_late(late_log: Path) -> Taken:
    return run(SampleReplay(late_log))


@pytest.mark.parametrize("from_s", [1.37, 3.9, 5.0])
def test_far_enough_behind_a_seek_ticks_are_those_of_a_full_replay(
    late_log: Path, all_of_late: Taken, from_s: float
) -> None:
    from_ns = START_NS + round(from_s * S)
    sought = run(SampleReplay(late_log, options=ReplayOptions(from_ns=from_ns))).ticks
    assert all(tick.t_ns % HOP_NS == 0 for tick in sought)
    assert sought[0].t_ns == -(-from_ns // HOP_NS) * HOP_NS
    full = {tick.index: tick for tick in all_of_late.ticks}
    far = [tick for tick in sought if tick.t_ns >= from_ns + MEMORY_S * S]
    assert len(far) >= 6
    assert plain(far) == plain([full[tick.index] for tick in far])
    # Near it, windows hold nothing from before.
    for tick in sought:
        for window in tick.windows.values():
            assert not window.newest_ns or window.newest_ns >= from_ns


def test_a_seek_while_it_runs_is_a_replay_from_there(log: Path) -> None:
    target_ns = START_NS + 7 * S

    class Sought(SampleReplay):
        polls = 0

        def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:
            self.polls += 1
            if self.polls == 200:
                self.control.ask(Command(seek_ns=target_ns))
            return super().poll(timeout_s)

    said = run(Sought(log)).said
    at = said.index("anew")
    assert plain(said[at + 1 :]) == plain(run(SampleReplay(log, options=ReplayOptions(from_ns=target_ns))).said)
    assert any(isinstance(before, Tick) for before in said[:at])


def test_a_loop_is_the_same_every_time(log: Path, first: Taken) -> None:
    def stop_in_the_fourth(sampler: Sampler[Any], taken: Taken) -> None:
        if taken.said.count("anew") == 3:
            sampler.stop()

    said = run(SampleReplay(log, options=ReplayOptions(loop=True)), lasting=True, on_item=stop_in_the_fourth).said
    passes = [plain(part) for part in parted(said)]
    assert passes[:3] == [plain(first.said)] * 3


def parted(said: Sequence[Any]) -> list[list[Any]]:
    parts: list[list[Any]] = [[]]
    for what in said:
        if what == "anew":
            parts.append([])
        else:
            parts[-1].append(what)
    return parts


def test_a_part_of_a_log_ends_where_it_is_told(late_log: Path, all_of_late: Taken) -> None:
    from_ns, to_ns = START_NS + 2 * S, START_NS + 9 * S
    found = run(SampleReplay(late_log, options=ReplayOptions(from_ns=from_ns, to_ns=to_ns)))
    assert from_ns < found.ticks[0].t_ns
    assert to_ns - HOP_NS < found.ticks[-1].t_ns <= to_ns
    full = {tick.index: tick for tick in all_of_late.ticks}
    inner = [tick for tick in found.ticks if from_ns + MEMORY_S * S <= tick.t_ns <= to_ns - S // 4]
    assert plain(inner) == plain([full[tick.index] for tick in inner])


@pytest.mark.parametrize("with_events", [True, False])
def test_a_long_hole_is_jumped_over_when_the_log_itself_tells_of_it(tmp_path: Path, with_events: bool) -> None:
    """A sensor alone may be wrong by an hour; the agent that went on saying what it saw was not."""
    hole_s = 600
    handed = samples(30)
    later = [(name, replace(sample, t_ns=sample.t_ns + hole_s * S)) for name, sample in samples(60)[150:]]
    log = write(tmp_path / "run.mcap", [*handed, *later], event_every_s=0.5 if with_events else None)
    pace = ManualClock()
    replay = SampleReplay(log, options=ReplayOptions(speed=1.0), pace=pace)
    said = run(replay).said
    assert pace.now_ns() < 10 * S, "nobody waits through it"
    if not with_events:
        assert "anew" not in said
        return
    before, after = parted(said)
    ticks = [[tick for tick in part if isinstance(tick, Tick)] for part in (before, after)]
    assert ticks[0][-1].t_ns <= START_NS + 3 * S < START_NS + hole_s * S < ticks[1][0].t_ns
    assert len(ticks[0]) == 6
    assert len(ticks[1]) >= 5
    assert all(window.data is not None for window in ticks[1][-1].windows.values())


def test_a_picture_is_decoded_for_a_window_only(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.log import messages

    decoded: list[str] = []
    sample_of = messages.sample_of

    def counted(message: messages.Message, *rest: Any) -> Sample:
        decoded.append(message.DESCRIPTOR.full_name)
        return sample_of(message, *rest)

    monkeypatch.setattr(messages, "sample_of", counted)
    taken = run(SampleReplay(log))
    pictures = decoded.count(messages.IMAGE_SCHEMA)
    assert 0 < pictures <= len(taken.ticks) * (2 + 1 + 1), "two frames, a depth map and a thermal picture a tick"


def test_a_picture_that_cannot_be_decoded_costs_its_window(tmp_path: Path) -> None:
    path = write(tmp_path / "run.mcap", samples(40))
    broken = 0

    class Broken(SampleReplay):
        def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:
            nonlocal broken
            polled = super().poll(timeout_s)
            if not isinstance(polled, Jump):
                for name, sample in polled:
                    if name in ("camera", "depth") and sample.t_ns > START_NS + 2 * S:
                        message = sample._picture._message  # type: ignore[attr-defined]
                        message.data = message.data[:30] + message.data[170:]
                        broken += 1
            return polled

    replay = Broken(path)
    ticks = run(replay).ticks
    assert broken
    drops = {name: report.drops for name, report in replay.reports().items()}
    assert drops["camera"]["bad data"] > 0
    assert drops["depth"]["bad data"] > 0
    last = ticks[-1].windows
    assert last["camera"].data is not None
    assert last["camera"].data.size == 0, "nothing to be embedded"
    assert last["depth"].missing == "invalid: all zero"
    assert last["thermal"].data is not None


def test_a_seek_in_a_truncated_log(log: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(log.read_bytes()[: log.stat().st_size * 2 // 3])
    from_ns = START_NS + 3 * S
    whole = run(SampleReplay(log, options=ReplayOptions(from_ns=from_ns))).ticks
    found = run(SampleReplay(cut, options=ReplayOptions(from_ns=from_ns))).ticks
    assert 4 < len(found) < len(whole)
    assert plain(found[:-2]) == plain(whole[: len(found) - 2])


def test_streams_that_are_left_out_are_not_read(log: Path) -> None:
    replay = SampleReplay(log, ["imu"])
    replay.start()
    polled = [replay.poll(0.0) for _ in range(40)]
    replay.stop()
    assert {name for name, _ in chain.from_iterable(p for p in polled if not isinstance(p, Jump))} == {"imu"}
    assert np.isfinite(replay.timeline.end_ns)
    assert replay.control.state().speed == ALL.speed


def test_a_log_that_steps_back_is_replayed_but_for_what_is_late(tmp_path: Path) -> None:
    """The first block of sound stands behind the third, as in a log whose clock was set back."""
    true = samples(40)
    sound = [number for number, (name, _) in enumerate(true) if name == "microphone"][:3]
    order = [number for number in range(len(true)) if number != sound[0]]
    order.insert(order.index(sound[2]) + 1, sound[0])
    found = run(
        SampleReplay(write(tmp_path / "back.mcap", [true[number] for number in order])), faults=(faults := Faults())
    )
    expected = run(SampleReplay(write(tmp_path / "true.mcap", true)))
    assert faults.counts() == {}
    assert plain(found.ticks[3:]) == plain(expected.ticks[3:])
    assert len(found.ticks) == len(expected.ticks)
    (told,) = [state for _, state in found.said[-len(SENSORS) :] if state.sensor == "microphone"]
    assert told.drops["late"] == 1


class Odd(SampleReplay):
    """Gives, now and then, a block of the microphone without columns, and one of a sensor that nobody knows."""

    def start(self) -> None:
        super().start()
        self._heard = 0

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:
        polled = super().poll(timeout_s)
        if isinstance(polled, Jump):
            return polled
        odd: Pairs = []
        for name, sample in polled:
            self._heard += name == "microphone"
            wrong = name == "microphone" and self._heard in (33, 34, 60)
            odd.append((name, replace(sample, data=sample.data[:, 0]) if wrong else sample))
            if wrong:
                odd.append(("nobody", sample))
        return odd


def test_a_fault_costs_its_sample_alone_and_is_told_of_its_stream(log: Path, first: Taken) -> None:
    def play() -> tuple[Taken, Faults]:
        faults = Faults()
        return run(Odd(log), faults=faults), faults

    (found, faults), (again, _) = play(), play()
    assert plain(found.said) == plain(again.said), "the same every time"
    assert set(faults.counts()) == {"microphone", "nobody"}
    assert faults.counts()["microphone"] >= 3
    assert [tick.index for tick in found.ticks] == [tick.index for tick in first.ticks]
    others = [name for name in SENSORS if name != "microphone"]
    for tick, sound in zip(found.ticks, first.ticks, strict=True):
        for name in others:
            assert tick.windows[name].missing == sound.windows[name].missing
    told = [state for said in found.said if isinstance(said, tuple) for state in [said[1]] if state.faults]
    assert {state.sensor for state in told} == {"microphone"}
    assert told[0].state == "degraded"
    assert "faults: " in told[0].reason
    assert told[0].first_fault == faults.first("microphone") != ""
    assert told[-1].faults == faults.counts()["microphone"]
    assert told[-1].drops["fault"] == 3


def test_what_follows_from_samples_may_fail_and_the_rest_goes_on(log: Path, first: Taken) -> None:
    class Failing(Taken):
        submitted = told = 0

        def submit(self, tick: Tick) -> None:
            self.submitted += 1
            if self.submitted == 5:
                raise RuntimeError("no room for this tick")
            super().submit(tick)

        def tell(self, states: Sequence[StreamState], now_ns: int) -> None:
            self.told += 1
            if self.told == 2:
                raise RuntimeError("no room for this event")
            super().tell(states, now_ns)

    items = 0

    def count_and_fail(_: object, __: object) -> None:
        nonlocal items
        items += 1
        if items % 7 == 0:
            raise OSError("a recorder that fails")

    faults = Faults()
    taken = Failing()
    run(SampleReplay(log), on_item=count_and_fail, taken=taken, faults=faults)
    assert [tick.index for tick in taken.ticks] == [t.index for n, t in enumerate(first.ticks) if n != 4]
    assert faults.counts() == {"sampler": 2 + items // 7}


class Silent:
    """A live source that gives nothing for as long as it is asked to wait, on a clock that goes on meanwhile."""

    remotes: Mapping[str, Remote] = {}

    def __init__(self, clock: ManualClock, until_ns: int) -> None:
        self._clock, self._until_ns = clock, until_ns

    @property
    def ended(self) -> bool:
        return self._clock.now_ns() >= self._until_ns

    def start(self) -> None:
        pass

    def poll(self, timeout_s: float) -> Pairs:
        self._clock.sleep_until(self._clock.now_ns() + round(timeout_s * 1e9))
        return []

    def reports(self) -> dict[str, CaptureReport]:
        return {}

    def stop(self) -> None:
        pass


def test_a_tick_that_waits_for_late_streams_is_cut_the_moment_their_lateness_runs_out() -> None:
    clock = ManualClock(START_NS + 7_654_321)
    source = Silent(clock, START_NS + 3 * S)

    def begin(start_ns: int) -> SampleStretch:
        return SampleStretch(Windower(streams(), HOP_NS, start_ns), Health(streams()), source.reports, clock)

    taken = Taken()
    sampler: Sampler[tuple[str, Sample]] = Sampler(source, begin, clock.start_ns, taken, LIVE)
    sampler.start()
    sampler.ended.result(60)
    sampler.join()
    lateness_ns = round(max(stream.max_lateness_s for stream in streams().values()) * 1e9)
    assert len(taken.ticks) > 3
    for tick in taken.ticks[:-1]:  # the source may be over before the last is due
        assert tick.settled_ns == pytest.approx(tick.t_ns + lateness_ns, abs=2)


def test_a_source_that_fails_ends_the_run(log: Path) -> None:
    class Broken(SampleReplay):
        def poll(self, timeout_s: float) -> list[tuple[str, Sample]] | Jump:  # noqa: ARG002
            raise LogError("the disk is gone")

    with pytest.raises(LogError, match="the disk is gone"):
        run(Broken(log))
