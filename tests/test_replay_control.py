from __future__ import annotations

import logging
import math

import pytest

from agent.clock import ManualClock
from agent.events.messages import replay_state
from agent.log.format import ReplayError
from agent.log.replay.control import MAX_SPEED, Command, ReplayControl, ReplayOptions, ReplayOver

S = 1_000_000_000
START_NS = 1_700_000_000 * S
END_NS = START_NS + 60 * S


def replay(clock: ManualClock, **options: object) -> ReplayControl:
    return ReplayControl(START_NS, END_NS, ReplayOptions(**options), clock)  # type: ignore[arg-type]


def played_until(play: ReplayControl, t_s: float, clock: ManualClock) -> float:
    """Wait for what was captured at `t_s`; the seconds of the clock that passed."""
    began_ns = clock.now_ns()
    while not play.due(START_NS + round(t_s * S), timeout_s=0.02):
        assert clock.now_ns() - began_ns < 1000 * S
    return (clock.now_ns() - began_ns) / S


def position_s(play: ReplayControl) -> float:
    return (play.state().position_ns - START_NS) / S


@pytest.mark.parametrize("speed", [0.1, 1.0, 2.5, 1000.0])
def test_the_logs_time_runs_at_the_speed(speed: float) -> None:
    clock = ManualClock(5 * S)
    play = replay(clock, speed=speed)
    assert played_until(play, 10, clock) == pytest.approx(10 / speed)
    assert played_until(play, 12, clock) == pytest.approx(2 / speed)
    assert play.state().behind_s == 0
    assert position_s(play) == 12


def test_time_begins_to_pass_with_the_start() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    clock.sleep_until(30 * S)
    play.start()
    assert played_until(play, 10, clock) == pytest.approx(10)


def test_nothing_waits_at_full_speed() -> None:
    clock = ManualClock()
    play = replay(clock)
    assert play.due(END_NS, timeout_s=1)
    assert clock.now_ns() == 0


def test_a_wait_is_never_longer_than_asked() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    assert not play.due(START_NS + 30 * S, timeout_s=0.02)
    assert clock.now_ns() == 20_000_000
    play.ask(Command(paused=True))
    assert not play.due(START_NS + 30 * S, timeout_s=0.02)
    assert clock.now_ns() == 40_000_000


def test_a_pause_takes_no_time_of_the_log() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    played_until(play, 10, clock)
    play.due(START_NS + 15 * S, timeout_s=2)
    assert play.ask(Command(paused=True)).result().paused
    for _ in range(100):
        assert not play.due(START_NS + 15 * S, timeout_s=1)
    play.ask(Command(paused=False))
    assert played_until(play, 15, clock) == pytest.approx(3), "2 s of the 5 had passed before the pause"


def test_another_speed_goes_on_from_where_it_is() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    played_until(play, 10, clock)
    play.due(START_NS + 20 * S, timeout_s=4)
    assert play.ask(Command(speed=2.0)).result().speed == 2.0
    assert played_until(play, 20, clock) == pytest.approx(3)
    play.ask(Command(speed=MAX_SPEED))
    assert played_until(play, 50, clock) == 0
    play.ask(Command(speed=0.5))
    assert played_until(play, 51, clock) == pytest.approx(2)


def test_what_is_slower_falls_behind_says_so_once_and_catches_up(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    with caplog.at_level(logging.WARNING):
        for t_s in range(1, 6):  # each takes 4 s instead of 1
            assert played_until(play, t_s, clock) in (0, 1)
            clock.sleep_until(clock.now_ns() + 4 * S)
    assert play.state().behind_s == pytest.approx(12)
    assert len(caplog.messages) == 1
    assert "3 s behind speed 1" in caplog.messages[0]
    assert "nothing is left out" in caplog.messages[0]
    for t_s in range(6, 22):
        assert played_until(play, t_s, clock) == 0, "it is late, and does not wait"
    assert clock.now_ns() == 21 * S, "1 s before the first, and 4 s for each of five"
    assert played_until(play, 30, clock) == pytest.approx(9)
    assert play.state().behind_s == 0


def test_to_ask_how_it_stands_changes_nothing() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    played_until(play, 1, clock)
    clock.sleep_until(20 * S)
    played_until(play, 2, clock)
    assert play.ask(Command()).result().behind_s == play.state().behind_s == 18


def test_a_step_ends_with_its_last_tick() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0, paused=True)
    assert not play.due(START_NS + S, timeout_s=1)
    assert not play.ask(Command(step_ticks=2)).result().paused
    assert play.due(START_NS + 10 * S, timeout_s=0), "a step does not wait"
    play.ticked(1)
    assert play.due(START_NS + 20 * S, timeout_s=0)
    play.ticked(1)
    assert play.state().paused
    assert not play.due(START_NS + 20 * S, timeout_s=1)
    play.ask(Command(paused=False))
    assert played_until(play, 21, clock) == pytest.approx(1)


def test_a_seek_is_done_when_the_player_comes_back() -> None:
    clock = ManualClock()
    play = replay(clock, speed=1.0)
    played_until(play, 10, clock)
    first = play.ask(Command(seek_ns=START_NS + 40 * S))
    second = play.ask(Command(seek_ns=START_NS + 30 * S, paused=False))
    assert not first.done()
    assert position_s(play) == 30
    assert play.jump() == START_NS + 30 * S, "the last one counts"
    assert not second.done()
    assert play.jump() is None
    assert first.result().stretch == second.result().stretch == 2
    assert played_until(play, 32, clock) == pytest.approx(2)


def test_who_waits_for_a_seek_is_told_when_the_replay_is_closed() -> None:
    play = replay(ManualClock())
    before = play.ask(Command(seek_ns=START_NS))
    given_up = play.ask(Command(seek_ns=START_NS))
    given_up.cancel()
    play.close()
    after = play.ask(Command(seek_ns=START_NS))
    for future in (before, after):
        with pytest.raises(ReplayOver):
            future.result(timeout=1)
    play.close()


def test_a_loop_starts_over_unless_there_is_nothing_in_it() -> None:
    play = replay(ManualClock(), loop=True, from_ns=START_NS + 5 * S)
    play.end(start_over=False)
    assert play.jump() is None
    play.end(start_over=True)
    play.through()
    assert play.state().ended
    assert play.jump() == START_NS + 5 * S
    assert not play.state().ended
    play.ask(Command(seek_ns=START_NS + 7 * S))
    play.end(start_over=True)
    assert play.jump() == START_NS + 7 * S, "what the user asked goes before"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 0.01}, r"speed 0\.01 is not 0\.1 to 1000"),
        ({"speed": math.nan}, "speed nan"),
        ({"from_ns": START_NS - 1 * S}, r"from -1\.000 s: the log is 60\.000 s long"),
        ({"from_ns": START_NS + 61 * S}, r"from 61\.000 s"),
        ({"from_ns": START_NS + 20 * S, "to_ns": START_NS + 20 * S}, r"to 20\.000 s: the replay begins at 20\.000 s"),
    ],
)
def test_what_cannot_be_played_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ReplayError, match=message):
        replay(ManualClock(), **options)


def test_clients_get_seconds_from_the_start() -> None:
    clock = ManualClock()
    play = replay(clock, from_ns=START_NS + 10 * S, to_ns=START_NS + 90 * S, loop=True)
    play.due(START_NS + 11 * S, timeout_s=0)
    message = replay_state(play.state())
    assert (message.start_ns, message.duration_s, message.position_s) == (START_NS, 60, 11)
    assert (message.from_s, message.to_s, message.speed, message.loop) == (10, 60, 0, True)
