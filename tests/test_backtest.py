"""What would have fired on a stored log of a synthetic scene, with the shipped model."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_page import Page
from file_modes import others_may
from recorded_run import facts, record, samples, told_by

from agent.backtest.hits import Hit
from agent.backtest.recordings import recordings_in
from agent.backtest.report import Found, Report
from agent.commands.backtest import backtest
from agent.config.faults import ConfigError
from agent.config.parse import Config, parse
from agent.lab.golden import said_before
from agent.log import messages
from agent.log.editing.cutting import cut
from agent.log.format import LogError, RecordError, ReplayError, sensor_of
from agent.log.reading import facts_of
from agent.log.recording.recorder import Recorder
from agent.log.timeline import Timeline
from agent.policy import LOSSLESS
from agent.query import Query, QueryError
from agent.run import build
from drivers.codec import MODALITY_NAMES
from protos import perception_pb2 as pb
from world.scene import Scene, SceneOptions

S = 1_000_000_000
GOLDEN = Path(__file__).parent / "data" / "golden"
LOG = GOLDEN / "log.mcap"
HOSTILE = "<script>alert('x')</script> & \"a dog\""
TEXTS = ("a baby crying", "a helicopter flying", HOSTILE)


class Ran:
    """A backtest of the golden log, with a page."""

    def __init__(self, report: Report, out: Path) -> None:
        self.report, self.out = report, out
        self.document: dict[str, Any] = json.loads((out / "backtest.json").read_text())
        self.page = (out / "index.html").read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("backtest") / "out"
    return Ran(backtest([LOG], TEXTS, force=True, false_alarms_per_hour=0.0, out=out), out)


def golden_config(**changes: Any) -> Config:
    return parse({**facts_of(LOG).config, **changes})


def spans(found: Sequence[Found]) -> list[tuple[int, int, tuple[str, ...]]]:
    return [(f.hit.begin_ns, f.hit.end_ns, f.hit.modalities) for f in found]


def spans_of_replay(
    log: Path, queries: Sequence[Query], **options: Any
) -> list[list[tuple[int, int, tuple[str, ...]]]]:
    """Begin, end and carriers of every alert of the agent's own replay; what is on at the end lasts until then."""
    config = golden_config(queries=[{"id": q.id, "text": q.text, "threshold_on": q.threshold_on} for q in queries])
    told, _ = told_by(build.replay(log, config, **options))
    last_ns = max(event.capture_ns for event in told if event.HasField("embedding"))
    found: dict[str, dict[int, tuple[int, int, set[str]]]] = {query.id: {} for query in queries}
    for event in told:
        if event.HasField("alert"):
            alert, names = event.alert, {MODALITY_NAMES[m] for m in event.alert.modalities}
            _, _, before = found[alert.query_id].get(alert.alert_id, (0, 0, set()))
            end_ns = event.capture_ns if alert.phase == pb.ALERT_PHASE_END else last_ns
            found[alert.query_id][alert.alert_id] = (alert.begin_ns, end_ns, before | names)
    order = ("vision", "audio", "depth", "thermal", "imu")
    return [
        [(begin, end, tuple(m for m in order if m in names)) for begin, end, names in alerts.values()]
        for alerts in found.values()
    ]


def test_what_is_there_is_found_and_what_is_not_is_not(ran: Ran) -> None:
    sensors = facts_of(LOG).config["sensors"]
    scene = Scene(SceneOptions(seed=sensors["camera"]["seed"], hfov_deg=sensors["camera"]["hfov_deg"]))
    assert {thing.kind.name for thing in scene.things} & {"baby", "helicopter"} == {"baby"}
    assert scene.sounded_between(0, 11)["baby"] > 2
    baby, helicopter, _ = ran.report.queries
    assert helicopter.found == []
    heard = [found for found in baby.found if "audio" in found.hit.modalities]
    assert len(heard) == 1
    assert heard[0].hit.peak[0] > 0.9
    assert baby.warnings == ()
    assert re.search(r"never trained on: script", ran.report.queries[2].warnings[0])


