"""Events in words, for terminals and for the log panels of viewers. Pure."""

from __future__ import annotations

from drivers.codec import MODALITY_NAMES
from drivers.forms import FORMS
from protos import perception_pb2 as pb
from protos import sensors_pb2


def sense_of(modality: sensors_pb2.Modality.ValueType) -> str:
    """Return the sense of a modality: `seen`, `heard`, `felt`, or its own name."""
    return FORMS[MODALITY_NAMES[modality]].sense if modality in MODALITY_NAMES else "unspecified"


def model_state_name(model: pb.ModelState) -> str:
    """`ok`, `overloaded`, `hung` ..."""
    return pb.ModelState.State.Name(model.state).removeprefix("STATE_").lower()


def line_of(event: pb.Event) -> str | None:
    """Return a line, without a time, for an event that a person wants to read; None for one that comes with every tick.

    Raises ValueError for a state that this version does not know.
    """
    match event.WhichOneof("event"):
        case "alert":
            alert = event.alert
            senses = ", ".join(sense_of(m) for m in alert.modalities)
            phase = pb.AlertPhase.Name(alert.phase).removeprefix("ALERT_PHASE_").lower()
            lasted = f" after {(event.capture_ns - alert.begin_ns) / 1e9:.1f} s" if phase == "end" else ""
            return f"alert {phase:6} {alert.text!r}: {senses}{lasted}"
        case "health":
            health = event.health
            state = pb.StreamHealth.State.Name(health.state).removeprefix("STATE_").lower()
            reason = f": {health.reason}" if health.reason else ""
            rate = f"{health.rate_hz:.1f} of {health.expected_rate_hz:.1f} Hz"
            return f"stream {health.sensor} is {state} at {rate}{reason}"
        case "recording":
            state = pb.RecordingState.State.Name(event.recording.state).removeprefix("STATE_").lower()
            reason = f": {event.recording.reason}" if event.recording.reason else ""
            return f"recording {event.recording.path} is {state}{reason}"
        case "model":
            state = model_state_name(event.model)
            return f"model is {state}{f': {event.model.reason}' if event.model.reason else ''}"
        case "query":
            change = pb.QueryChange.Change.Name(event.query.change).removeprefix("CHANGE_").lower()
            return f"query {event.query.query.id} {event.query.query.text!r} is {change}"
        case "gap":
            gap = event.gap
            return f"missed {gap.events or 'some'} events, seq {gap.first_seq}..{gap.last_seq}: {gap.reason}"
        case _:
            return None
