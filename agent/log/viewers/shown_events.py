"""Events as messages that viewers show: boxes on pictures, lines of a log, scores that plot. Pure.

A viewer shows the last message of a topic until the next: of a source that is not in view there is one without a box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.Point2_pb2 import Point2
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from foxglove_schemas_protobuf.TextAnnotation_pb2 import TextAnnotation

from agent.log.viewers.lines import line_of
from agent.log.viewers.mounting import stamp_of
from agent.scores import MOST_MESSAGES, Scores
from protos import perception_pb2 as pb
from protos.viewers_pb2 import ScoreRow

LEAST_SCORE = 0.5
"""A query with a lower score does not name a sound."""
_FONT_SHARE = 0.05
"""Height of letters, of that of the picture."""
_LEAST_FONT_PX = 8.0
_BOX = Color(r=0.1, g=0.9, b=0.3, a=1.0)
_LETTERS = Color(r=1.0, g=1.0, b=1.0, a=1.0)
_BEHIND_LETTERS = Color(r=0.0, g=0.0, b=0.0, a=0.7)


def source_box(source: pb.AudioSource, label: str, picture_height: int, t_ns: int) -> ImageAnnotations:
    """Return the box of a source that is in view, in pixels of the camera's picture, with a label; else nothing."""
    stamp = stamp_of(t_ns)
    shown = ImageAnnotations(timestamp=stamp)
    if source.state != pb.SOURCE_STATE_IN_VIEW or not source.HasField("box"):
        return shown
    box = source.box
    shown.points.append(
        PointsAnnotation(
            timestamp=stamp,
            type=PointsAnnotation.LINE_LOOP,
            points=[
                Point2(x=x, y=y) for x, y in ((box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1))
            ],
            outline_color=_BOX,
            thickness=2.0,
        )
    )
    shown.texts.append(
        TextAnnotation(
            timestamp=stamp,
            position=Point2(x=box.x0, y=box.y0),
            text=label,
            font_size=max(_LEAST_FONT_PX, _FONT_SHARE * picture_height),
            text_color=_LETTERS,
            background_color=_BEHIND_LETTERS,
        )
    )
    return shown


def label_of(source: pb.AudioSource, scores: Scores | None, texts: Mapping[str, str]) -> str:
    """Return the label of a source: the query that the sound fits best and its score, and the chance that it is in
    view; `scores` are those of the same tick, `texts` the queries by id.
    """
    parts = ["sound"]
    if scores is not None and scores.query_ids and "audio" in scores.modalities:
        column = scores.values[:, scores.modalities.index("audio")].tolist()
        known = [(-1.0 if math.isnan(score) else score) for score in column]
        best, query_id = max(zip(known, scores.query_ids, strict=True))
        if best >= LEAST_SCORE:
            parts = [f"{texts.get(query_id, query_id)} {best:.2f}"]
    if source.HasField("in_view"):
        parts.append(f"in view {source.in_view:.2f}")
    return ", ".join(parts)


def log_line(event: pb.Event) -> Log | None:
    """Return an event as a line of a log panel; None for one that comes with every tick, or that is not known."""
    try:
        line = line_of(event)
    except ValueError:
        return None
    if line is None:
        return None
    level, name = _level_and_name(event)
    return Log(timestamp=stamp_of(event.capture_ns), level=level, message=" ".join(line.split()), name=name)


def score_rows(scores: Scores) -> Iterator[tuple[str, ScoreRow]]:
    """Yield the scores of each of the first MOST_MESSAGES queries with its id."""
    for query_id, row in zip(scores.query_ids[:MOST_MESSAGES], scores.values.tolist(), strict=False):
        told = {name: score for name, score in zip(scores.modalities, row, strict=True) if not math.isnan(score)}
        yield query_id, ScoreRow(**told)


def _level_and_name(event: pb.Event) -> tuple[Log.Level.ValueType, str]:
    match event.WhichOneof("event"):
        case "alert":
            return (Log.WARNING if event.alert.phase == pb.ALERT_PHASE_BEGIN else Log.INFO), event.alert.query_id
        case "health":
            states = {pb.StreamHealth.STATE_LOST: Log.ERROR, pb.StreamHealth.STATE_DEGRADED: Log.WARNING}
            return states.get(event.health.state, Log.INFO), event.health.sensor
        case "recording":
            failed = event.recording.state in (pb.RecordingState.STATE_STOPPED, pb.RecordingState.STATE_FAILED)
            return (Log.ERROR if failed else Log.INFO), "recording"
        case "model":
            calm = event.model.state in (pb.ModelState.STATE_OK, pb.ModelState.STATE_LOADING)
            return (Log.INFO if calm else Log.WARNING), "model"
        case kind:
            return Log.INFO, kind or ""
