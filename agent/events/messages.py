"""The agent's findings as messages: the only place that builds them. Pure: dataclasses in, events out.

The bus adds what it alone knows (run, seq, time of publishing). Files with torch are imported for types only, so that a
client can use this without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from agent.perceiving.findings import AudioSource, Finding, QueryFailed, Scored, Transition
from agent.vectors import heat_map_message, heat_map_of, vector_message, vector_of
from drivers.codec import MODALITY_VALUES
from drivers.driver import Modality
from protos import perception_pb2 as pb
from protos.sensors_pb2 import Modality as ModalityValue

if TYPE_CHECKING:
    from agent.embedding.condition import Condition
    from agent.embedding.embedder import Embedded
    from agent.health.health import StreamState
    from agent.log.recording.recorder import RecorderReport
    from agent.perceiving.alerts.scoring import Scores
    from agent.perceiving.localization.heatmap import Box
    from agent.query import Query

_PHASES: dict[str, pb.AlertPhase.ValueType] = {
    "begin": pb.ALERT_PHASE_BEGIN,
    "update": pb.ALERT_PHASE_UPDATE,
    "end": pb.ALERT_PHASE_END,
}
_CONDITIONS: dict[str, pb.StreamHealth.State.ValueType] = {
    "starting": pb.StreamHealth.STATE_STARTING,
    "ok": pb.StreamHealth.STATE_OK,
    "degraded": pb.StreamHealth.STATE_DEGRADED,
    "lost": pb.StreamHealth.STATE_LOST,
    "ended": pb.StreamHealth.STATE_ENDED,
}
_SOURCE_STATES: dict[str, pb.SourceState.ValueType] = {
    "nothing heard": pb.SOURCE_STATE_NOTHING_HEARD,
    "in view": pb.SOURCE_STATE_IN_VIEW,
    "heard, but not in view": pb.SOURCE_STATE_NOT_IN_VIEW,
    "heard, no picture": pb.SOURCE_STATE_UNSEEN,
}

_MODEL: dict[str, pb.ModelState.State.ValueType] = {
    "loading": pb.ModelState.STATE_LOADING,
    "ok": pb.ModelState.STATE_OK,
    "overloaded": pb.ModelState.STATE_OVERLOADED,
    "failing": pb.ModelState.STATE_FAILING,
    "hung": pb.ModelState.STATE_HUNG,
}
_QUERY_CHANGES: dict[str, pb.QueryChange.Change.ValueType] = {
    "added": pb.QueryChange.CHANGE_ADDED,
    "removed": pb.QueryChange.CHANGE_REMOVED,
}
_RECORDING: dict[str, pb.RecordingState.State.ValueType] = {
    "recording": pb.RecordingState.STATE_RECORDING,
    "stopped": pb.RecordingState.STATE_STOPPED,
    "failed": pb.RecordingState.STATE_FAILED,
    "closed": pb.RecordingState.STATE_CLOSED,
    "off": pb.RecordingState.STATE_CLIPS_ONLY,
}


def found(finding: Finding) -> pb.Event:
    """The event that tells of what perception found."""
    match finding:
        case Scored():
            return embedding(finding.embedded, finding.scores)
        case Transition():
            return alert(finding)
        case QueryFailed(standing, t_ns):
            return query_change("removed", standing.query, t_ns, standing.warnings)
        case AudioSource():
            return audio_source(finding)


def embedding(embedded: Embedded, scores: Scores | None = None) -> pb.Event:
    """One tick: every stream's window, its vector in float16, and the scores of the queries."""
    tick = embedded.tick
    body = pb.Embedding(tick=tick.index, inference_ms=embedded.inference_ms, settled_ns=tick.settled_ns)
    for sensor, window in tick.windows.items():
        vector = embedded.vectors.get(sensor)
        body.windows.append(
            pb.WindowEmbedding(
                sensor=sensor,
                modality=MODALITY_VALUES[window.modality],
                present=vector is not None,
                missing_reason="" if vector is not None else embedded.missing.get(sensor, window.missing),
                vector=None if vector is None else vector_message(vector),
                newest_ns=window.newest_ns,
            )
        )
    if embedded.fused is not None:
        body.fused.CopyFrom(vector_message(embedded.fused))
    if scores is not None:
        body.scores.extend(_scores_by_query(scores))
    return pb.Event(capture_ns=tick.t_ns, embedding=body)


def _scores_by_query(scores: Scores) -> Iterable[pb.QueryScore]:
    modalities = [MODALITY_VALUES[modality] for modality in scores.modalities]
    for query_id, row in zip(scores.query_ids, scores.values.tolist(), strict=True):
        for modality, score in zip(modalities, row, strict=True):
            yield pb.QueryScore(query_id=query_id, modality=modality, score=score)


