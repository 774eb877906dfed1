"""Accuracy of the agent: its events held against the truth of a synthetic scene.

What is certain counts, what is not is left out: a thing is in view when at least half of it and at least 1.5 % of the
picture's area shows, out of view when less than 5 % of it does; it was heard when it sounded for a second or more of
the audio window, and not heard when it was silent all along. A motion was felt when it was that of the whole last
second, and not felt when it was in no part of the IMU window. Ticks in between are neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from agent.config.parse import Config
from common.window_lengths import AUDIO_WINDOW_S, IMU_WINDOW_S
from drivers.codec import MODALITY_NAMES
from drivers.driver import Modality
from drivers.forms import FORMS, Sense
from protos import perception_pb2 as pb
from world.motion import MOTIONS
from world.scene import Scene, SceneOptions
from world.truth import ThingTruth

JUDGED: tuple[Modality, ...] = ("vision", "audio")
"""The modalities for which the truth tells whether a query for a thing should be on; for a motion it is the IMU."""
FELT_S = 1.0
HEARD_S = 1.0

DIRECTION_WINDOW_S = 0.5


class Verdict(Enum):
    """True if a query should be on at a tick."""

    YES = 1
    NO = 0
    UNSURE = -1


@dataclass
class Counts:
    """Right and wrong alerts of one sense. An episode is a maximal run of ticks at which a thing is certainly there."""

    found: int = 0
    missed: int = 0
    false: int = 0
    ticks_right: int = 0
    ticks_missed: int = 0
    ticks_false: int = 0

    @property
    def f1(self) -> float:
        """Over episodes: found, missed, and alerts during which the thing was never there."""
        return _f1(self.found, self.missed, self.false)

    @property
    def f1_ticks(self) -> float:
        """Over ticks that are certain."""
        return _f1(self.ticks_right, self.ticks_missed, self.ticks_false)

    def add(self, other: Counts) -> None:
        """Sum up several scenes."""
        for name in ("found", "missed", "false", "ticks_right", "ticks_missed", "ticks_false"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Assessment:
    """Counts and errors of an assessment."""

    alerts: dict[Sense, Counts] = field(default_factory=lambda: {"seen": Counts(), "heard": Counts()})
    """And `felt`, where a query asks for a motion."""
    seen_but_only_heard: int = 0
    """Alerts for `seen` that began while the thing sounded and was certainly out of view."""
    heard_out_of_view: int = 0
    """Ticks at which a queried thing sounded and was certainly out of view."""
    direction_errors_deg: list[float] = field(default_factory=list)
    """Errors at ticks at which exactly one thing sounded; 180 without a direction."""
    peaks_inside: int = 0
    peaks_total: int = 0
    """Ticks at which the only sounding thing was in view, and how often the heat map's peak lay in its box."""

    @property
    def directions_right(self) -> float:
        """Share of directions within 10 degrees."""
        errors = self.direction_errors_deg
        return sum(e <= 10 for e in errors) / len(errors) if errors else float("nan")

    @property
    def peaks_right(self) -> float:
        """Share of peaks inside the box."""
        return self.peaks_inside / self.peaks_total if self.peaks_total else float("nan")

    def add(self, other: Assessment) -> None:
        """Sum up several scenes."""
        for sense, counts in other.alerts.items():
            self.alerts.setdefault(sense, Counts()).add(counts)
        self.seen_but_only_heard += other.seen_but_only_heard
        self.heard_out_of_view += other.heard_out_of_view
        self.direction_errors_deg += other.direction_errors_deg
        self.peaks_inside += other.peaks_inside
        self.peaks_total += other.peaks_total


def assess(scene: Scene, start_ns: int, events: Iterable[pb.Event], kinds: Mapping[str, str]) -> Assessment:
    """Compare the events of one run with the scene that it saw.

    `start_ns` is the capture time of the scene's beginning, `kinds` the kind of thing, or the motion, that each query
    id asks for.
    """
    events = sorted(events, key=lambda e: e.seq)
    times_ns = [e.capture_ns for e in events if e.HasField("embedding")]
    result = Assessment()
    for query_id, kind in kinds.items():
        for modality in _judged(kind):
            sense = FORMS[modality].sense
            truth = [verdict(scene, (t - start_ns) / 1e9, kind, sense) for t in times_ns]
            alerts = intervals(events, query_id, modality, times_ns[-1] if times_ns else 0)
            _count(result.alerts.setdefault(sense, Counts()), times_ns, truth, alerts)
            if sense == "seen":
                _count_unseen(result, scene, start_ns, kind, times_ns, alerts)
    for event in events:
        if event.HasField("audio_source"):
            _count_source(result, scene, (event.capture_ns - start_ns) / 1e9, event.audio_source)
    return result


def scene_of(config: Config) -> Scene:
    """The scene that the configured synthetic camera sees."""
    assert config.camera is not None
    options = config.sensors[config.camera].spec.options
    return Scene(SceneOptions(options.seed, options.width, options.height, options.rate_hz, options.hfov_deg))


def _f1(right: int, missed: int, false: int) -> float:
    return 2 * right / (2 * right + missed + false) if right + missed + false else float("nan")


def certainly_in_view(thing: ThingTruth, pixels: int) -> Verdict:
    """Return whether a thing can be seen, from how much of it shows."""
    if thing.box is None or thing.visible < 0.05:
        return Verdict.NO
    x0, y0, x1, y1 = thing.box
    if thing.visible >= 0.5 and (x1 - x0) * (y1 - y0) >= 0.015 * pixels:
        return Verdict.YES
    return Verdict.UNSURE


