"""Messages of a log are in other orders, doubled, of the far future and past, and step back in time."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorded_run import SENSORS, START_NS, facts, samples

from agent.faults import Faults
from agent.health.health import Health, StreamState
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from agent.run.sampler import Outlet, Sampler, SampleStretch
from agent.streams import Stream, Streams
from agent.windows.windower import Tick, Windower
from benchmarks.faults.measured import Measured
from drivers.driver import Sample

S = 1_000_000_000
HOP_NS = S // 2
STEPS = 100
"""Tenths of a second."""
LATENESS_S = 0.2
APART_NS = 100_000_000
"""By so much messages of one sensor are out of order against those of another."""
FAR = {"a year ahead": 365 * 86_400 * S, "five minutes ahead": 300 * S, "an hour back": -3_600 * S}

Pairs = list[tuple[str, Sample]]


class Digest(Outlet[Any]):
    """A digest of every number of every window."""

    def __init__(self) -> None:
        self.ticks = 0
        self._drops: dict[str, int] = {}
        self._hash = hashlib.sha256()

    def submit(self, ticks: Sequence[Tick]) -> None:
        """Take ticks."""
        for tick in ticks:
            self.ticks += 1
            for name, window in sorted(tick.windows.items()):
                data = b"" if window.data is None else window.data.tobytes()
                self._hash.update(f"{tick.index} {name} {window.missing} {window.newest_ns}".encode() + data)

    def tell(self, states: Sequence[StreamState], _now_ns: int) -> None:
        """Keep what was dropped."""
        self._drops.update({state.sensor: state.dropped for state in states})

    @property
    def dropped(self) -> int:
        """Samples of all sensors."""
        return sum(self._drops.values())

    @property
    def value(self) -> str:
        """The digest."""
        return self._hash.hexdigest()[:12]


def run() -> Measured:
    """Write the logs and replay them."""
    rng = random.Random(1)
    recorded = samples(STEPS)
    orders: dict[str, Pairs] = {
        "sorted": sorted(recorded, key=lambda pair: pair[1].end_ns),
        **{f"interleaved {n}": _interleaved(recorded, rng) for n in (1, 2, 3)},
        "doubled": [pair for n, pair in enumerate(recorded) for pair in [pair] * (2 if n % 3 == 0 else 1)],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        true, faults = _replayed(path / "recorded.mcap", recorded)
        same = [_replayed(path / f"{name}.mcap", order)[0].value == true.value for name, order in orders.items()]
        odd = {
            name: _replayed(path / f"{n}.mcap", _with_a_far_one(recorded, by))
            for n, (name, by) in enumerate(FAR.items())
        }
        back, back_faults = _replayed(path / "back.mcap", _stepping_back(recorded))
    costs = {name: digest.dropped - true.dropped for name, (digest, _) in odd.items()}
    none = not faults and not back_faults and not any(found for _, found in odd.values())
    return Measured(
        "one digest for any order between sensors, and for doubled messages; a far stamp costs its message alone; "
        "a step back ends no replay",
        f"{sum(same)} of {len(same)} digests the same; dropped for a stamp "
        f"{', '.join(f'{name}: {cost}' for name, cost in costs.items())}; "
        f"a log that steps back by 0.3 s: {back.ticks} of {true.ticks} ticks, {back.dropped - true.dropped} dropped; "
        f"faults: {'none' if none else 'some'}",
        all(same) and set(costs.values()) == {1} and back.ticks == true.ticks and none,
    )


def _replayed(path: Path, handed: Pairs) -> tuple[Digest, dict[str, int]]:
    with Recorder(path, facts(), policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
    replay, digest, faults = SampleReplay(path), Digest(), Faults()
    table = _streams()

    def begin(start_ns: int) -> SampleStretch:
        windower, health = Windower(table, HOP_NS, start_ns, faults), Health(table, faults)
        return SampleStretch(windower, health, replay.reports, None, faults)

    sampler = Sampler(replay, begin, replay.clock.start_ns, digest, LOSSLESS, faults=faults)
    sampler.start()
    sampler.ended.result(60)
    sampler.join()
    return digest, faults.counts()


def _streams() -> Streams:
    window_s = {"vision": 0.25, "audio": 0.5, "imu": 1.0}
    return {
        name: Stream(name, s.modality, s.rate_hz, 10.0, 1 << 20, window_s.get(s.modality, 0.0), "all", 8, LATENESS_S)
        for name, s in SENSORS.items()
    }


def _interleaved(handed: Pairs, rng: random.Random) -> Pairs:
    """Every sensor's messages in their own order, and up to `APART_NS` before or behind those of others."""
    at_ns: dict[str, int] = {}
    keys = []
    for name, sample in handed:
        at_ns[name] = max(at_ns.get(name, 0), sample.end_ns + rng.randrange(APART_NS))
        keys.append(at_ns[name])
    return [handed[n] for n in sorted(range(len(handed)), key=lambda n: keys[n])]


def _with_a_far_one(handed: Pairs, by_ns: int) -> Pairs:
    at = len(handed) // 2
    return [*handed[:at], _moved(handed[at], lambda t_ns: t_ns + by_ns), *handed[at + 1 :]]


def _stepping_back(handed: Pairs) -> Pairs:
    """The first block of sound comes after the third, as from a clock that was set back."""
    sound = [n for n, (name, _) in enumerate(handed) if name == "microphone"][:3]
    order = [n for n in range(len(handed)) if n != sound[0]]
    order.insert(order.index(sound[2]) + 1, sound[0])
    assert handed[sound[0]][1].t_ns >= START_NS
    return [handed[n] for n in order]


def _moved(pair: tuple[str, Sample], to: Callable[[int], int]) -> tuple[str, Sample]:
    name, sample = pair
    return name, replace(sample, t_ns=to(sample.t_ns))
