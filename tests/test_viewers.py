"""Logs in foreign viewers: read by the schemas in the file alone, and held against the truth of the synthetic world."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from other_reader import decoded
from recorded_run import replayed

from agent.clock import ManualClock
from agent.config.recording import PictureFormat, RecordSettings
from agent.log.format import LoggedSensor, RunFacts
from agent.log.recording.clips import Clips
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.viewers.imu_rows import plotted_rows
from agent.log.viewers.mounting import Mounting, mountings
from agent.log.viewers.topics import ViewerTopic, viewer_topic
from agent.policy import LOSSLESS
from drivers.driver import Sample
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_IMU, MODALITY_VISION
from world.scene import Scene, SceneOptions
from world.truth import ThingTruth

S = 1_000_000_000
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 2_500_000
"""Of the world's IMU, at 400 Hz."""
SECONDS = 3
WIDTH, HEIGHT, HFOV_DEG, FPS = 160, 120, 70.0, 5.0
SENSORS = {
    "eye": LoggedSensor("vision", FPS),
    "ears": LoggedSensor("audio", 16000.0),
    "body.imu": LoggedSensor("imu", 400.0),
}
CONFIG: dict[str, Any] = {
    "sensors": {
        "eye": {"type": "synthetic_camera", "hfov_deg": HFOV_DEG},
        "ears": {"type": "synthetic_microphone", "mic_positions_m": Scene.mic_positions_m.tolist()},
        "body.imu": {"type": "synthetic_imu"},
    },
    "queries": [{"id": "dog", "text": "a dog barking"}, {"text": "a baby crying"}],
}
NAMED = ("ax_mps2", "ay_mps2", "az_mps2", "gx_rps", "gy_rps", "gz_rps")


def facts(config: dict[str, Any] = CONFIG) -> RunFacts:
    return RunFacts("f00d", START_NS, 0, SENSORS, config)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions(seed=11, width=WIDTH, height=HEIGHT, fps=FPS, hfov_deg=HFOV_DEG))


