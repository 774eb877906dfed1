"""The health of every stream, from its samples and from what capture reports."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.capture.source import CaptureReport
from agent.faults import Faults
from agent.health.array_check import ArrayCheck
from agent.health.delay import DelayMeter
from agent.health.skew import SkewMeter
from agent.streams import FAR_FUTURE_S, Stream, Streams, images_missing, silence_s
from drivers.driver import Modality, Sample
from drivers.row_timeline import RowTimeline

Condition = Literal["starting", "ok", "degraded", "lost", "ended"]

NO_REPORT = CaptureReport("starting", "", 0, {})

RATE_SPAN_S = 4.0
LOWEST_RATE_SHARE = 0.9
GAP_SPAN_S = 10.0
GAPS_TOLERATED = 2
"""In that span; each gap is counted all the same."""
STUCK_S = 2.0
FAULT_SPAN_S = 10.0
"""A stream is degraded for so long after a fault of the agent's own."""
SKEW_LIMIT_PPM = 1000.0
"""Crystals are good to 100 ppm; more than this is a rate that is not what it is said to be."""
HASHED_PIXELS_A_SIDE = 64


@dataclass(frozen=True, slots=True)
class StreamState:
    """The health of one stream, as `StreamHealth` publishes it."""

    sensor: str
    modality: Modality
    state: Condition
    reason: str
    """One line; empty when `ok`."""
    rate_hz: float
    """Measured over the last seconds: images, or rows."""
    expected_rate_hz: float
    age_s: float
    """Since the newest sample; since the start when none came."""
    samples: int
    dropped: int
    drops: dict[str, int]
    restarts: int
    skew_ppm: float
    """Excess of the device's rate over the run's clock."""
    gaps: int
    delay_s: float = 0.0
    """Between the end of a sample, by its stamp, and its arrival: median of the last ones. 0 where nothing is live."""
    faults: int = 0
    """Of the agent's own, since it began or a replay jumped; each cost one sample, window or start."""
    first_fault: str = ""
    """First fault of the agent itself, one line."""
    faulty: bool = False
    """True if there was one lately."""


