"""How a run goes, put together from its parts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from agent.events import messages as events
from agent.health.health import StreamState
from common.versions import version_of
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.run.model import LoadedModel
    from agent.run.run import Run

MODEL_LOADING = "model loading"
"""Why ticks are shed before there is a model."""


def status_of(run: Run, model: LoadedModel | None, streams: Mapping[str, StreamState]) -> pb.Status:
    """The message, without what the server knows."""
    inference_ms = model.perceiving.load().inference_ms if model else ()
    status = pb.Status(
        run_id=run.bus.run_id,
        version=version_of("sensebind"),
        started_ns=run.clock.start_ns,
        uptime_s=(run.clock.now_ns() - run.clock.start_ns) / 1e9,
        model=model.name if model else MODEL_LOADING,
        device=model.device if model else "",
        versions=versions(),
        ticks_produced=run.early_ticks,
        inference_ms=median(inference_ms) if inference_ms else 0.0,
        hop_s=run.config.hop_ns / 1e9,
    )
    for place, count in run.faults.counts().items():
        status.faults[place] = count
    if run.early_ticks:
        status.ticks_shed[MODEL_LOADING] = run.early_ticks
    if model:
        accounting = model.worker.accounting()
        status.ticks_produced += accounting.produced
        status.ticks_delivered = accounting.delivered
        status.ticks_in_flight = accounting.in_flight
        for reason, shed in accounting.shed.items():
            status.ticks_shed[reason] = shed
    for state in streams.values():
        status.streams.append(events.stream_health(state))
    if run.recorder:
        status.recording.CopyFrom(events.recording_state(run.recorder.report()))
    status.model_state.CopyFrom(events.model_state(run.condition))
    if run.replay:
        status.replay.CopyFrom(run.replay.state().message())
    return status


def versions() -> dict[str, str]:
    """Which software a run depends on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in ("sensebind", "torch", "grpcio")}
