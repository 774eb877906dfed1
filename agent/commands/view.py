"""Events as people read them: a live screen in a terminal, or plain lines."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.capture.source import BAD_DATA, LOST_BY_DRIVER
from agent.log.viewers import lines
from agent.log.viewers.lines import model_state_name
from agent.scores import scores_of
from common.printable import printable
from drivers.codec import MODALITY_NAMES
from drivers.forms import FORMS
from protos import perception_pb2 as pb
from protos import sensors_pb2

_STATE_STYLE = {"OK": "green", "DEGRADED": "yellow", "LOST": "bold red", "STARTING": "dim", "ENDED": "dim"}


def clock_time(t_ns: int) -> str:
    """Return a time as `12:34:56.7` in UTC."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-5]


def line_of(event: pb.Event) -> str | None:
    """Return a plain line for an event that a person wants to read; None for one that comes with every tick."""
    line = lines.line_of(event)
    return None if line is None else f"{clock_time(event.capture_ns)}  {line}"


def model_trouble(model: pb.ModelState) -> str:
    """Return the model's state and its reason; empty while the state is ok, or not known."""
    if model.state in (pb.ModelState.STATE_UNSPECIFIED, pb.ModelState.STATE_OK, pb.ModelState.STATE_LOADING):
        return ""
    return f"model {model_state_name(model)}: {model.reason}"


def reason_line(stream: pb.StreamHealth) -> str:
    """Return a stream's state with its reason, such as `imu is lost: it went away`; empty without one."""
    state = pb.StreamHealth.State.Name(stream.state).removeprefix("STATE_").lower()
    return f"{stream.sensor} is {state}: {stream.reason}" if stream.reason else ""


def source_line(source: pb.AudioSource) -> str:
    """The audio source in words."""
    why = f": {printable(source.reason)}" if source.reason else ""
    if source.state == pb.SOURCE_STATE_NOTHING_HEARD:
        return f"nothing heard{why}"
    where = []
    if source.HasField("direction"):
        azimuth = source.direction.azimuth_deg
        side = "ahead" if abs(azimuth) < 5 else f"{abs(azimuth):.0f}° {'left' if azimuth > 0 else 'right'}"
        where.append(side)
    if source.state == pb.SOURCE_STATE_IN_VIEW:
        where.append(f"in view at x {source.peak_x:.0f}, y {source.peak_y:.0f}")
    else:
        where.append("heard, but not in view" if source.state == pb.SOURCE_STATE_NOT_IN_VIEW else "heard, no picture")
    return ", ".join(where) + why


