"""The agent's findings as messages: the only place that builds them. Pure: dataclasses in, events out.

The bus adds what it alone knows (run, seq, time of publishing). Files with torch are imported for types only, so that a
client can use this without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.log.replay.control import MAX_SPEED, ReplayPosition
from agent.perceiving.findings import AudioSource, Finding, QueryFailed, ScoredTick, Transition
from agent.scores import put_scores
from agent.vectors import heat_map_message, vector_message
from drivers.codec import MODALITY_VALUES
from drivers.driver import Modality
from protos import perception_pb2 as pb
from protos.sensors_pb2 import Modality as ModalityValue

if TYPE_CHECKING:
    from agent.embedding.condition import Condition
    from agent.embedding.model import Embedded
    from agent.events.outbox import Lost
    from agent.health.health import StreamState
    from agent.log.recording.recorder import RecorderReport
    from agent.perceiving.localization.heatmap import Box
    from agent.query import StandingQuery
    from agent.scores import Scores

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
        case ScoredTick():
            return embedding(finding.embedded, finding.scores)
        case Transition():
            return alert(finding)
        case QueryFailed(standing, t_ns):
            return query_change("removed", standing, t_ns)
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
                filled=0.0 if vector is None else window.filled,
                meaningless=embedded.meaningless.get(sensor, ""),
            )
        )
    if embedded.fused is not None:
        body.fused.CopyFrom(vector_message(embedded.fused))
    if scores is not None and scores.values.size:
        put_scores(scores, body)
    return pb.Event(capture_ns=tick.t_ns, embedding=body)


def audio_source(source: AudioSource) -> pb.Event:
    """Build the event of a tick's audio source, with the heat map in float16."""
    body = pb.AudioSource(
        tick=source.tick,
        microphone=source.microphone,
        camera=source.camera,
        state=_SOURCE_STATES[source.state.value],
        similarity=source.similarity,
        reason=source.reason,
        in_view=source.in_view,
    )
    if source.direction is not None:
        direction = source.direction
        body.direction.azimuth_deg = direction.azimuth_deg
        body.direction.elevation_deg = direction.elevation_deg
        body.direction.confidence = direction.confidence
        body.direction.spread_deg = direction.spread_deg
        body.direction.ambiguous = direction.ambiguous
        body.direction.capture_ns = direction.t_ns
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
    """Build the event of a stream's health at a time."""
    return pb.Event(capture_ns=now_ns, health=stream_health(state))


def recording(report: RecorderReport, now_ns: int) -> pb.Event:
    """Build the event of the recording's state at a time."""
    return pb.Event(capture_ns=now_ns, recording=recording_state(report))


def recording_state(report: RecorderReport) -> pb.RecordingState:
    """Build the state of the recording, which the agent's Status holds, too."""
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
    """Build the health of a stream, which the agent's Status holds, too."""
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
    """Build the event of the model's state at a time."""
    return pb.Event(capture_ns=now_ns, model=model_state(condition))


def model_state(condition: Condition) -> pb.ModelState:
    """Build the state of the model, which the agent's Status holds, too."""
    return pb.ModelState(
        state=_MODEL[condition.state],
        reason=condition.reason,
        reduced=condition.reduced,
        inference_ms=condition.inference_ms,
        age_s=condition.age_s,
    )


def query_change(change: Literal["added", "removed"], standing: StandingQuery, now_ns: int) -> pb.Event:
    """A query is watched for from now on, or no longer."""
    body = pb.QueryChange(change=_QUERY_CHANGES[change], query=standing.message())
    return pb.Event(capture_ns=now_ns, query=body)


def gap(lost: Lost, run_id: str, now_ns: int) -> pb.Event:
    """Build the event that stands for those that a subscriber misses."""
    body = pb.Gap(first_seq=lost.first_seq, last_seq=lost.last_seq, events=lost.events, reason=lost.reason)
    return pb.Event(run_id=run_id, seq=lost.last_seq, capture_ns=now_ns, publish_ns=now_ns, gap=body)


def replay_state(position: ReplayPosition) -> pb.ReplayState:
    """Build the state of a replay: seconds from the start of the log, and a speed of 0 for MAX_SPEED."""

    def seconds(t_ns: int) -> float:
        return (t_ns - position.start_ns) / 1e9

    return pb.ReplayState(
        start_ns=position.start_ns,
        duration_s=seconds(position.end_ns),
        position_s=seconds(position.position_ns),
        speed=0.0 if position.speed == MAX_SPEED else position.speed,
        paused=position.paused,
        ended=position.ended,
        behind_s=position.behind_s,
        stretch=position.stretch,
        from_s=seconds(position.from_ns),
        to_s=seconds(position.to_ns),
        loop=position.loop,
    )


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Figures of a run, as far as the run itself knows them."""

    run_id: str
    version: str
    started_ns: int
    uptime_s: float
    model: str
    device: str
    versions: Mapping[str, str]
    hop_s: float
    inference_ms: float
    """Median of the last ticks."""
    ticks_produced: int
    ticks_delivered: int
    ticks_in_flight: int
    ticks_shed: Mapping[str, int]
    """By reason."""
    streams: Sequence[StreamState]
    condition: Condition
    recording: RecorderReport | None
    replay: ReplayPosition | None
    faults: Mapping[str, int]
    """By where."""


def status(run: RunStatus) -> pb.Status:
    """Build the status of the agent, without the fields that its server fills."""
    return pb.Status(
        run_id=run.run_id,
        version=run.version,
        started_ns=run.started_ns,
        uptime_s=run.uptime_s,
        model=run.model,
        device=run.device,
        versions=run.versions,
        hop_s=run.hop_s,
        inference_ms=run.inference_ms,
        ticks_produced=run.ticks_produced,
        ticks_delivered=run.ticks_delivered,
        ticks_in_flight=run.ticks_in_flight,
        ticks_shed=run.ticks_shed,
        streams=map(stream_health, run.streams),
        model_state=model_state(run.condition),
        recording=None if run.recording is None else recording_state(run.recording),
        replay=None if run.replay is None else replay_state(run.replay),
        faults=run.faults,
    )


def modality_values(modalities: Iterable[Modality]) -> list[ModalityValue.ValueType]:
    """Modalities as they stand in messages."""
    return [MODALITY_VALUES[modality] for modality in modalities]
