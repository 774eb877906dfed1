"""Sensors of other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import ManualClock
from drivers.driver import Modality, ReadTimeout, Sample
from drivers.remote import Remote
from every_key import Row, Rows
from every_key.devices.reading import MS, START_NS, driver, of_driver, outcome, shift_ms


def pushed(samples: Sequence[Sample], **options: Any) -> list[Sample]:
    """What is read of samples that were pushed before."""
    remote = driver("remote", ManualClock(START_NS), **{"modality": "audio", "rate_hz": 100.0, **options})
    assert isinstance(remote, Remote)
    with remote:
        for sample in samples:
            remote.push(sample)
        found = []
        with suppress(ReadTimeout):
            while True:
                found.append(remote.read(0.001))
    return found


def plane(width: int = 8, height: int = 6) -> Sample:
    return Sample(START_NS, np.full((height, width), 3.0, np.float32))


def block(rate_hz: float = 100.0, channels: int = 1, number: int = 0) -> Sample:
    return Sample(START_NS + number * 50 * MS, np.zeros((5, channels), np.float32), rate_hz)


def takes(modality: Modality, _: Path) -> list[str]:
    """Which of two samples a sensor of that modality accepts."""
    samples = {"a block": block(), "a picture": Sample(START_NS, np.zeros((6, 8, 3), np.uint8))}
    return [name for name, s in samples.items() if outcome(lambda s=s: pushed([s], modality=modality)) == "fits"]


def accepted(option: str, **others: Any) -> Callable[[Any, Path], list[int]]:
    """Which widths, heights, rates or channels are accepted."""

    def of(value: Any, _: Path) -> list[int]:
        made: dict[str, Callable[[int], Sample]] = {
            "width": lambda n: plane(width=n),
            "height": lambda n: plane(height=n),
            "channels": lambda n: block(channels=n),
            "rate_hz": lambda n: block(rate_hz=float(n)),
        }

        def fits(n: int) -> bool:
            return outcome(lambda: pushed([made[option](n)], **{option: value}, **others)) == "fits"

        return [n for n in range(1, 9) if fits(n)]

    return of


ROWS: Rows = {
    **of_driver(
        "remote",
        {
            "modality": Row(takes, ("vision", ["a picture"]), ("audio", ["a block"])),
            "rate_hz": Row(accepted("rate_hz"), (4.0, [4]), (7.0, [7])),
            "width": Row(accepted("width", modality="depth"), (5, [5]), (8, [8])),
            "height": Row(accepted("height", modality="depth"), (4, [4]), (7, [7])),
            "channels": Row(accepted("channels"), (2, [2]), (5, [5])),
            "queue_depth": Row(
                lambda n, _: len(pushed([block(number=i) for i in range(9)], queue_depth=n)), (3, 3), (6, 6)
            ),
            "latency_ms": Row(
                lambda ms, _: shift_ms(pushed([block()], latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)
            ),
        },
    ),
}  # fmt: skip