def test_hits_are_the_alerts_of_the_agent(ran: Ran) -> None:
    queries = [report.query for report in ran.report.queries[:2]]
    assert [spans(report.found) for report in ran.report.queries[:2]] == spans_of_replay(LOG, queries)


def test_the_numbers_of_a_report_agree(ran: Ran) -> None:
    report, document = ran.report, ran.document
    ticks = len(report.recordings[0].times_ns)
    assert report.hours == pytest.approx(ticks * 0.5 / 3600)
    assert report.hours == pytest.approx(11 / 3600)
    assert document == json.loads(json.dumps(report.document()))
    for query, told in zip(report.queries, document["queries"], strict=True):
        at_own = next(point for point in query.points if point.threshold == query.query.threshold_on)
        assert at_own.fired == at_own.false == len(query.found) == told["alarms"]
        assert told["alarms_per_hour"] == pytest.approx(at_own.fired / report.hours)
        assert set(query.histogram) == {"vision", "audio", "depth", "thermal", "imu"}
        assert all(counts.sum() <= ticks for counts in query.histogram.values())
        assert query.histogram["vision"].sum() == ticks
    baby, helicopter, _ = report.queries
    top = max(found.hit.peak[0] for found in baby.found)
    assert baby.suggestion is not None
    assert helicopter.suggestion is not None
    assert helicopter.suggestion.threshold < 0.6 < baby.suggestion.threshold <= top + 0.01
    hit = document["queries"][0]["hits"][0]
    assert hit["begin_s"] == pytest.approx((hit["begin_ns"] - document["recordings"][0]["start_ns"]) / 1e9)
    assert hit["begin_utc"].startswith("2023-11-14T22:13:2")
    assert hit["begin_utc"].endswith("Z")


def test_the_page_is_one_file_with_the_hits_their_pictures_and_sounds(ran: Ran) -> None:
    page = Page(ran.page)
    assert {path.name for path in ran.out.iterdir()} == {"index.html", "backtest.json"}
    assert others_may(ran.out) == {}
    fired = sum(len(query.found) for query in ran.report.queries)
    assert (len(page.all("img")), len(page.all("audio"))) == (fired, fired)
    assert page.pictures()[0].shape == (224, 224, 3)
    pcm, rate_hz = page.sounds()[0]
    assert (rate_hz, pcm.shape) == (8000, (6 * 8000,))
    assert np.abs(pcm).max() > 300
    assert len(page.all("svg", "chart")) == 2 * len(ran.report.queries)


def test_a_query_stays_text(ran: Ran) -> None:
    page = Page(ran.page)
    assert len(page.programs()) == 1
    assert HOSTILE in page.text()


def test_the_picture_is_the_newest_by_the_peak(ran: Ran) -> None:
    """The page's JPEG is that of the log, coded once more."""
    found = ran.report.queries[0].best[0]
    frame = int(found.since_start_s(found.peak_ns) * 5 + 1e-6)
    c = facts_of(LOG).config["sensors"]["camera"]
    options = SceneOptions(seed=c["seed"], width=224, height=224, fps=5.0, hfov_deg=c["hfov_deg"])
    drawn = Scene(options)
    picture = Page(ran.page).pictures()[0]
    off = {k: float(np.abs(drawn.image(frame + k).astype(int) - picture).mean()) for k in (-5, 0, 5)}
    assert min(off, key=lambda k: off[k]) == 0, off