def audio_source(source: AudioSource) -> pb.Event:
    """Where the sound of a tick comes from, with the heat map in float16."""
    body = pb.AudioSource(
        tick=source.tick,
        microphone=source.microphone,
        camera=source.camera,
        state=_SOURCE_STATES[source.state.value],
        similarity=source.similarity,
    )
    if source.direction is not None:
        direction = source.direction
        body.direction.azimuth_deg = direction.azimuth_deg
        body.direction.elevation_deg = direction.elevation_deg
        body.direction.confidence = direction.confidence
        body.direction.spread_deg = direction.spread_deg
        body.direction.ambiguous = direction.ambiguous
    if source.box is not None:
        body.box.CopyFrom(_box(source.box))
    if source.peak is not None:
        body.peak_x, body.peak_y = source.peak
    if source.map is not None:
        body.heat_map.CopyFrom(heat_map_message(source.map))
        if source.extent is not None:
            body.heat_map.extent.CopyFrom(_box(source.extent))
    return pb.Event(capture_ns=source.t_ns, audio_source=body)


def _box(box: Box) -> pb.Box:
    return pb.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def alert(transition: Transition) -> pb.Event:
    """An alert begins, changes what carries it, or ends."""
    body = pb.AlertTransition(
        query_id=transition.query_id,
        text=transition.text,
        phase=_PHASES[transition.phase],
        alert_id=transition.alert_id,
        modalities=modality_values(transition.modalities),
        begin_ns=transition.begin_ns,
    )
    for modality, score in transition.scores.items():
        body.scores.add(query_id=transition.query_id, modality=MODALITY_VALUES[modality], score=score)
    return pb.Event(capture_ns=transition.t_ns, alert=body)


def health(state: StreamState, now_ns: int) -> pb.Event:
    """How a stream is, at a time."""
    return pb.Event(capture_ns=now_ns, health=stream_health(state))


def recording(report: RecorderReport, now_ns: int) -> pb.Event:
    """How recording goes, at a time."""
    return pb.Event(capture_ns=now_ns, recording=recording_state(report))


def recording_state(report: RecorderReport) -> pb.RecordingState:
    """How recording goes, as it also stands in the agent's Status."""
    return pb.RecordingState(
        state=_RECORDING[report.state],
        reason=report.error or report.notice,
        path=str(report.path) if report.path else "",
        files=report.parts,
        dropped={topic: sum(reasons.values()) for topic, reasons in report.drops.items()},
        removed_files=report.removed_files,
        removed_bytes=report.removed_bytes,
    )


def stream_health(state: StreamState) -> pb.StreamHealth:
    """How a stream is, as it also stands in the agent's Status."""
    return pb.StreamHealth(
        sensor=state.sensor,
        modality=MODALITY_VALUES[state.modality],
        state=_CONDITIONS[state.state],
        reason=state.reason,
        rate_hz=state.rate_hz,
        expected_rate_hz=state.expected_rate_hz,
        age_s=state.age_s,
        samples=state.samples,
        dropped=state.dropped,
        drops=state.drops,
        restarts=state.restarts,
        skew_ppm=state.skew_ppm,
        gaps=state.gaps,
        delay_s=state.delay_s,
        faults=state.faults,
        first_fault=state.first_fault,
    )


def model(condition: Condition, now_ns: int) -> pb.Event:
    """How the model keeps up, at a time."""
    return pb.Event(capture_ns=now_ns, model=model_state(condition))


def model_state(condition: Condition) -> pb.ModelState:
    """How the model keeps up, as it also stands in the agent's Status."""
    return pb.ModelState(
        state=_MODEL[condition.state],
        reason=condition.reason,
        reduced=condition.reduced,
        inference_ms=condition.inference_ms,
        age_s=condition.age_s,
    )


def query_change(
    change: Literal["added", "removed"], standing: Query, now_ns: int, warnings: Sequence[str] = ()
) -> pb.Event:
    """A query is watched for from now on, or no longer."""
    body = pb.QueryChange(change=_QUERY_CHANGES[change], query=query(standing, warnings))
    return pb.Event(capture_ns=now_ns, query=body)


def query(standing: Query, warnings: Sequence[str] = ()) -> pb.Query:
    """A query as it stands, and what is to be said of it."""
    return pb.Query(
        id=standing.id,
        text=standing.text,
        modalities=modality_values(standing.modalities),
        threshold_on=standing.threshold_on,
        threshold_off=standing.threshold_off,
        min_duration_s=standing.min_duration_s,
        cooldown_s=standing.cooldown_s,
        warnings=warnings,
        clip=standing.clip,
    )


def modality_values(modalities: Iterable[Modality]) -> list[ModalityValue.ValueType]:
    """Modalities as they stand in messages."""
    return [MODALITY_VALUES[modality] for modality in modalities]


def non_finite(message: Message, path: str = "") -> str:
    """Name the first field that holds a NaN or infinity, vectors and heat maps included; empty without one."""
    if isinstance(message, pb.Vector):
        return "" if np.isfinite(vector_of(message)).all() else f"{path}.data"
    if isinstance(message, pb.HeatMap) and not np.isfinite(heat_map_of(message)).all():
        return f"{path}.data"
    for field, value in message.ListFields():
        inner = f"{path}.{field.name}" if path else field.name
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if field.message_type and field.message_type.GetOptions().map_entry:
                continue  # counts by reason
            for part in value if field.is_repeated else (value,):
                if found := non_finite(part, inner):
                    return found
        elif field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            for number in value if field.is_repeated else (value,):
                if not math.isfinite(number):
                    return inner
    return ""