class LiveView:
    """The state of the screen; give it events and statuses, and render it as often as wanted."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._status = pb.Status()
        self._queries: dict[str, str] = {}
        self._scores = scores_of(pb.Embedding())
        self._active: set[str] = set()
        self._windows: dict[str, str] = {}
        """What became of the last window of each sensor."""
        self._source = pb.AudioSource()
        self._tick_ns = 0
        # The newest lines; older ones scroll away.
        self._lines: deque[str] = deque(maxlen=8)

    @property
    def busy(self) -> bool:
        """True if an alert is on while the audio source is in view: a moment worth a picture."""
        return bool(self._active) and self._source.state == pb.SOURCE_STATE_IN_VIEW

    def on_status(self, status: pb.Status, queries: dict[str, str]) -> None:
        """Take the agent's status and the texts of its queries by id."""
        self._status = status
        self._queries = {query_id: printable(text) for query_id, text in queries.items()}

    def on_event(self, event: pb.Event) -> None:
        """Update the screen's state by an event."""
        if line := line_of(event):
            self._lines.append(printable(line))
        match event.WhichOneof("event"):
            case "embedding":
                self._on_embedding(event)
            case "audio_source":
                self._source = event.audio_source
            case "alert" if event.alert.phase == pb.ALERT_PHASE_END:
                self._active.discard(event.alert.query_id)
            case "alert":
                self._active.add(event.alert.query_id)

    def _on_embedding(self, event: pb.Event) -> None:
        embedding = event.embedding
        self._tick_ns = event.capture_ns
        self._windows = {w.sensor: _window_in_words(w) for w in embedding.windows}
        self._scores = scores_of(embedding)

    def render(self) -> RenderableType:
        """Return the whole screen: head, streams, scores, source and the last lines."""
        return Group(
            self.head(),
            Panel(Group(self.streams(), self.troubles()), title="streams", title_align="left"),
            Panel(self._score_table(), title="queries", title_align="left"),
            Panel(source_line(self._source), title="audio source", title_align="left"),
            Panel(Text("\n".join(self._lines) or "none yet"), title="events", title_align="left"),
        )

    def head(self) -> Text:
        """The model, and what became of the ticks."""
        status = self._status
        shed = _shed_in_words(status.ticks_shed)
        model = printable(status.model) + (f" on {printable(status.device)}" if status.device else "")
        recording = ""
        if status.HasField("recording"):
            state = (
                pb.RecordingState.State.Name(status.recording.state).removeprefix("STATE_").lower().replace("_", " ")
            )
            recording = f"   recording: {printable(status.recording.reason) or state}"
        return Text.assemble(
            (self._title, "bold"),
            f"   {model}   {status.uptime_s:.0f} s   ticks {status.ticks_delivered} delivered, {shed}   ",
            f"{status.inference_ms:.0f} ms a tick",
            recording,
            (f"\n{trouble}" if (trouble := model_trouble(status.model_state)) else "", "bold red"),
        )

    def streams(self) -> Table:
        """Return a table with a row for each stream."""
        table = Table.grid(padding=(0, 2))
        headings = ["sensor", "modality", "state", "rate", *(["window"] if self._tick_ns else [])]
        table.add_row(*(Text(heading, style="dim") for heading in headings))
        for stream in self._status.streams:
            state = pb.StreamHealth.State.Name(stream.state).removeprefix("STATE_")
            row = [
                Text(printable(stream.sensor)),
                Text(_modality_of(stream)),
                Text(state.lower(), style=_STATE_STYLE.get(state, "")),
                Text(f"{stream.rate_hz:.1f} of {stream.expected_rate_hz:.1f} Hz"),
            ]
            table.add_row(*row, *([Text(self._windows.get(stream.sensor, ""))] if self._tick_ns else []))
        return table

    def troubles(self) -> Text:
        """Return a line for the reason of each stream that is not well, and for what was dropped of it, with units."""
        lines = []
        for stream in self._status.streams:
            state = pb.StreamHealth.State.Name(stream.state).removeprefix("STATE_")
            name = printable(stream.sensor)
            if reason := reason_line(stream):
                lines.append(Text(printable(reason), _STATE_STYLE.get(state, "")))
            if stream.drops:
                drops = ", ".join(_dropped(stream, reason) for reason in sorted(stream.drops))
                lines.append(Text(f"{name} dropped {printable(drops)}"))
            if stream.faults:
                lines.append(
                    Text(f"{name}: {stream.faults} faults of the agent, first: {printable(stream.first_fault)}")
                )
        return Text("\n").join(lines)

    def _score_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        columns = sorted((FORMS[modality].sense, modality) for modality in self._scores.modalities)
        table.add_row(Text("query", style="dim"), *(Text(sense, style="dim") for sense, _ in columns))
        for query_id, text in self._queries.items():
            scores = self._scores.of(query_id) if query_id in self._scores.query_ids else {}
            style = "bold green" if query_id in self._active else ""
            table.add_row(Text(text, style=style), *(Text(_bar(scores.get(m)), style=style) for _, m in columns))
        return table


def _modality_of(stream: pb.StreamHealth) -> str:
    return sensors_pb2.Modality.Name(stream.modality).removeprefix("MODALITY_").lower()


def _dropped(stream: pb.StreamHealth, reason: str) -> str:
    """Return a count of drops with its unit: drivers count rows, and the agent the blocks that they come in."""
    image_like = stream.modality in MODALITY_NAMES and FORMS[MODALITY_NAMES[stream.modality]].image_like
    unit = (
        "reads" if reason == BAD_DATA else "images" if image_like else "rows" if reason == LOST_BY_DRIVER else "blocks"
    )
    return f"{stream.drops[reason]} {unit} ({reason})"


def _shed_in_words(by_reason: Mapping[str, int]) -> str:
    """Return a sum with its parts: `7 shed (5 model loading, 2 behind)`, `5 shed (model loading)`, `0 shed`."""
    found = {printable(reason): count for reason, count in sorted(by_reason.items()) if count}
    parts = ", ".join(f"{count} {reason}" if len(found) > 1 else reason for reason, count in found.items())
    return f"{sum(found.values())} shed" + (f" ({parts})" if parts else "")


def _window_in_words(window: pb.WindowEmbedding) -> str:
    if not window.present:
        return printable(window.missing_reason)
    return f"embedded, {window.filled:.1%} of it filled" if window.filled else "embedded"


def _bar(score: float | None, width: int = 12) -> str:
    if score is None or math.isnan(score):
        return "-"
    full = round(score * width)
    return f"{'█' * full}{'·' * (width - full)} {score:.2f}"