def test_recorded_embeddings_are_enough_and_give_the_same_numbers_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Vision scores by the whole picture then, as a log holds no patches: as the agent's own replay of it does."""
    first = backtest([GOLDEN / "events.mcap"], TEXTS[:2], threshold=0.5, reuse_embeddings=True, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    again = backtest([GOLDEN / "events.mcap"], TEXTS[:2], threshold=0.5, reuse_embeddings=True, out=tmp_path / "out")
    assert first.document() == again.document() == printed
    queries = [report.query for report in first.queries]
    assert [query.threshold_off for query in queries] == [0.3, 0.3]
    log = GOLDEN / "events.mcap"
    assert [spans(r.found) for r in first.queries] == spans_of_replay(log, queries, reuse_embeddings=True)
    assert first.queries[0].found
    page = Page((tmp_path / "out" / "index.html").read_text())
    assert not page.all("img") + page.all("audio"), "the log holds no pictures and no sound"


def with_hole(path: Path) -> Path:
    """The golden events, those of the second half a hundred seconds later."""
    said = said_before(GOLDEN)
    embeddings = [event for event in said.events if event.HasField("embedding")]
    with Recorder(path, Timeline([GOLDEN / "events.mcap"]).facts, policy=LOSSLESS) as recorder:
        recorder.write_model(said.model)
        for number, event in enumerate(embeddings):
            if number >= 8:
                event.capture_ns += 100 * S
                event.embedding.tick += 200
            recorder.write_event(event)
    return path


def test_hits_around_a_hole_are_the_alerts_of_the_agent(tmp_path: Path) -> None:
    log = with_hole(tmp_path / "hole.mcap")
    report = backtest([log], TEXTS[:1], threshold=0.1, reuse_embeddings=True)
    found = report.queries[0].found
    assert spans(found) == spans_of_replay(log, [report.queries[0].query], reuse_embeddings=True)[0]
    assert [f.hit.cut for f in found if f.hit.end_ns < found[-1].hit.begin_ns] == [True]
    assert found[-1].hit.begin_ns - found[0].hit.end_ns > 100 * S
    assert report.hours == pytest.approx(11 / 3600), "the hole is not counted"


def test_the_users_marks_make_alarms_true() -> None:
    options: dict[str, Any] = {"reuse_embeddings": True, "false_alarms_per_hour": 0.0}
    report = backtest([GOLDEN / "events.mcap"], TEXTS[:1], true=["0-11", "22:13:40-22:13:50"], **options)
    query = report.queries[0]
    assert [found.marked for found in query.found] == [True]
    assert {point.false for point in query.points} == {0}
    assert query.suggestion is not None
    assert (query.suggestion.threshold, query.suggestion.found) == (0.01, 1)


def test_marks_of_one_query_count_for_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"reuse_embeddings": True, "false_alarms_per_hour": 0.0, "threshold": 0.5}
    marks = ["A baby crying=0-11", "q2=2-3"]
    report = backtest([GOLDEN / "events.mcap"], TEXTS[:2], true=marks, **options)
    baby, helicopter = report.queries
    assert (baby.marks, helicopter.marks, report.marks) == (1, 1, 2)
    assert [found.marked for found in baby.found] == [True]
    assert {point.false for point in baby.points} == {0}
    assert any(point.false for point in helicopter.points), "what it fires at is not marked for it"
    out = capsys.readouterr().out
    assert "suggested threshold 0.01: 0 an hour (95 %: 0 to 1200) false alarms, 1 of 1 marked times found" in out
    # No threshold is suggested that finds nothing.
    assert helicopter.keeps is not None
    assert helicopter.keeps.found == 0
    assert helicopter.suggestion is None
    assert "no threshold is of use: none that keeps to at most 0 false alarms an hour finds any of 1 marked" in out
    assert report.document()["queries"][1]["suggested"] is None


def test_a_rate_that_the_recording_is_too_short_for_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    report = backtest([GOLDEN / "events.mcap"], TEXTS[1:2], reuse_embeddings=True, false_alarms_per_hour=2.0)
    out = capsys.readouterr().out
    assert "alarms 0, 0 an hour (95 %: 0 to 1200)" in out
    assert "0.0031 hours are too short to tell: it takes 1.8 hours without a false alarm" in out
    low, high = report.document()["queries"][0]["alarms_per_hour_95"]
    assert (low, high) == (0.0, pytest.approx(3.689 / (11 / 3600), rel=1e-3))


