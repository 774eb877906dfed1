"""Logs without messages for viewers get them by an export, with a layout whose every path leads to a number."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from mcap.reader import make_reader
from mcap.writer import Writer
from other_reader import decoded, messages, metadata
from recorded_run import replayed, told_by
from typer.testing import CliRunner

from agent.commands.log import log_app
from agent.config.parse import parse, synthetic
from agent.config.recording import RecordSettings
from agent.exchange.foxglove import LAYOUT_FILE, export_for_viewers
from agent.exchange.media import export_media
from agent.exchange.rosbag import import_bag
from agent.lab import golden
from agent.log.editing.cutting import cut
from agent.log.editing.survey import survey
from agent.log.format import LogError, LoggedSensor, RunFacts, logged_sensors
from agent.log.reading import facts_of
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.timeline import Timeline
from agent.log.viewers.layout import layout_of, path_of
from agent.log.viewers.topics import viewer_topic
from agent.policy import LOSSLESS
from agent.run import build
from drivers.driver import Sample
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO

GOLDEN = Path(__file__).parent / "data" / "golden"
SHIPPED_LAYOUT = Path(__file__).parents[1] / "docs" / "foxglove-layout.json"
S = 1_000_000_000
IMU_HZ, GOLDEN_S = 400, 11
Tree = Any


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored log, which has samples and events and no messages for viewers, exported."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copyfile(GOLDEN / golden.LOG, folder / "old.mcap")
    assert not any(viewer_topic(topic) for topic, *_ in messages(folder / "old.mcap", viewers=True))
    export_for_viewers(folder / "old.mcap", folder / "out")
    return folder


def of(path: Path, topic: str) -> list[tuple[int, Any]]:
    return [(t_ns, message) for found, t_ns, message in decoded(path) if found == topic]


def test_an_old_log_keeps_all_it_has(exported: Path) -> None:
    old, new = exported / "old.mcap", exported / "out" / "old.mcap"
    assert messages(new) == messages(old, viewers=True)
    assert metadata(new) == metadata(old)
    assert facts_of(new) == facts_of(old)


def test_an_old_log_gets_every_row_every_box_and_every_alert(exported: Path) -> None:
    new = exported / "out" / "old.mcap"
    rows = of(new, "/sensors/imu/rows")
    blocks = [sample for name, sample in replayed(SampleReplay(new)) if name == "imu"]
    assert len(rows) == IMU_HZ * GOLDEN_S == sum(len(block.data) for block in blocks)
    np.testing.assert_array_equal(
        np.float32([(r.ax_mps2, r.ay_mps2, r.az_mps2, r.gx_rps, r.gy_rps, r.gz_rps) for _, r in rows]),
        np.concatenate([block.data for block in blocks]),
    )
    assert {int(t) for t in np.diff([t_ns for t_ns, _ in rows])} == {S // IMU_HZ}
    said = [pb.Event.FromString(message.data) for message in Timeline([new]).events()]
    sources = [(event.capture_ns, event.audio_source) for event in said if event.HasField("audio_source")]
    shown = of(new, "/events/sources/camera")
    assert [t_ns for t_ns, _ in shown] == [t_ns for t_ns, _ in sources]
    for (_, source), (_, boxes) in zip(sources, shown, strict=True):
        corners = [(point.x, point.y) for outline in boxes.points for point in outline.points]
        in_view, box = source.state == pb.SOURCE_STATE_IN_VIEW, source.box
        assert corners[::2] == ([(box.x0, box.y0), (box.x1, box.y1)] if in_view else [])
    labels = {text.text for _, boxes in shown for text in boxes.texts}
    assert any(re.fullmatch(r"a baby crying [01]\.\d\d(, in view [01]\.\d\d)?", label) for label in labels)
    alerts = [event for event in said if event.HasField("alert")]
    lines = [line for _, line in of(new, "/events/log") if line.message.startswith("alert")]
    assert [line.name for line in lines] == [event.alert.query_id for event in alerts]


def test_an_export_of_an_export_is_the_same(exported: Path, tmp_path: Path) -> None:
    first = exported / "out" / "old.mcap"
    export_for_viewers(first, tmp_path / "again")
    assert messages(tmp_path / "again" / "old.mcap", viewers=True) == messages(first, viewers=True)


def test_the_command_says_what_it_wrote(exported: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        log_app, ["export", str(exported / "old.mcap"), str(tmp_path / "o"), "--to", "foxglove", "--sensors", "imu"]
    )
    assert run.exit_code == 0, run.output
    found = Counter(topic for topic, *_ in messages(tmp_path / "o" / "old.mcap", viewers=True))
    shown = sum(count for topic, count in found.items() if viewer_topic(topic))
    assert f"old.mcap: {found.total() - shown} messages, and {shown} for viewers\n" in run.output
    assert f"import the layout {tmp_path / 'o' / LAYOUT_FILE}" in run.output
    assert {topic for topic in found if topic.startswith("/sensors")} == {"/sensors/imu", "/sensors/imu/rows"}
    assert set(facts_of(tmp_path / "o" / "old.mcap").sensors) == {"imu"}
    info = CliRunner().invoke(log_app, ["info", str(tmp_path / "o" / "old.mcap")])
    assert re.search(rf"for viewers +{sum(map(bool, map(viewer_topic, found)))} topics +{shown} ", info.output)


@pytest.mark.parametrize(
    ("sensors", "events", "topics"),
    [
        (["imu"], False, {"/sensors/imu", "/sensors/imu/rows", "/transforms"}),
        (["camera"], False, {"/sensors/camera", "/sensors/camera/calibration", "/transforms"}),
        (["depth"], True, {"/sensors/depth", "/sensors/depth/calibration", "/transforms", "/events", "/events/log"}),
        ([], True, {"/transforms", "/events", "/events/log"}),
        (
            ["camera"],
            True,
            {
                "/sensors/camera",
                "/sensors/camera/calibration",
                "/transforms",
                "/events",
                "/events/log",
                "/events/sources/camera",
            },
        ),
    ],
)
def test_a_cut_keeps_what_belongs_to_what_it_keeps(
    exported: Path, tmp_path: Path, sensors: list[str], events: bool, topics: set[str]
) -> None:
    whole = exported / "out" / "old.mcap"
    from_ns, to_ns = facts_of(whole).start_ns + 5 * S, facts_of(whole).start_ns + 8 * S
    cut([whole], tmp_path / "cut.mcap", from_ns=from_ns, to_ns=to_ns, sensors=sensors, events=events)
    found = messages(tmp_path / "cut.mcap", viewers=True)
    assert {topic for topic, *_ in found if not topic.startswith("/events/scores/")} == topics
    assert any(topic.startswith("/events/scores/") for topic, *_ in found) == events
    assert {(topic, t_ns) for topic, t_ns, *_ in found} <= {
        (topic, t_ns) for topic, t_ns, *_ in messages(whole, viewers=True) if from_ns <= t_ns < to_ns
    }


def test_a_time_with_nothing_but_messages_for_viewers_is_empty(tmp_path: Path) -> None:
    run = RunFacts("f00d", S, 0, {"imu": LoggedSensor("imu", 100.0)}, {})
    with Recorder(tmp_path / "log.mcap", run, policy=LOSSLESS) as recorder:
        recorder.write_sample("imu", Sample(S, np.ones((10, 6), np.float32), 100.0))
    with pytest.raises(LogError, match="holds no message of these sensors in this time range"):
        cut([tmp_path / "log.mcap"], tmp_path / "cut.mcap", from_ns=S + 1)


def test_messages_for_viewers_are_no_gaps_and_no_time_of_a_log(exported: Path) -> None:
    old, new = survey([exported / "old.mcap"]), survey([exported / "out" / "old.mcap"])
    assert new.topics == old.topics
    assert (new.first_ns, new.last_ns) == (old.first_ns, old.last_ns)
    assert new.viewers["/sensors/imu/rows"].count == IMU_HZ * GOLDEN_S
    assert not old.viewers


def test_a_recording_of_several_files_stays_one(tmp_path: Path) -> None:
    run = RunFacts("f00d", S, 0, {"imu": LoggedSensor("imu", 100.0)}, {})
    rows = np.random.default_rng(1).normal(0, 9.81, (10, 6)).astype(np.float32)
    (tmp_path / "run").mkdir()
    settings = RecordSettings(split_s=1.0, imu_plot_hz=0)
    with Recorder(tmp_path / "run" / "run.mcap", run, settings, policy=LOSSLESS) as recorder:
        for block in range(25):
            recorder.write_sample("imu", Sample(S + block * S // 10, rows, 100.0))
    (tmp_path / "run" / "run_0003.mcap").write_bytes((tmp_path / "run" / "run_0003.mcap").read_bytes()[:-300])
    report = export_for_viewers(tmp_path / "run", tmp_path / "out")
    assert [(file.name, file.messages, file.for_viewers) for file in report.files] == [
        ("run_0001.mcap", 10, 101),
        ("run_0002.mcap", 10, 101),
        ("run_0003.mcap", 5, 51),
    ]
    assert "run_0003.mcap" in report.unfinished
    assert len(replayed(SampleReplay(tmp_path / "out"))) == 25


def without_facts(log: Path, out: Path) -> Path:
    """A copy by another program, which keeps the messages and not the metadata."""
    with log.open("rb") as stream, out.open("wb") as sink:
        writer = Writer(sink)
        writer.start("", "another program")
        schemas: dict[int, int] = {}
        channels: dict[int, int] = {}
        for schema, channel, message in make_reader(stream).iter_messages(log_time_order=False):
            assert schema is not None
            if schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(schema.name, schema.encoding, schema.data)
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, schemas[schema.id]
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time, message.sequence
            )
        writer.finish()
    return out


def test_an_exported_log_imports_back_once(exported: Path, tmp_path: Path) -> None:
    for name in ("old.mcap", "out/old.mcap"):
        copy = without_facts(exported / name, tmp_path / f"copy_{name.count('/')}.mcap")
        report = import_bag(copy, tmp_path / f"back_{name.count('/')}.mcap")
        assert set(report.sensors) == {"camera", "microphone", "depth", "thermal", "imu"}
        if name == "out/old.mcap":
            assert any(line.startswith("/sensors/imu/rows (sensebind.v1.ImuRow, 4400 ") for line in report.skipped)
    one, other = (messages(tmp_path / f"back_{number}.mcap") for number in (0, 1))
    assert one == other
    export_media(exported / "out" / "old.mcap", tmp_path / "media")
    assert len((tmp_path / "media" / "imu.csv").read_text().splitlines()) == 1 + IMU_HZ * GOLDEN_S


def test_a_hostile_log_is_exported_as_far_as_it_can_be_shown(tmp_path: Path) -> None:
    run = RunFacts("f00d", S, 0, {"imu": LoggedSensor("imu", 100.0)}, {"queries": [{"text": 3}, "x"], "sensors": {}})
    with Recorder(tmp_path / "log.mcap", run, policy=LOSSLESS) as recorder:
        for number in range(1200):
            score = pb.QueryScore(query_id=f"q/{number}" if number < 9 else f"q{number}", modality=MODALITY_AUDIO)
            recorder.write_event(pb.Event(seq=number + 1, capture_ns=S, embedding=pb.Embedding(scores=[score])))
        strange = pb.AudioSource(camera="../x", state=pb.SOURCE_STATE_IN_VIEW, box=pb.Box(x1=1, y1=1))
        recorder.write_event(pb.Event(seq=2000, capture_ns=2**62, audio_source=strange))
        recorder.write_event(pb.Event(seq=2001, capture_ns=S, alert=pb.AlertTransition(phase=77)))  # type: ignore[arg-type]
    report = export_for_viewers(tmp_path / "log.mcap", tmp_path / "out")
    assert (report.files[0].messages, report.files[0].for_viewers) == (1202, 1024)
    assert len({topic for topic, *_ in decoded(tmp_path / "out" / "log.mcap")}) == 1 + 1024


def leaves(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
        return
    assert tree.keys() == {"direction", "first", "second", "splitPercentage"}
    assert tree["direction"] in ("row", "column")
    yield from leaves(tree["first"])
    yield from leaves(tree["second"])


PATH = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>(/[A-Za-z0-9_-]+)+))\.(?P<field>[A-Za-z0-9_]+)')
"""A topic and a field, as the grammar of message paths has them."""
NUMBERS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def check_layout(layout: dict[str, Any], log: Path) -> None:
    """Every panel is in the layout, and shows what the log has, with a schema that the panel takes."""
    kinds = {topic: message for topic, _, message in decoded(log)}
    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])
    assert {panel.split("!")[0] for panel in layout["configById"]} == {"Image", "Plot", "RosOut", "RawMessages"}

    def schema(topic: str) -> str:
        return str(kinds[topic].DESCRIPTOR.full_name)

    for panel, config in layout["configById"].items():
        match panel.split("!")[0]:
            case "Image":
                mode = config["imageMode"]
                assert schema(mode["imageTopic"]) == "foxglove.CompressedImage"
                assert schema(mode["calibrationTopic"]) == "foxglove.CameraCalibration"
                assert {schema(topic) for topic in mode["annotations"]} == {"foxglove.ImageAnnotations"}
            case "Plot":
                for series in config["paths"]:
                    assert series["enabled"]
                    found = PATH.fullmatch(series["value"])
                    assert found, series
                    message = kinds[found["quoted"] or found["plain"]]
                    assert message.DESCRIPTOR.fields_by_name[found["field"]].type in NUMBERS
            case "RosOut":
                assert schema(config["topicToRender"]) == "foxglove.Log"
            case "RawMessages":
                topic, _, field = config["topicPath"].partition(".")
                assert field in kinds[topic].DESCRIPTOR.fields_by_name


def test_the_shipped_layout_shows_what_a_run_of_the_default_configuration_records(tmp_path: Path) -> None:
    config = synthetic(pace="fast", duration_s=4.0)
    run = RunFacts("f00d", S, 0, logged_sensors(config.specs), config.tree)
    expected = layout_of(run, {query.id: query.text for query in config.queries})
    assert SHIPPED_LAYOUT.read_text() == expected, "store the new one in docs/foxglove-layout.json"
    told_by(build.offline(parse({**config.tree, "model": {"device": "cpu"}}), tmp_path / "run.mcap"))
    check_layout(json.loads(expected), tmp_path / "run.mcap")


def test_the_layout_of_an_export_is_that_of_its_own_sensors_and_queries(exported: Path) -> None:
    layout = json.loads((exported / "out" / LAYOUT_FILE).read_text())
    check_layout(layout, exported / "out" / "old.mcap")
    labels = {series["label"] for series in layout["configById"]["Plot!scores"]["paths"]}
    assert {"a rooster crowing: audio", "a clock ticking: vision"} <= labels


def test_a_topic_with_a_dot_is_quoted_in_paths() -> None:
    assert path_of("/sensors/body.imu/rows", "ax_mps2") == '"/sensors/body.imu/rows".ax_mps2'
    assert path_of("/sensors/imu-1/rows", "ax_mps2") == "/sensors/imu-1/rows.ax_mps2"


def test_a_run_without_cameras_and_queries_has_a_layout() -> None:
    run = RunFacts("f00d", S, 0, {"imu": LoggedSensor("imu", 100.0)}, {})
    layout = json.loads(layout_of(run, {}))
    assert sorted(leaves(layout["layout"])) == ["Plot!accel0", "Plot!gyro0", "RawMessages!status", "RosOut!log"]
    empty = json.loads(layout_of(replace(run, sensors={}), {}))
    assert sorted(leaves(empty["layout"])) == ["RawMessages!status", "RosOut!log"]