class _StreamHealth:
    """State of one stream."""

    def __init__(
        self, stream: Stream, faults: int, hop_s: float | None, mic_positions_m: NDArray[np.floating] | None
    ) -> None:
        """`faults` were counted before; without a hop, arrivals say nothing about stamps."""
        self.samples = 0
        self.gaps = 0
        self.newest_ns: int | None = None
        self.arrived_ns = 0
        """Arrival of the newest sample, by the run's clock."""
        self.skew = SkewMeter()
        self.delay = DelayMeter()
        self.lag = ""
        """Lag of its stamps behind those of another sensor, in words; empty without."""
        self._array: ArrayCheck | None = None
        """Of sound with several channels."""
        self._mic_positions_m = mic_positions_m
        self._hop_s = hop_s
        self._earlier_faults = self._noted_faults = faults
        self._fault_ns: int | None = None
        self._stream = stream
        self._rate_ns = round(max(RATE_SPAN_S, 10.0 * stream.period_s) * 1e9)
        self._ends: deque[tuple[int, int]] = deque()
        """(`end_ns`, rows) of the last samples."""
        self._gap_times: deque[int] = deque(maxlen=GAPS_TOLERATED + 1)
        self._fingerprint: int | None = None
        self._same_since_ns = 0
        self._silent = False
        """True if what is the same is digital silence: a muted device, a null sink, a noise gate."""
        self._timeline: RowTimeline | None = None
        """Of rows."""
        self._columns = 0

    def observe(self, sample: Sample, now_ns: int) -> None:
        rows = len(sample.data) if sample.rate_hz else 1
        newest_ns = self.newest_ns
        self.samples += 1
        self.arrived_ns = now_ns
        if sample.end_ns > now_ns + FAR_FUTURE_S * 1e9:
            return  # a wrong stamp: it says nothing about the stream
        if self._gap_before(sample) and newest_ns is not None:
            self.gaps += 1
            self._gap_times.append(now_ns)
            if not sample.lost:
                self.skew.jump((sample.t_ns - newest_ns) / 1e9)
        if newest_ns is not None and sample.end_ns <= newest_ns:
            return  # out of order: it says nothing about age and rate
        self.newest_ns = sample.end_ns
        if self._hop_s is not None:
            self.delay.add(now_ns, sample.end_ns)
        self._ends.append((sample.end_ns, rows))
        while self._ends[-1][0] - self._ends[0][0] > self._rate_ns:
            self._ends.popleft()
        self.skew.add(now_ns, (rows + sample.lost) / sample.rate_hz if sample.rate_hz else None, sample.t_ns)
        if self._stream.modality == "audio" and sample.data.shape[1] > 1:
            self._check_array(sample)
        fingerprint = _fingerprint(sample)
        if fingerprint is None or fingerprint != self._fingerprint:
            self._fingerprint, self._same_since_ns = fingerprint, sample.t_ns
            self._silent = self._stream.modality == "audio" and not sample.data.any()

    def note_faults(self, count: int, now_ns: int) -> None:
        if count > self._noted_faults:
            self._noted_faults, self._fault_ns = count, now_ns

    def faults(self) -> int:
        return self._noted_faults - self._earlier_faults

    def faulty(self, now_ns: int) -> bool:
        return self._fault_ns is not None and now_ns - self._fault_ns < FAULT_SPAN_S * 1e9

    def rate_hz(self) -> float:
        """Over the last seconds; 0 before there are two samples."""
        if len(self._ends) < 2:
            return 0.0
        rows = sum(rows for _, rows in self._ends) - self._ends[0][1]
        return rows * 1e9 / (self._ends[-1][0] - self._ends[0][0] - self._pause_ns())

    def _pause_ns(self) -> int:
        """Return the part of a regular pause that fell into the time over which the rate is measured."""
        pause_ns = round(self._stream.pause_s * 1e9)
        if not pause_ns:
            return 0
        longest_ns = max(after - before for (before, _), (after, _) in itertools.pairwise(self._ends))
        return max(0, min(pause_ns, longest_ns - round(self._stream.period_s * 1e9)))

    def problems(self, now_ns: int) -> list[str]:
        """Return the problems of a live stream."""
        found = []
        rate_hz, expected_hz = self.rate_hz(), self._stream.rate_hz
        measured_ns = self._ends[-1][0] - self._ends[0][0]
        if measured_ns >= self._rate_ns / 2 and rate_hz < LOWEST_RATE_SHARE * expected_hz:
            found.append(f"slow: {rate_hz:.1f} of {expected_hz:.1f} Hz")
        recent = sum(now_ns - t_ns < GAP_SPAN_S * 1e9 for t_ns in self._gap_times)
        if recent > GAPS_TOLERATED:
            found.append(f"gaps: {recent} or more in {GAP_SPAN_S:g} s")
        same_s = (self._ends[-1][0] - self._same_since_ns) / 1e9
        if self._fingerprint is not None and same_s > max(STUCK_S, 2 * self._stream.period_s):
            found.append(f"silent: zeros for {same_s:.1f} s" if self._silent else f"stuck: the same for {same_s:.1f} s")
        skew_ppm, off_ppm = self.skew.ppm()
        if abs(skew_ppm) > SKEW_LIMIT_PPM + off_ppm:
            found.append(f"skewed: its clock is off by {skew_ppm:+.0f} ppm")
        if self._hop_s is not None:
            stream = self._stream
            lag = self.delay.problem(self._hop_s, stream.period_s, stream.latency_s, stream.max_lateness_s)
            found += [lag] if lag else []
        channels = self._array.problem() if self._array else ""
        return found + [problem for problem in (self.lag, channels) if problem]

    def skew_ppm(self) -> float:
        """Return the measured skew; 0 when it is not significant."""
        skew_ppm, off_ppm = self.skew.ppm()
        return skew_ppm if off_ppm < max(2 * SKEW_LIMIT_PPM, abs(skew_ppm)) else 0.0

    def _check_array(self, sample: Sample) -> None:
        if self._array is None:
            channels, positions_m = sample.data.shape[1], self._mic_positions_m
            if positions_m is not None and len(positions_m) != channels:
                positions_m = None
            self._array = ArrayCheck(channels, sample.rate_hz, positions_m)
        self._array.add(sample.data)

    def _gap_before(self, sample: Sample) -> bool:
        """Return whether something is missing between the samples before and this one: of rows, by what
        windows fill.
        """
        if not sample.rate_hz:
            apart_ns = sample.t_ns - (sample.t_ns if self.newest_ns is None else self.newest_ns)
            return sample.lost > 0 or images_missing(apart_ns, self._stream.period_s) > 0
        rows, columns = sample.data.shape
        if self._timeline is None or (self._timeline.rate_hz, self._columns) != (sample.rate_hz, columns):
            self._timeline, self._columns = RowTimeline(sample.rate_hz), columns
        gap = self._timeline.gap(sample.t_ns, rows, sample.lost)
        self._timeline.take(sample.t_ns, rows, gap)
        return gap > 0