def verdict(scene: Scene, t_s: float, kind: str, sense: Sense) -> Verdict:
    """Return whether a query for a kind of thing, or a motion, should be on at `t_s` by a sense.

    Depth and thermal cameras see what is in view. A motion is what the robot does, whatever perceives it.
    """
    if kind in MOTIONS:
        if scene.moved_between(t_s - FELT_S, t_s).get(kind, 0.0) > FELT_S - 1e-6:
            return Verdict.YES
        return Verdict.UNSURE if kind in scene.moved_between(t_s - IMU_WINDOW_S, t_s) else Verdict.NO
    if sense != "heard":
        pixels = scene.options.width * scene.options.height
        return next((certainly_in_view(t, pixels) for t in scene.truth(t_s).things if t.kind == kind), Verdict.NO)
    if t_s < AUDIO_WINDOW_S:
        return Verdict.UNSURE
    sounded_s = scene.sounded_between(t_s - AUDIO_WINDOW_S, t_s).get(kind, 0.0)
    return Verdict.YES if sounded_s >= HEARD_S else Verdict.NO if sounded_s == 0 else Verdict.UNSURE


def _judged(kind: str) -> tuple[Modality, ...]:
    return ("imu",) if kind in MOTIONS else JUDGED


def intervals(events: Sequence[pb.Event], query_id: str, modality: str, end_ns: int) -> list[tuple[int, int]]:
    """Return the closed intervals of capture time in which a query was on by one modality."""
    found: list[tuple[int, int]] = []
    since: int | None = None
    for event in events:
        if not event.HasField("alert") or event.alert.query_id != query_id:
            continue
        carried = modality in {MODALITY_NAMES[m] for m in event.alert.modalities}
        on = carried and event.alert.phase != pb.ALERT_PHASE_END
        if on and since is None:
            since = event.capture_ns
        elif not on and since is not None:
            found.append((since, event.capture_ns - 1))
            since = None
    if since is not None:
        found.append((since, end_ns))
    return found


def _count(
    counts: Counts, times_ns: Sequence[int], truth: Sequence[Verdict], alerts: Sequence[tuple[int, int]]
) -> None:
    on = [any(a <= t <= b for a, b in alerts) for t in times_ns]
    for alert_on, wanted in zip(on, truth, strict=True):
        counts.ticks_right += alert_on and wanted is Verdict.YES
        counts.ticks_missed += not alert_on and wanted is Verdict.YES
        counts.ticks_false += alert_on and wanted is Verdict.NO
    for first, last in _episodes(truth):
        if sum(wanted is Verdict.YES for wanted in truth[first : last + 1]) < 2:
            continue
        if any(on[first : last + 1]):
            counts.found += 1
        else:
            counts.missed += 1
    for a, b in alerts:
        during = [wanted for t, wanted in zip(times_ns, truth, strict=True) if a <= t <= b]
        counts.false += bool(during) and all(wanted is Verdict.NO for wanted in during)


def _episodes(truth: Sequence[Verdict]) -> list[tuple[int, int]]:
    """Runs of ticks without a certain NO that hold at least one YES, as first and last index."""
    runs: list[tuple[int, int]] = []
    first: int | None = None
    for index, wanted in enumerate([*truth, Verdict.NO]):
        if wanted is Verdict.NO:
            if first is not None and Verdict.YES in truth[first:index]:
                runs.append((first, index - 1))
            first = None
        elif first is None:
            first = index
    return runs


def _count_unseen(
    result: Assessment,
    scene: Scene,
    start_ns: int,
    kind: str,
    times_ns: Sequence[int],
    alerts: Sequence[tuple[int, int]],
) -> None:
    hidden = []
    for t in times_ns:
        t_s = (t - start_ns) / 1e9
        if verdict(scene, t_s, kind, "heard") is Verdict.YES and verdict(scene, t_s, kind, "seen") is Verdict.NO:
            hidden.append(t)
    result.heard_out_of_view += len(hidden)
    result.seen_but_only_heard += sum(any(a == t for t in hidden) for a, _ in alerts)


def _count_source(result: Assessment, scene: Scene, t_s: float, source: pb.AudioSource) -> None:
    if t_s < AUDIO_WINDOW_S:
        return
    sounded = scene.sounded_between(t_s - DIRECTION_WINDOW_S, t_s)
    if len(sounded) != 1 or min(sounded.values()) < 0.8 * DIRECTION_WINDOW_S:
        return
    (kind,) = sounded
    # The direction is that of the middle of the stretch it was computed from.
    middle = scene.truth(t_s - DIRECTION_WINDOW_S / 2)
    wanted_deg = next(t.azimuth_deg for t in middle.things if t.kind == kind)
    if source.HasField("direction"):
        error = abs((source.direction.azimuth_deg - wanted_deg + 180) % 360 - 180)
    else:
        error = 180.0
    result.direction_errors_deg.append(error)
    thing = next(t for t in scene.truth(t_s).things if t.kind == kind)
    pixels = scene.options.width * scene.options.height
    if certainly_in_view(thing, pixels) is Verdict.YES and thing.box is not None:
        x0, y0, x1, y1 = thing.box
        result.peaks_total += 1
        in_view = source.state == pb.SOURCE_STATE_IN_VIEW
        result.peaks_inside += in_view and x0 <= source.peak_x <= x1 and y0 <= source.peak_y <= y1
