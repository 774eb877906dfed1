"""The words of `sensebind replay`, and what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recorded_run import facts, recorded

from agent.commands.replay import open_replay, replay, speed_of, time_of
from agent.log.format import ReplayError, sensor_of
from agent.log.replay.control import MAX_SPEED
from agent.log.timeline import Timeline

GOLDEN = Path(__file__).parent / "data" / "golden" / "log.mcap"
S = 1_000_000_000
START_NS = 1_700_000_000_200_000_000
"""22:13:20.2 in UTC, on the 14th of November 2023."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("12.5", 12.5),
        ("1700000030", 29.8),
        ("22:13:20.5", 0.3),
        ("22:14", 39.8),
        ("00:00:10", 6409.8),
        ("2023-11-14T22:13:30", 9.8),
        ("2023-11-14 22:13:30Z", 9.8),
        ("2023-11-15T00:13:30+02:00", 9.8),
    ],
)
def test_a_time_is_given_as_it_is_at_hand(text: str, seconds: float) -> None:
    assert time_of(text, START_NS, "--from") == START_NS + round(seconds * S)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "25:00", "2023-13-01", "1h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ReplayError, match=r"--to '.*': not a time; .* 2023-11-14T22:13:20") as raised:
        time_of(text, START_NS, "--to")
    assert "\n" not in str(raised.value)


def test_speeds() -> None:
    assert (speed_of("max"), speed_of("0.1"), speed_of("2")) == (MAX_SPEED, 0.1, 2.0)
    for text in ("fast", "", "0", "-1", "1e9"):
        with pytest.raises(ReplayError, match="speed"):
            speed_of(text)


def test_a_part_of_a_log_is_replayed_and_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = open_replay([GOLDEN], begin="2", end="8", sensors="camera, microphone", reuse_embeddings=True)
    status = replay(pipeline)
    assert status.ticks_delivered == 12
    printed = capsys.readouterr().out.splitlines()
    assert any("a rooster" in line or "a baby" in line for line in printed[:-1])
    assert re.fullmatch(r"12 ticks, 12 delivered, 0 shed; \d\.\d s in \d+\.\d s", printed[-1])


def test_a_replay_that_could_not_go_on_is_refused() -> None:
    with pytest.raises(ReplayError, match="--paused: a replay that is not served"):
        open_replay([GOLDEN], paused=True)
    with pytest.raises(ReplayError, match=r"from 99\.000 s: the log is 1"):
        open_replay([GOLDEN], begin="99")


def test_a_log_without_samples_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    empty = recorded(tmp_path / "empty.mcap", [], facts())
    with pytest.raises(ReplayError, match="holds no sample that can be read"):
        open_replay([empty])
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(empty.read_bytes()[:-40])
    with pytest.raises(ReplayError, match="log repair"):
        open_replay([cut])


def test_a_replay_is_recorded_from_start_to_end_only(tmp_path: Path) -> None:
    copy = tmp_path / "copy.mcap"
    for words, reason in (({"loop": True}, "may go back"), ({"reuse_embeddings": True}, "reads no samples")):
        with pytest.raises(ReplayError, match=reason):
            open_replay([GOLDEN], out=copy, **words)
    replay(open_replay([GOLDEN], sensors="thermal", out=copy))
    original, again = Timeline([GOLDEN]), Timeline([copy])
    assert set(again.sensors) == {"thermal"}

    def stamps(timeline: Timeline) -> list[int]:
        return [entry.message.log_time for entry in timeline.read() if sensor_of(entry.topic) == "thermal"]

    assert stamps(again) == stamps(original)
    assert any(entry.topic == "/events" for entry in again.read())
