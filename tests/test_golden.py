"""What the shipped model says about a stored log, held against what it said once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from file_modes import others_may

from agent.lab import golden
from agent.lab.comparison import differences
from agent.log.format import LogError
from agent.log.recording.recorder import Recorder
from agent.log.timeline import Timeline
from agent.log.whole_file import save_log
from agent.policy import LOSSLESS
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_IMU

GOLDEN = Path(__file__).parent / "data" / "golden"
MOST_BYTES = 3_000_000


def test_the_agent_says_what_it_said() -> None:
    """When a change of this is meant: `sensebind golden check tests/data/golden --accept`."""
    told: list[str] = []
    try:
        golden.check(GOLDEN, tell=told.append)
    except golden.GoldenError as error:
        pytest.fail("\n".join([*told, str(error)]))
    assert told == [f"{GOLDEN}: {len(golden.said_before(GOLDEN).events)} events, no difference"]


def test_the_stored_log_is_worth_replaying() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < MOST_BYTES
    events = golden.said_before(GOLDEN).events
    assert {event.WhichOneof("event") for event in events} == {"embedding", "audio_source", "alert", "health"}
    states = {event.audio_source.state for event in events if event.HasField("audio_source")}
    assert states >= {pb.SOURCE_STATE_IN_VIEW, pb.SOURCE_STATE_NOT_IN_VIEW}
    assert {event.alert.phase for event in events if event.HasField("alert")} == {1, 2, 3}
    windows = [event for event in events if event.HasField("embedding")][-1].embedding.windows
    assert len(windows) == 5
    assert all(window.present and window.vector.data for window in windows)


def changed(folder: Path) -> Path:
    """A copy whose stored events are not quite what the agent says."""
    shutil.copytree(GOLDEN, folder)
    said = golden.said_before(GOLDEN)
    last = [event for event in said.events if event.HasField("embedding")][-1]
    imu = next(window for window in last.embedding.windows if window.modality == MODALITY_IMU)
    imu.vector.data = imu.vector.data[2:] + imu.vector.data[:2]
    begun = next(event for event in said.events if event.HasField("alert"))
    with_another = [event for event in said.events if event is not begun]
    (folder / golden.EVENTS).unlink()
    with Recorder(folder / golden.EVENTS, Timeline([folder / golden.LOG]).facts, policy=LOSSLESS) as recorder:
        recorder.write_model("imagebind_nano 000000000000")
        for event in with_another:
            recorder.write_event(event)
    return folder


def test_a_difference_is_told_by_window_and_field_and_can_be_accepted(tmp_path: Path) -> None:
    folder = changed(tmp_path / "golden")
    told: list[str] = []
    with pytest.raises(
        golden.GoldenError, match=r"2 differences; if they are intended, store them with .* --accept"
    ) as raised:
        golden.check(folder, tell=told.append)
    assert "\n" not in str(raised.value)
    assert len(told) == 3
    assert "begin of alert" in told[0]
    assert told[0].endswith("is new")
    assert "embedding.windows[imu].vector: has cosine" in told[1]
    assert "the model was imagebind_nano 000000000000 and is imagebind_nano" in told[2]

    golden.check(folder, accept=True, tell=told.append)
    assert told[-1] == f"{folder}: 2 differences accepted"
    accepted = golden.said_before(folder)
    assert accepted.model == golden.said_before(GOLDEN).model
    assert differences(golden.said_before(GOLDEN).events, accepted.events, golden.ACROSS_MACHINES) == []
    assert sorted(path.name for path in folder.iterdir()) == [golden.EVENTS, golden.LOG]


def test_a_golden_replay_is_not_overwritten_and_not_made_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(golden.GoldenError, match=r"log\.mcap: exists already"):
        golden.record(GOLDEN / golden.LOG, GOLDEN)
    with pytest.raises(LogError, match="cannot be read"):
        golden.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_golden_replay_is_made_of_a_log(tmp_path: Path) -> None:
    """Of an empty one: what the first test checks was made by the same function."""
    log = tmp_path / "short.mcap"
    facts = Timeline([GOLDEN / golden.LOG]).facts
    with Recorder(log, facts, policy=LOSSLESS):
        pass
    assert golden.record(log, tmp_path / "golden") == len(golden.said_before(tmp_path / "golden").events)
    assert (tmp_path / "golden" / golden.LOG).read_bytes() == log.read_bytes()
    assert others_may(tmp_path / "golden") == {}


def test_a_golden_replay_is_made_of_one_file_in_a_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    facts = Timeline([GOLDEN / golden.LOG]).facts
    for part in (1, 2):
        save_log(run / f"run_{part}.mcap", replace(facts, part=part), [])
    with pytest.raises(golden.GoldenError, match="run: holds 2 files; make one of them with `sensebind log cut"):
        golden.record(run, tmp_path / "golden")
    (run / "run_2.mcap").unlink()
    (tmp_path / "file").touch()
    with pytest.raises(golden.GoldenError, match="file: cannot be written: "):
        golden.record(run, tmp_path / "file")
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden").chmod(0o755)
    golden.record(run, tmp_path / "golden")
    assert others_may(tmp_path / "golden") == {str(tmp_path / "golden"): "drwxr-xr-x"}, "a folder that is there stays"
    assert (tmp_path / "golden" / golden.LOG).read_bytes() == (run / "run_1.mcap").read_bytes()