class Health:
    """Watches all streams of the table. May be used from several threads."""

    def __init__(
        self,
        streams: Streams,
        faults: Faults | None = None,
        *,
        live_hop_ns: int | None = None,
        mic_positions_m: Mapping[str, NDArray[np.floating]] | None = None,
    ) -> None:
        """Nothing has been seen yet. `faults` are counted by sensor; those of before are not told of.

        `live_hop_ns` is the hop of windows where samples are told of as they arrive: only there stamps can be judged.
        `mic_positions_m` [m, 3] are those of microphone arrays, by sensor: only there the order of channels can be.
        """
        positions_m = mic_positions_m or {}
        hop_s = None if live_hop_ns is None else live_hop_ns / 1e9
        self._lock = Lock()
        self._streams = streams
        self._faults = faults or Faults()
        self._seen = {
            name: _StreamHealth(stream, self._faults.of(name), hop_s, positions_m.get(name))
            for name, stream in streams.items()
        }
        self._start_ns: int | None = None
        self._states: dict[str, StreamState] = {}
        self._told: dict[str, tuple[Condition, bool]] = {}

    def observe(self, sensor: str, sample: Sample, now_ns: int) -> None:
        """Take note of a sample that arrived at `now_ns`."""
        with self._lock:
            self._seen[sensor].observe(sample, now_ns)

    def note_lag(self, sensor: str, lag: str) -> None:
        """Take note that a sensor's stamps lag behind those of another, in words; empty when they do not."""
        with self._lock:
            self._seen[sensor].lag = lag

    def note_faults(self, now_ns: int) -> None:
        """Take note of the faults that were counted until now. Apart from `report`, which anyone may call any time."""
        with self._lock:
            for name, seen in self._seen.items():
                seen.note_faults(self._faults.of(name), now_ns)

    def report(
        self,
        now_ns: int,
        reports: dict[str, CaptureReport],
        drops: dict[str, dict[str, int]] | None = None,
    ) -> dict[str, StreamState]:
        """Return the state of every stream; `drops` are those of the windows, to be counted with those of capture."""
        with self._lock:
            start_ns = self._start_ns = now_ns if self._start_ns is None else self._start_ns
            self._states = {
                name: self._state(name, start_ns, now_ns, reports.get(name, NO_REPORT), (drops or {}).get(name, {}))
                for name in self._streams
            }
            return self._states

    def changes(self) -> list[StreamState]:
        """Those whose state, or whether they are faulty, is another by the last report than when last asked."""
        with self._lock:
            changed = [s for name, s in self._states.items() if self._told.get(name) != (s.state, s.faulty)]
            self._told.update({state.sensor: (state.state, state.faulty) for state in changed})
            return changed

    def _state(
        self, name: str, start_ns: int, now_ns: int, report: CaptureReport, window_drops: dict[str, int]
    ) -> StreamState:
        """The health of a stream; when it cannot be told, what is wrong with it is that."""
        place = f"health of {name}"
        with self._faults.guard(place):
            return self._told_state(name, start_ns, now_ns, report, window_drops)
        stream, reason = self._streams[name], f"its health cannot be told: {self._faults.first(place)}"
        return StreamState(
            name, stream.modality, "degraded", reason, 0.0, stream.rate_hz, 0.0, 0, 0, {}, 0, 0.0, 0, faulty=True
        )

    def _told_state(
        self, name: str, start_ns: int, now_ns: int, report: CaptureReport, window_drops: dict[str, int]
    ) -> StreamState:
        seen, stream = self._seen[name], self._streams[name]
        age_s = (now_ns - (start_ns if seen.newest_ns is None else seen.newest_ns)) / 1e9
        state, reason = _judge(seen, stream, report, now_ns, age_s)
        if seen.faulty(now_ns) and state not in ("lost", "ended"):
            told = f"faults: {seen.faults()} of the agent's own, the first {self._faults.first(name)}"
            state, reason = "degraded", "; ".join(filter(None, [reason if state == "degraded" else "", told]))
        drops = Counter(report.drops) + Counter(window_drops)
        return StreamState(
            sensor=name,
            modality=stream.modality,
            state=state,
            reason=reason,
            rate_hz=seen.rate_hz() if state in ("ok", "degraded") else 0.0,
            expected_rate_hz=stream.rate_hz,
            age_s=max(0.0, age_s),
            samples=seen.samples,
            dropped=drops.total(),
            drops=dict(drops),
            restarts=report.restarts,
            skew_ppm=seen.skew_ppm(),
            gaps=seen.gaps,
            delay_s=seen.delay.median_s(),
            faults=seen.faults(),
            first_fault=self._faults.first(name) if seen.faults() else "",
            faulty=seen.faulty(now_ns),
        )


def _judge(
    seen: _StreamHealth, stream: Stream, report: CaptureReport, now_ns: int, age_s: float
) -> tuple[Condition, str]:
    """The state of a stream, and why."""
    if report.state == "ended":
        return "ended", report.error or "the recording is over"
    if report.state == "lost":
        return "lost", report.error
    if seen.newest_ns is None:
        wrong = "its time stamps are ahead of the clock" if seen.samples else "no samples yet"
        return "starting", report.error or wrong
    if age_s > silence_s(stream):
        if now_ns - seen.arrived_ns < silence_s(stream) * 1e9:
            return "lost", f"samples come, but their time stamps are {age_s:.1f} s behind the clock"
        return "lost", f"no samples for {age_s:.1f} s"
    problems = seen.problems(now_ns)
    return ("degraded", "; ".join(problems)) if problems else ("ok", "")


def _fingerprint(sample: Sample) -> int | None:
    """A number that is the same for samples that look the same; None for rows that vary, which cannot be stuck."""
    data = sample.data
    if not sample.rate_hz:
        rows, columns = (max(1, size // HASHED_PIXELS_A_SIDE) for size in data.shape[:2])
        return zlib.crc32(data[::rows, ::columns].tobytes())
    if (data != data[0]).any():
        return None
    return zlib.crc32(data[0].tobytes())