def with_shed_ticks(path: Path, kept: Callable[[int], bool]) -> tuple[Path, int]:
    """The golden samples, and the embeddings of some of their ticks, as of an agent that was behind; all its ticks."""
    said, timeline = said_before(GOLDEN), Timeline([LOG])
    events = [event for event in said.events if event.HasField("embedding")]
    with Recorder(path, timeline.facts, policy=LOSSLESS) as recorder:
        recorder.write_model(said.model)
        waiting = [event for number, event in enumerate(events) if kept(number)]
        for entry in timeline.read():
            if (sensor := sensor_of(entry.topic)) is None:
                continue
            message = entry.message
            sample = messages.decode(entry.schema, timeline.sensors[sensor], message.log_time, message.data)
            while waiting and waiting[0].capture_ns < sample.t_ns:
                recorder.write_event(waiting.pop(0))
            recorder.write_sample(sensor, sample)
        for event in waiting:
            recorder.write_event(event)
    return path, len(events)


def test_ticks_without_vectors_are_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, ticks = with_shed_ticks(tmp_path / "behind.mcap", lambda number: number % 2 == 0 or number > 15)
    report = backtest([log], TEXTS[:1], reuse_embeddings=True, out=tmp_path / "out")
    (recording,) = report.recordings
    shed = dict(recording.lacking)
    assert shed == {"no vectors in the log": 8}
    assert len(recording.times_ns) + 8 == ticks
    said = f"8 of {ticks} ticks were not scored: no vectors in the log; run without --reuse-embeddings to score them"
    assert said in capsys.readouterr().out
    assert said in Page((tmp_path / "out" / "index.html").read_text()).text()
    _, status = told_by(build.replay(log, reuse_embeddings=True))
    assert (status.ticks_produced, status.ticks_delivered, dict(status.ticks_shed)) == (ticks, ticks - 8, shed)
    whole, _ = with_shed_ticks(tmp_path / "whole.mcap", lambda _: True)
    assert not backtest([whole], TEXTS[:1], reuse_embeddings=True).recordings[0].lacking


def test_ticks_at_which_no_modality_of_a_query_had_a_window_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = backtest([GOLDEN / "events.mcap"], TEXTS[:1], modalities=["imu"], reuse_embeddings=True)
    ticks = len(report.recordings[0].times_ns)
    assert 0 < report.queries[0].unscored < ticks
    said = f"at {report.queries[0].unscored} of {ticks} ticks there was no window of imu: nothing could fire"
    assert said in capsys.readouterr().out


def test_a_query_of_unknown_words_is_refused_unless_forced() -> None:
    with pytest.raises(ConfigError, match=r"'engine noise': the model was never trained on 'engine'"):
        backtest([GOLDEN / "events.mcap"], ["engine noise"], reuse_embeddings=True)
    report = backtest([GOLDEN / "events.mcap"], ["engine noise"], force=True, reuse_embeddings=True)
    assert "engine" in report.queries[0].warnings[0]


def test_several_recordings_are_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_ns = Timeline([LOG]).start_ns
    folder = tmp_path / "pieces"
    folder.mkdir()
    cut([GOLDEN / "events.mcap"], folder / "b.mcap", from_ns=start_ns + 6 * S)
    cut([GOLDEN / "events.mcap"], folder / "a.mcap", to_ns=start_ns + 6 * S)
    report = backtest([folder], TEXTS[:1], threshold=0.2, reuse_embeddings=True)
    names = [str(recording.timeline) for recording in report.recordings]
    assert names == [str(folder / "a.mcap"), str(folder / "b.mcap")]
    alone = [
        backtest([folder / name], TEXTS[:1], threshold=0.2, reuse_embeddings=True).queries[0]
        for name in ("a.mcap", "b.mcap")
    ]
    assert spans(report.queries[0].found) == [*spans(alone[0].found), *spans(alone[1].found)]
    assert [point.fired for point in report.queries[0].points] == [
        a.fired + b.fired for a, b in zip(alone[0].points, alone[1].points, strict=True)
    ]
    assert report.hours == pytest.approx(11 / 3600)
    assert "recordings: 2" in capsys.readouterr().out


