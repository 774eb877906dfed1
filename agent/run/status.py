"""Status of a run, put together from its parts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from agent.embedding.worker import Accounting
from agent.events import messages as events
from agent.health.health import StreamState
from common.versions import version_of
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.run.model import LoadedModel
    from agent.run.run import Run

NOTHING_YET = Accounting(produced=0, delivered=0, shed={}, in_flight=0)
MODEL_LOADING = "model loading"
"""Reason of ticks that are shed before the model is loaded."""
NO_VECTORS = "no vectors in the log"
"""Reason of ticks that a replay of the log's vectors passes over: the agent that recorded it shed them."""


def status_of(run: Run, model: LoadedModel | None, streams: Mapping[str, StreamState]) -> pb.Status:
    """The message, without what the server knows."""
    inference_ms = model.perceiving.load().inference_ms if model else ()
    accounting = model.worker.accounting() if model else NOTHING_YET
    early_ticks = run.early_ticks
    unembedded = {MODEL_LOADING: early_ticks, NO_VECTORS: run.bare_ticks}
    unembedded = {reason: count for reason, count in unembedded.items() if count}
    return events.status(
        events.RunStatus(
            run_id=run.bus.run_id,
            version=version_of("sensebind"),
            started_ns=run.clock.start_ns,
            uptime_s=(run.clock.now_ns() - run.clock.start_ns) / 1e9,
            model=model.name if model else MODEL_LOADING,
            device=model.device if model else "",
            versions=versions(),
            hop_s=run.config.hop_ns / 1e9,
            inference_ms=median(inference_ms) if inference_ms else 0.0,
            ticks_produced=sum(unembedded.values()) + accounting.produced,
            ticks_delivered=accounting.delivered,
            ticks_in_flight=accounting.in_flight,
            ticks_shed={**unembedded, **accounting.shed},
            streams=tuple(streams.values()),
            condition=run.condition,
            recording=run.recorder.report() if run.recorder else None,
            replay=run.replay.state() if run.replay else None,
            faults=run.faults.counts(),
        )
    )


def versions() -> dict[str, str]:
    """Return the versions of the software that a run depends on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in ("sensebind", "torch", "grpcio")}
