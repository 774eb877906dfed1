"""First samples of a driver as the configuration makes it, and what can be seen of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from agent.clock import ManualClock
from agent.config.parse import parse
from drivers.driver import BadData, BadOption, Clock, Driver, EndOfStream, FormatMismatch, ReadTimeout, Sample
from drivers.registry import make_driver
from every_key import Rows

START_NS = 20_000_000_000
MS = 1_000_000
AUDIO_HZ = 8000


def driver(kind: str, clock: Clock, **options: Any) -> Driver:
    """An unconnected driver, as the configuration of a sensor makes it."""
    spec = parse({"sensors": {"sensor": {"type": kind, **options}}}).specs[0]
    return make_driver(spec.type, spec.options, clock)


def taken(kind: str, count: int, clock: Clock | None = None, **options: Any) -> list[Sample]:
    """Its first samples; fewer when it ends before."""
    samples: list[Sample] = []
    with driver(kind, clock or ManualClock(START_NS), **options) as opened, suppress(EndOfStream):
        while len(samples) < count:
            samples.append(opened.read(5.0))
    return samples


def outcome(act: Callable[[], Any]) -> str:
    """Which fault a wish raises that a source does not meet; "fits" when it does."""
    try:
        act()
    except (FormatMismatch, BadOption, BadData, ReadTimeout) as error:
        return type(error).__name__
    return "fits"


def shift_ms(sample: Sample) -> float:
    """How long before the start of the run a sample was captured by its stamp."""
    return (START_NS - sample.t_ns) / MS


def period_ms(samples: Sequence[Sample]) -> float:
    return (samples[1].t_ns - samples[0].t_ns) / MS


def waited_ms(kind: str, count: int, **options: Any) -> float:
    """By how much the clock went on while samples were read."""
    clock = ManualClock(START_NS)
    taken(kind, count, clock, **options)
    return (clock.now_ns() - START_NS) / MS


def of_driver(kind: str, rows: Rows) -> Rows:
    """Rows of a driver's options as keys of the configuration."""
    return {f"{kind}.{option}": row for option, row in rows.items()}