def test_which_recordings_lie_in_a_folder(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(2))
    cut([tmp_path / "run.mcap"], tmp_path / "piece.mcap")
    shutil.copy(LOG, tmp_path / "other.mcap")
    (tmp_path / "broken.mcap").write_bytes(b"no log")
    found = [str(timeline) for timeline in recordings_in([tmp_path, tmp_path / "run.mcap"])]
    assert found == [str(tmp_path / "run.mcap"), str(tmp_path / "other.mcap")]
    assert [str(t) for t in recordings_in([tmp_path / "piece.mcap"])] == [str(tmp_path / "piece.mcap")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReplayError, match="holds no log"):
        recordings_in([tmp_path / "empty"])


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"texts": ["  "]}, QueryError, "text: is empty"),
        ({"threshold": 0.0}, QueryError, "threshold_on: is 0.0; it must be above 0"),
        ({"threshold": 1.01}, QueryError, "threshold_on: is 1.01"),
        ({"threshold": math.nan}, QueryError, "threshold_on: is nan"),
        ({"modalities": ["smell"]}, QueryError, "modalities: 'smell' is not one of"),
        ({"top": 0}, LogError, "--top 0"),
        ({"true": ["12"]}, LogError, "--true '12': not a time range; give FROM-TO"),
        ({"true": ["5-3"]}, LogError, "--true '5-3': ends before it begins"),
        (
            {"true": ["a cat=3-5"]},
            LogError,
            "--true 'a cat=3-5': 'a cat' is not a query; before '='",
        ),
        ({"true": ["a-b"]}, LogError, "--true 'a': not a time"),
        ({"false_alarms_per_hour": -1.0}, LogError, "--false-alarms-per-hour -1: not a rate"),
        ({"false_alarms_per_hour": math.nan}, LogError, "--false-alarms-per-hour nan: not a rate"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    options: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(error) as raised:
        backtest([LOG], **{"texts": ["a dog"], "out": out, **options})
    assert says in one_line(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_logs_that_do_not_fit_are_refused(tmp_path: Path, nano_weights: Path) -> None:
    with pytest.raises(ReplayError) as missing:
        backtest([tmp_path / "none.mcap"], ["a dog"])
    assert "none.mcap" in one_line(missing.value)
    blind = tmp_path / "blind.mcap"
    cut([LOG], blind, sensors=["camera"])
    with pytest.raises(LogError) as deaf:
        backtest([blind], ["a dog"], modalities=["audio", "imu"], out=tmp_path / "out")
    assert one_line(deaf.value) == f"{blind}: query 'a dog' needs audio or imu, and the log has vision"
    other = golden_config(model={"weights": str(nano_weights), "device": "cpu"})
    with pytest.raises(ReplayError) as foreign:
        backtest([GOLDEN / "events.mcap"], ["a dog"], config=other, reuse_embeddings=True, out=tmp_path / "out")
    assert "its embeddings are of the model imagebind_nano" in one_line(foreign.value)
    mute = tmp_path / "mute.mcap"
    with Recorder(mute, facts(), policy=LOSSLESS):
        pass
    with pytest.raises(LogError) as empty:
        backtest([mute], ["a dog"])
    assert "gives no tick to score" in one_line(empty.value)
    assert {path.name for path in tmp_path.iterdir()} == {"blind.mcap", "mute.mcap"}


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(RecordError, match="exists already"):
        backtest([LOG], ["a dog"], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_without_a_query_the_configured_ones_are_run() -> None:
    report = backtest([GOLDEN / "events.mcap"], reuse_embeddings=True, modalities=["audio"])
    assert [r.query.id for r in report.queries] == [q["id"] for q in facts_of(LOG).config["queries"]]
    fired: list[Hit] = [found.hit for r in report.queries for found in r.found]
    assert {hit.modalities for hit in fired} == {("audio",)}
    with pytest.raises(LogError, match="no query is given, and its configuration has none"):
        backtest([LOG], config=golden_config(queries=[]))
