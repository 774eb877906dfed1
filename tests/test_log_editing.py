from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mcap.exceptions import McapError
from mcap.writer import Writer
from other_reader import messages, metadata
from recorded_run import SENSORS, START_NS, event, facts, replayed, samples
from typer.testing import CliRunner

from agent.commands.log import log_app
from agent.config.recording import RecordSettings
from agent.log.editing.cutting import cut
from agent.log.editing.merging import merge
from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.files import recording_files, recordings
from agent.log.format import LogError, RecordError, ReplayError, RunFacts
from agent.log.reading import facts_of, frames
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD
from agent.log.writing import REDEFINE_CHUNKS
from agent.policy import LOSSLESS
from drivers.driver import Sample

SECOND = 10**9
TOO_LONG = 300 * "x" + ".mcap"


def log(
    path: Path,
    steps: range = range(30),
    sensors: str = "camera microphone depth thermal imu",
    run: RunFacts | None = None,
    settings: RecordSettings | None = None,
    model: str = "imagebind_nano 0123",
) -> Path:
    """Three seconds of a run, an event every half second; sensors that are not there are not in the facts."""
    run = run or facts()
    run = replace(run, sensors={name: SENSORS[name] for name in sensors.split()})
    with Recorder(path, run, settings, policy=LOSSLESS) as recorder:
        recorder.write_model(model)
        for name, sample in samples(steps.stop):
            if sample.t_ns < START_NS + steps.start * SECOND // 10:
                continue
            recorder.write_sample(name, sample)
            if name == "imu" and sample.t_ns > START_NS and (sample.t_ns - START_NS - 4) % (SECOND // 2) == 0:
                recorder.write_event(event((sample.t_ns - START_NS) // (SECOND // 2)))
    return path


def chunk_offsets(path: Path) -> list[tuple[int, int]]:
    """Begin and end of every chunk."""
    with path.open("rb") as stream:
        return [(at, at + RECORD_HEAD.size + len(body)) for at, kind, body in frames(stream) if kind == 6]


def run(*arguments: object) -> str:
    """What a command prints."""
    result = CliRunner().invoke(log_app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_log_that_was_cut_off_is_repaired(tmp_path: Path) -> None:
    whole, part, out = log(tmp_path / "whole.mcap"), tmp_path / "part.mcap", tmp_path / "out.mcap"
    end = chunk_offsets(whole)[2][0] + 1000
    part.write_bytes(whole.read_bytes()[:end])
    with pytest.raises(McapError):
        messages(part)
    repaired = repair(part, out)
    found = messages(out, viewers=True)
    assert found == messages(whole, viewers=True)[: len(found)]
    assert 0 < len(found) == repaired.messages.total()
    at = chunk_offsets(whole)[2][0]
    assert repaired.damages == [
        f"cut off or damaged at byte {at}: 1000 bytes that are not records",
        f"cut off or damaged at byte {at + 1000}: the file ends without its summary",
    ]
    assert facts_of(out) == facts_of(whole)
    assert metadata(out)["sensebind.model"] == {"model": "imagebind_nano 0123"}
    assert len(replayed(SampleReplay(out))) == sum(topic != "/events" for topic, *_ in messages(out))


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(lambda begin, end: (begin + end) // 2, id="in its messages"),
        pytest.param(lambda begin, _end: begin, id="what it is"),
        pytest.param(lambda begin, _end: begin + 2, id="its length"),
        pytest.param(lambda begin, _end: begin + 7, id="its length, beyond the file"),
        pytest.param(lambda begin, _end: begin + RECORD_HEAD.size + 20, id="its size once decompressed"),
        pytest.param(lambda _begin, end: end + 3, id="the length of its index"),
    ],
)
def test_damaged_chunks_in_the_middle_cost_themselves_only(
    tmp_path: Path, where: Callable[[int, int], int], compression: str
) -> None:
    settings = RecordSettings(chunk_bytes=50_000, compression=dict.fromkeys(SENSORS, compression))
    whole = log(tmp_path / "whole.mcap", settings=settings)
    data, chunks = bytearray(whole.read_bytes()), chunk_offsets(whole)
    damaged = [3, 4, 9]
    for number in damaged:
        data[where(*chunks[number])] ^= 0xFF
    (tmp_path / "damaged.mcap").write_bytes(data)
    repaired = repair(tmp_path / "damaged.mcap", tmp_path / "out.mcap")
    was, now = messages(whole), messages(tmp_path / "out.mcap")
    lost = [message for message in was if message not in now]
    assert [message for message in was if message in now] == now, "what is left is as it was, in order"
    most = sum(len(data) for *_, data in was) * len(damaged) / len(chunks)
    assert sum(len(data) for *_, data in lost) <= 2 * most
    assert 2 <= len(repaired.damages) <= 2 * len(damaged)
    assert len(replayed(SampleReplay(tmp_path / "out.mcap"))) == sum(topic != "/events" for topic, *_ in now)


def test_a_damaged_first_chunk_does_not_take_the_channels_with_it(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole.mcap", settings=RecordSettings(chunk_bytes=10_000))
    data, chunks = bytearray(whole.read_bytes()), chunk_offsets(whole)
    data[chunks[0][1] - 5] ^= 1
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(data)
    repair(damaged, tmp_path / "a.mcap")
    lost = len(messages(whole)) - len(messages(tmp_path / "a.mcap"))
    assert 0 < lost < 10, "the summary tells of the channels"
    assert len(chunks) > REDEFINE_CHUNKS
    damaged.write_bytes(data[: chunks[-1][1]])
    repair(damaged, tmp_path / "b.mcap")
    found = messages(tmp_path / "b.mcap")
    assert Counter(topic for topic, *_ in found).keys() == {"/events", *(f"/sensors/{name}" for name in SENSORS)}
    assert found[-20:] == messages(whole)[-20:], "without one, a later chunk does"


def test_a_log_without_facts_is_copied_but_not_replayed(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole.mcap")
    (tmp_path / "damaged.mcap").write_bytes(bytes(8) + whole.read_bytes()[chunk_offsets(whole)[0][0] :])
    output = run("repair", tmp_path / "damaged.mcap", tmp_path / "out.mcap")
    assert "the file does not begin as MCAP does" in output
    assert "what the log said of its run is lost" in output
    assert messages(tmp_path / "out.mcap") == messages(whole)


def test_what_holds_nothing_is_not_repaired(tmp_path: Path) -> None:
    nothing, out = tmp_path / "nothing.mcap", tmp_path / "out.mcap"
    for content in (b"", b"\x89MCAP0\r\n", b"x" * 10_000, b"\x06" * 10_000):
        nothing.write_bytes(content)
        with pytest.raises(ReplayError, match="holds nothing that can be read"):
            repair(nothing, out)
    with pytest.raises(ReplayError, match="cannot be read: No such file"):
        repair(tmp_path / "none.mcap", out)
    assert list(tmp_path.iterdir()) == [nothing], "nothing is left behind"


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    one, other = log(tmp_path / "one.mcap", sensors="camera"), log(tmp_path / "other.mcap", sensors="imu")
    (tmp_path / "out.mcap").write_text("precious")
    for make in (
        lambda out: repair(one, out),
        lambda out: cut([one], out),
        lambda out: merge([one], [other], out),
    ):
        with pytest.raises(RecordError, match=r"out\.mcap: exists already"):
            make(tmp_path / "out.mcap")
        with pytest.raises(RecordError, match="cannot be written: No such file or directory"):
            make(tmp_path / "nowhere" / "out.mcap")
        with pytest.raises(RecordError, match="cannot be written: File name too long"):
            make(tmp_path / TOO_LONG)
    assert (tmp_path / "out.mcap").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("find", [recording_files, lambda path: [*recordings(path)[0]]])
def test_a_name_that_no_file_can_have_is_no_log(tmp_path: Path, find: Callable[[Path], list[Path]]) -> None:
    with pytest.raises(ReplayError, match="cannot be read: File name too long; give the path of a log"):
        survey(find(tmp_path / TOO_LONG))


def test_a_cut_holds_the_time_and_the_sensors_that_are_asked_for(tmp_path: Path) -> None:
    whole, out = log(tmp_path / "whole.mcap"), tmp_path / "out.mcap"
    from_ns, to_ns = START_NS + SECOND, START_NS + 2 * SECOND
    written = cut([whole], out, from_ns=from_ns, to_ns=to_ns, sensors=["camera", "imu"])
    wanted = {"/sensors/camera", "/sensors/imu", "/events"}
    assert messages(out) == [m for m in messages(whole) if m[0] in wanted and from_ns <= m[1] < to_ns]
    assert written.messages == Counter(topic for topic, *_ in messages(out))
    assert written.messages["/events"] == 2
    piece = facts_of(out)
    assert (piece.run_id, piece.part, piece.start_ns, list(piece.sensors)) == ("a1b2c3", 0, from_ns, ["camera", "imu"])
    assert piece.config == facts().config
    assert metadata(out)["sensebind.model"] == {"model": "imagebind_nano 0123"}
    assert [(n, s.t_ns) for n, s in replayed(SampleReplay(out))] == [
        (n, s.t_ns) for n, s in samples(30) if n in ("camera", "imu") and from_ns <= s.t_ns < to_ns
    ]


def test_pieces_of_a_recording_merge_to_the_whole(tmp_path: Path) -> None:
    whole, middle_ns = log(tmp_path / "whole.mcap"), START_NS + SECOND
    first, second, out = (tmp_path / f"{name}.mcap" for name in ("first", "second", "out"))
    cut([whole], first, to_ns=middle_ns)
    cut([whole], second, from_ns=middle_ns)
    merge([second], [first], out)
    assert messages(out) == messages(whole)
    assert replace(facts_of(out), part=1) == facts_of(whole)


def test_events_that_pieces_which_follow_each_other_share_are_merged_once(tmp_path: Path) -> None:
    whole, middle_ns = log(tmp_path / "whole.mcap"), START_NS + SECOND
    first, later, events, second, out = (tmp_path / f"{n}.mcap" for n in ("first", "later", "events", "second", "out"))
    cut([whole], first, to_ns=middle_ns)
    cut([whole], later, from_ns=middle_ns)
    cut([whole], events, sensors=[])
    merge([later], [events], second)
    merge([first], [second], out)
    assert Counter(messages(out, viewers=True)) == Counter(messages(whole, viewers=True))


def test_sensors_that_were_cut_apart_merge_to_the_whole(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole.mcap")
    first, second, out = (tmp_path / f"{name}.mcap" for name in ("first", "second", "out"))
    cut([whole], first, sensors=["camera", "microphone", "depth"])
    cut([whole], second, sensors=["thermal", "imu"])
    merge([first], [second], out)
    assert Counter(messages(out, viewers=True)) == Counter(messages(whole, viewers=True)), "events, too, once"
    in_order = [[t for topic, t, *_ in messages(file) if topic != "/events"] for file in (out, whole)]
    assert in_order[0] == in_order[1]
    assert facts_of(out).sensors == facts_of(whole).sensors


def test_other_sensors_of_another_run_are_merged(tmp_path: Path) -> None:
    other_run = replace(facts(), run_id="0other", config={"sensors": {"imu": {"type": "wit_imu"}}})
    one = log(tmp_path / "one.mcap", sensors="camera")
    both = log(tmp_path / "both.mcap", sensors="imu", run=other_run, model="imagebind_huge 4567")
    other, out = tmp_path / "other.mcap", tmp_path / "out.mcap"
    with pytest.raises(LogError, match="both hold events, of two runs; cut one of them with --no-events first"):
        merge([one], [both], out)
    cut([both], other, events=False)
    for name, pair in {"a": ([one], [other]), "b": ([other], [one])}.items():
        merge(*pair, tmp_path / f"{name}.mcap")
        found = messages(tmp_path / f"{name}.mcap")
        assert sorted(found) == sorted([*messages(one), *messages(other)])
        merged = facts_of(tmp_path / f"{name}.mcap")
        assert merged.run_id == "a1b2c3", "that of the events"
        assert merged.config["sensors"].keys() == {"camera", "imu"}
        assert merged.sensors.keys() == {"camera", "imu"}
        records = metadata(tmp_path / f"{name}.mcap")
        assert records["sensebind.merged"]["run_id"] == "0other"
        assert records["sensebind.model"] == {"model": "imagebind_nano 0123"}, "that of the events"


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({}, {"run": replace(facts(), run_id="0other")}, "in two runs, in each of which numbers begin anew"),
        ({}, {}, "both hold the same time of /sensors/camera"),
        (
            {"sensors": "camera"},
            {"sensors": "imu", "steps": range(640, 650)},
            "are 61 s apart, more than the 60 s that a replay bridges in a file; keep them apart",
        ),
    ],
)
def test_what_does_not_go_together_is_not_merged(
    tmp_path: Path, one: dict[str, object], other: dict[str, object], message: str
) -> None:
    first, second = log(tmp_path / "a.mcap", **one), log(tmp_path / "b.mcap", **other)
    with pytest.raises(LogError, match=message) as raised:
        merge([first], [second], tmp_path / "out.mcap")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.mcap").exists()


def test_one_name_for_two_sensors_is_not_merged(tmp_path: Path) -> None:
    first = log(tmp_path / "a.mcap", sensors="camera imu", steps=range(1))
    with Recorder(tmp_path / "b.mcap", facts({"camera": replace(SENSORS["camera"], rate_hz=99.0)})):
        pass
    with pytest.raises(LogError, match="'camera' is a different sensor in each"):
        merge([first], [tmp_path / "b.mcap"], tmp_path / "out.mcap")


def test_a_sensor_that_is_not_there_cannot_be_cut(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole.mcap", steps=range(3))
    with pytest.raises(ReplayError, match="has no sensor 'camra'; it has camera"):
        cut([whole], tmp_path / "out.mcap", sensors=["camra"])
    with pytest.raises(LogError, match="holds no message of these sensors in this time range"):
        cut([whole], tmp_path / "out.mcap", from_ns=START_NS + 99 * SECOND)


def test_a_survey_tells_rates_gaps_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, facts(), policy=LOSSLESS) as recorder:
        recorder.write_model("imagebind_nano 0123")
        for name, sample in samples(30):
            if name == "camera" and sample.t_ns == START_NS + SECOND:
                continue
            lost = 2 if name == "camera" and sample.t_ns == START_NS + SECOND + SECOND // 10 else sample.lost
            recorder.write_sample(name, replace(sample, lost=lost))
        recorder.write_sample("depth", Sample(START_NS + 3 * SECOND, samples(1)[2][1].data + 1e6))
        recorder.write_event(event(1))
        recorder.write_event(event(5))
    found = survey([path])
    camera = found.topics["/sensors/camera"]
    assert (camera.count, camera.gaps, camera.missing) == (29, 1, 2)
    assert camera.rate_hz == pytest.approx(28 / 2.9)
    assert found.topics["/sensors/microphone"].missing == 3
    assert found.topics["/sensors/depth"].count == 31, "raw samples are of the same sensor"
    assert found.topics["/events"].missing == 3
    assert found.model == "imagebind_nano 0123"
    assert (found.first_ns, found.size, found.damages) == (START_NS, path.stat().st_size, [])
    path.write_bytes(path.read_bytes()[:-1])
    assert "the file ends within its first or last bytes" in survey([path]).damages[0]


def test_info_of_a_folder_tells_recordings_and_pieces(tmp_path: Path) -> None:
    log(tmp_path / "new.mcap", run=replace(facts(), run_id="newer", start_ns=START_NS + 10**15), steps=range(2))
    log(tmp_path / "run.mcap", settings=RecordSettings(split_s=1.0))
    cut([tmp_path / "run_0001.mcap"], tmp_path / "piece.mcap")
    names = [[path.name for path in files] for files in recordings(tmp_path)]
    assert names == [["piece.mcap"], ["run_0001.mcap", "run_0002.mcap", "run_0003.mcap"], ["new.mcap"]]
    output = run("info", tmp_path)
    assert "run_0001.mcap and 2 more: recording of run a1b2c3" in output
    assert "piece.mcap: piece of run a1b2c3" in output
    assert "2023-11-14 22:13:20 UTC, 2.9 s" in output
    assert "model imagebind_nano 0123" in output
    documents = [json.loads(line) for line in run("info", "--json", tmp_path).splitlines()]
    assert [document["run_id"] for document in documents] == ["a1b2c3", "a1b2c3", "newer"]
    assert documents[1]["topics"]["/sensors/camera"]["messages"] == 30
    with pytest.raises(ReplayError, match=r"holds 2 runs: a1b2c3 \(piece\.mcap\), newer|holds 2 runs"):
        recording_files(tmp_path)


def test_which_files_are_a_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ReplayError, match="holds no log"):
        recording_files(tmp_path)
    log(tmp_path / "run.mcap", settings=RecordSettings(split_s=1.0))
    (tmp_path / "run_0002.mcap").rename(tmp_path / "a.keep.mcap")
    (tmp_path / "torn.mcap").write_bytes(b"")
    names = [path.name for path in recording_files(tmp_path)]
    assert names == ["run_0001.mcap", "a.keep.mcap", "run_0003.mcap"], "by what they are, not what they are called"
    assert "torn.mcap: is empty" in caplog.text
    (tmp_path / "twice.mcap").write_bytes((tmp_path / "a.keep.mcap").read_bytes())
    with pytest.raises(ReplayError, match=r"a\.keep\.mcap and twice\.mcap are both part 2 of one run"):
        recording_files(tmp_path)


def test_commands_make_logs_of_folders(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    log(tmp_path / "run" / "run.mcap", settings=RecordSettings(split_s=1.0))
    output = run(
        "cut", tmp_path / "run", tmp_path / "a.mcap", "--from", "0.5", "--to", "1.5", "--sensors", "imu, camera"
    )
    counts = "2 /events, 10 /sensors/camera, 10 /sensors/imu, and 103 for viewers"
    assert output == f"{tmp_path}/a.mcap: 22 messages written: {counts}\n"
    run("cut", tmp_path / "run", tmp_path / "b.mcap", "--sensors", "depth", "--no-events")
    assert "32 /sensors" not in run("merge", tmp_path / "a.mcap", tmp_path / "b.mcap", tmp_path / "c.mcap")
    assert Counter(topic for topic, *_ in messages(tmp_path / "c.mcap")) == {
        "/events": 2,
        "/sensors/camera": 10,
        "/sensors/imu": 10,
        "/sensors/depth": 30,
    }


def test_logs_of_other_programs_are_repaired_as_well(tmp_path: Path) -> None:
    path, out = tmp_path / "other.mcap", tmp_path / "out.mcap"
    writer = Writer(str(path), chunk_size=1000)
    writer.start()
    channel = writer.register_channel("/any", "json", 0, {"unit": "m"})
    for number in range(100):
        writer.add_message(channel, 1000 * number, b"{}" * 50, 5, number)
    writer.finish()
    was = messages(path)
    path.write_bytes(path.read_bytes()[:-20])
    repaired = repair(path, out)
    assert messages(out) == was
    assert not repaired.has_facts
    assert CHUNK_HEAD.size == 32