def samples(scene: Scene, block: int = 20) -> Iterator[tuple[str, Sample]]:
    for first in range(0, SECONDS * 400, block):
        if first % 80 == 0:
            frame = first // 80
            yield "eye", Sample(START_NS + frame * S // 5, scene.image(frame))
            yield "ears", Sample(START_NS + frame * S // 5, scene.audio(frame * 3200, 3200), 16000.0)
        yield "body.imu", Sample(START_NS + first * PERIOD_NS, scene.imu(first, block), 400.0)


def event(seq: int, t_s: float, **kind: Any) -> pb.Event:
    capture_ns = START_NS + round(t_s * S)
    return pb.Event(run_id="f00d", seq=seq, capture_ns=capture_ns, publish_ns=capture_ns + 40_000_000, **kind)


def in_view(thing: ThingTruth, tick: int) -> pb.AudioSource:
    assert thing.box is not None
    x0, y0, x1, y1 = thing.box
    box = pb.Box(x0=x0, y0=y0, x1=x1, y1=y1)
    state = pb.SOURCE_STATE_IN_VIEW
    return pb.AudioSource(tick=tick, microphone="ears", camera="eye", state=state, box=box, in_view=0.75)


def scored(tick: int, dog: float, baby: float) -> pb.Embedding:
    scores = [
        pb.QueryScore(query_id=query_id, modality=modality, score=score)
        for query_id, score in (("dog", dog), ("q2", baby))
        for modality in (MODALITY_AUDIO, MODALITY_VISION)
    ]
    return pb.Embedding(tick=tick, scores=scores)


def alert(phase: pb.AlertPhase.ValueType, begin_s: float = 1.0) -> pb.AlertTransition:
    begin_ns = START_NS + round(begin_s * S)
    return pb.AlertTransition(
        query_id="dog", text="a dog barking", phase=phase, alert_id=1, modalities=[MODALITY_AUDIO], begin_ns=begin_ns
    )


def visible(scene: Scene) -> tuple[float, ThingTruth]:
    """A time and a thing that is wholly in view then."""
    return next(
        (frame / FPS, thing)
        for frame in range(int(SECONDS * FPS))
        for thing in scene.truth(frame / FPS).things
        if thing.visible > 0.99
    )


@pytest.fixture(scope="module")
def log(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with half the IMU's rows, a box, an empty box, an alert and reports on the camera."""
    path = tmp_path_factory.mktemp("viewers") / "run.mcap"
    t_s, thing = visible(scene)
    lost = pb.StreamHealth(sensor="eye", state=pb.StreamHealth.STATE_LOST, reason="unplugged")
    with Recorder(path, facts(), RecordSettings(imu_plot_hz=200.0), policy=LOSSLESS) as recorder:
        for name, sample in samples(scene):
            recorder.write_sample(name, sample)
        for made in (
            event(1, t_s, embedding=scored(1, dog=0.83, baby=0.1)),
            event(2, t_s, audio_source=in_view(thing, 1)),
            event(3, t_s + 0.5, embedding=scored(2, dog=0.2, baby=0.4)),
            event(4, t_s + 0.5, audio_source=in_view(thing, 2)),
            event(5, 2.0, audio_source=pb.AudioSource(tick=4, camera="eye", state=pb.SOURCE_STATE_NOT_IN_VIEW)),
            event(6, 1.0, alert=alert(pb.ALERT_PHASE_BEGIN)),
            event(7, 2.5, alert=alert(pb.ALERT_PHASE_END)),
            event(8, 1.0, health=lost),
            event(9, 2.0, health=lost),
        ):
            recorder.write_event(made)
    assert not recorder.report().drops
    assert set(recorder.report().written) == {"/events", *(f"/sensors/{name}" for name in SENSORS)}
    return path


def of(path: Path, topic: str) -> list[tuple[int, Any]]:
    return [(t_ns, message) for found, t_ns, message in decoded(path) if found == topic]


def row_of(message: Any) -> list[float]:
    return [getattr(message, name) for name in NAMED]


def test_rows_of_the_imu_are_the_worlds_at_their_times(scene: Scene, log: Path) -> None:
    found = of(log, "/sensors/body.imu/rows")
    assert [t_ns for t_ns, _ in found] == [START_NS + k * PERIOD_NS for k in range(0, SECONDS * 400, 2)]
    truth = scene.imu(0, SECONDS * 400)[::2]
    np.testing.assert_array_equal(np.array([row_of(row) for _, row in found], np.float32), truth)
    assert np.linalg.norm(truth[:, :3], axis=1).mean() == pytest.approx(9.81, abs=0.5), "gravity is in it"


@pytest.mark.parametrize("most_hz", [30.0, 250.0])
def test_the_choice_of_rows_does_not_depend_on_blocks(scene: Scene, most_hz: float) -> None:
    def chosen(block: int) -> list[int]:
        blocks = [sample for name, sample in samples(scene, block) if name == "body.imu"]
        return [t_ns for sample in blocks for t_ns, _ in plotted_rows(sample, most_hz)]

    assert chosen(20) == chosen(8)
    assert len(chosen(20)) == pytest.approx(most_hz * SECONDS, abs=1)
    apart = np.diff(chosen(20)) / PERIOD_NS
    assert apart.max() - apart.min() <= 1, "as even as rows allow"


def test_a_slow_imu_is_plotted_whole_and_a_broken_one_not_at_all() -> None:
    rows = np.arange(60, dtype=np.float32).reshape(10, 6)
    assert [t_ns for t_ns, _ in plotted_rows(Sample(S, rows, 50.0), 100.0)] == [S + k * S // 50 for k in range(10)]
    assert len(list(plotted_rows(Sample(S, rows, 5000.0), None))) == 10
    assert not list(plotted_rows(Sample(S, rows, 50.0), 0))
    assert not list(plotted_rows(Sample(S, rows, math.nan), 100.0))
    assert not list(plotted_rows(Sample(2**63 - 1, rows, 50.0), 100.0))


def test_a_box_frames_the_thing_on_the_stored_picture(scene: Scene, log: Path) -> None:
    t_s, thing = visible(scene)
    first, second, last = of(log, "/events/sources/eye")
    assert [t_ns - START_NS for t_ns, _ in (first, second, last)] == [t_s * S, (t_s + 0.5) * S, 2 * S]
    [outline] = first[1].points
    corners = np.array([(point.x, point.y) for point in outline.points])
    x0, y0, x1, y1 = thing.box or ()
    np.testing.assert_allclose(corners, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], rtol=1e-6)
    assert outline.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[outline.type].name == "LINE_LOOP"
    height, width = replayed(SampleReplay(log))[0][1].data.shape[:2]
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    [label] = first[1].texts
    assert (label.text, label.position.x, label.position.y) == ("a dog barking 0.83, in view 0.75", x0, y0)
    assert label.font_size == pytest.approx(8.0)
    [label] = second[1].texts
    assert label.text == "sound, in view 0.75", "no query is likely"
    assert not last[1].points, "it is not in view, and the box is taken away"
    assert not last[1].texts


def turned(rotation: Any) -> NDArray[np.float64]:
    """The matrix of a quaternion."""
    x, y, z, w = rotation.x, rotation.y, rotation.z, rotation.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_calibration_and_transforms_lead_from_the_worlds_directions_to_its_pixels(scene: Scene, log: Path) -> None:
    calibrations = of(log, "/sensors/eye/calibration")
    assert [t_ns - START_NS for t_ns, _ in calibrations] == [0, S, 2 * S]
    told = calibrations[0][1]
    assert (told.frame_id, told.width, told.height) == ("eye", WIDTH, HEIGHT)
    matrix = np.array(told.K).reshape(3, 3)
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(scene.focal_px)
    np.testing.assert_array_equal(np.array(told.P).reshape(3, 4)[:, :3], matrix)
    transform = next(t for t in of(log, "/transforms")[0][1].transforms if t.child_frame_id == "eye")
    assert transform.parent_frame_id == "body"
    into_camera = turned(transform.rotation).T
    seen = 0
    for frame in range(int(SECONDS * FPS)):
        for thing in scene.truth(frame / FPS).things:
            if thing.visible < 0.99 or thing.box is None:
                continue
            azimuth, elevation = math.radians(thing.azimuth_deg), math.radians(thing.elevation_deg)
            ahead, left, up = (
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            )
            x, y, depth = matrix @ into_camera @ np.array([ahead, left, up])
            x0, y0, x1, y1 = thing.box
            assert x0 <= x / depth <= x1
            assert y0 <= y / depth <= y1
            seen += 1
    assert seen > 5


def test_frames_of_microphones_are_their_positions(log: Path) -> None:
    tree = {transform.child_frame_id: transform for transform in of(log, "/transforms")[-1][1].transforms}
    assert tree.keys() == {"eye", "ears", "ears/0", "ears/1", "ears/2", "ears/3", "body.imu"}
    for channel, position_m in enumerate(Scene.mic_positions_m):
        place = tree[f"ears/{channel}"].translation
        np.testing.assert_allclose((place.x, place.y, place.z), position_m)
    np.testing.assert_array_equal(turned(tree["body.imu"].rotation), np.eye(3))


def test_alerts_and_news_of_sensors_are_lines_of_a_log(log: Path) -> None:
    lines = of(log, "/events/log")
    told = [((t_ns - START_NS) / S, line.level, line.name, line.message) for t_ns, line in lines]
    assert told == [
        (1.0, 3, "dog", "alert begin 'a dog barking': heard"),
        (1.0, 4, "eye", "stream eye is lost at 0.0 of 0.0 Hz: unplugged"),
        (2.5, 2, "dog", "alert end 'a dog barking': heard after 1.5 s"),
    ]
    levels = lines[0][1].DESCRIPTOR.fields_by_name["level"].enum_type.values_by_name
    assert (levels["INFO"].number, levels["WARNING"].number, levels["ERROR"].number) == (2, 3, 4)
    assert [line.timestamp.ToNanoseconds() for _, line in lines] == [t_ns for t_ns, _ in lines]


def test_scores_are_numbers_by_query(scene: Scene, log: Path) -> None:
    t_s, _ = visible(scene)
    for query_id, scores in (("dog", (0.83, 0.2)), ("q2", (0.1, 0.4))):
        found = of(log, f"/events/scores/{query_id}")
        assert [t_ns - START_NS for t_ns, _ in found] == [round(t_s * S), round((t_s + 0.5) * S)]
        assert [row.audio for _, row in found] == pytest.approx(scores)
        assert not any(row.HasField("imu") for _, row in found), "not scored, so not plotted as 0"


def test_what_a_reader_of_samples_finds_does_not_change(scene: Scene, log: Path, tmp_path: Path) -> None:
    with Recorder(tmp_path / "plain.mcap", facts({}), RecordSettings(imu_plot_hz=0), policy=LOSSLESS) as recorder:
        for name, sample in samples(scene):
            recorder.write_sample(name, sample)
    assert {topic for topic, *_ in decoded(tmp_path / "plain.mcap") if viewer_topic(topic)} == {"/transforms"}
    one, other = replayed(SampleReplay(log)), replayed(SampleReplay(tmp_path / "plain.mcap"))
    assert [(name, sample.t_ns, sample.rate_hz, sample.lost) for name, sample in one] == [
        (name, sample.t_ns, sample.rate_hz, sample.lost) for name, sample in other
    ]
    for (_, sample), (_, same) in zip(one, other, strict=True):
        np.testing.assert_array_equal(sample.data, same.data)


def test_every_part_and_every_second_of_a_recording_has_the_calibration(scene: Scene, tmp_path: Path) -> None:
    settings = RecordSettings(split_s=1.0, pictures=PictureFormat(jpeg_quality=50))
    with Recorder(tmp_path / "run.mcap", facts(), settings, policy=LOSSLESS) as recorder:
        for name, sample in samples(scene):
            recorder.write_sample(name, sample)
    parts = sorted(tmp_path.glob("run_*.mcap"))
    assert len(parts) == SECONDS
    for part in parts:
        topics = Counter(topic for topic, *_ in decoded(part))
        assert topics["/sensors/eye/calibration"] == topics["/transforms"] == 1
        assert topics["/sensors/body.imu/rows"] == 100


def test_a_clip_has_what_viewers_show_of_its_time(scene: Scene, tmp_path: Path) -> None:
    clips = Clips(facts(), ManualClock(START_NS).now_ns, seconds=10.0)
    with Recorder(None, facts(), RecordSettings(imu_plot_hz=50.0), policy=LOSSLESS, clips=clips) as recorder:
        clip = clips.request(tmp_path / "clip.mcap", START_NS + S, START_NS + 2 * S)
        for name, sample in samples(scene):
            recorder.write_sample(name, sample)
    assert clip.result(timeout=30).messages == 5 + 5 + 20
    topics = Counter(topic for topic, *_ in decoded(tmp_path / "clip.mcap"))
    assert topics["/sensors/body.imu/rows"] == 50
    assert topics["/sensors/eye/calibration"] == topics["/transforms"] == 1


def test_a_damaged_event_costs_what_viewers_get_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = pb.ScoreTable(query_ids=["dog"], modalities=[MODALITY_IMU], values=b"three")
    with Recorder(tmp_path / "run.mcap", facts(), policy=LOSSLESS) as recorder:
        for seq in (1, 2):
            recorder.write_event(event(seq, seq, embedding=pb.Embedding(score_table=table)))
        recorder.write_event(event(3, 3, alert=alert(pb.ALERT_PHASE_BEGIN)))
    found = Counter(topic for topic, *_ in decoded(tmp_path / "run.mcap"))
    assert found == {"/events": 3, "/events/log": 1}
    assert len([record for record in caplog.records if "for viewers failed" in record.message]) == 1


@pytest.mark.parametrize(
    ("sensor", "modality", "mounting"),
    [
        ({"hfov_deg": 70}, "vision", Mounting(hfov_deg=70.0)),
        ({"hfov_deg": 181.0}, "vision", Mounting()),
        ({"hfov_deg": "wide"}, "thermal", Mounting()),
        ({"hfov_deg": True}, "depth", Mounting()),
        ({"mic_positions_m": [[0, 0.1, 0], [0, -0.1, 0]]}, "audio", Mounting(None, ((0, 0.1, 0), (0, -0.1, 0)))),
        ({"mic_positions_m": [[0, 0.1], [0, -0.1]]}, "audio", Mounting()),
        ({"mic_positions_m": [[0, 0.1, math.inf]]}, "audio", Mounting()),
        ({"mic_array": "no such array"}, "audio", Mounting()),
    ],
)
def test_what_a_stored_configuration_says_of_mountings_is_checked(
    sensor: dict[str, Any], modality: Any, mounting: Mounting
) -> None:
    run = RunFacts("f00d", START_NS, 0, {"it": LoggedSensor(modality, 10.0)}, {"sensors": {"it": sensor}})
    assert mountings(run) == {"it": mounting}


def test_an_array_by_name_has_its_positions() -> None:
    config = {"sensors": {"it": {"mic_array": "respeaker_usb_4mic"}}}
    run = RunFacts("f00d", START_NS, 0, {"it": LoggedSensor("audio", 16000.0)}, config)
    assert mountings(run)["it"].mic_positions_m[0] == (-0.032, 0, 0)


@pytest.mark.parametrize(
    ("topic", "origin"),
    [
        ("/sensors/imu/rows", ViewerTopic("imu", is_event=False)),
        ("/sensors/a.b-c/calibration", ViewerTopic("a.b-c", is_event=False)),
        ("/transforms", ViewerTopic(None, is_event=False)),
        ("/events/log", ViewerTopic(None, is_event=True)),
        ("/events/scores/dog:1", ViewerTopic(None, is_event=True)),
        ("/events/sources/eye", ViewerTopic("eye", is_event=True)),
        ("/sensors/rows", None),
        ("/sensors/imu", None),
        ("/sensors_raw/imu/rows", None),
        ("/events", None),
        ("/events/other", None),
    ],
)
def test_topics_for_viewers_are_told_from_all_others(topic: str, origin: ViewerTopic | None) -> None:
    assert viewer_topic(topic) == origin
