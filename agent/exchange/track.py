"""Two sides of each kind of file in a folder of media: writing a sensor's samples, and reading them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.log.format import LoggedSensor
from drivers.driver import Sample


class Track(ABC):
    """Samples of one sensor on their way into a file. `add` and `finish` raise LogError and OSError."""

    def __init__(self, path: Path) -> None:
        """Make a file, or folder, that does not exist yet."""
        self.path = path
        self.first_ns: int | None = None
        """Capture time of the first sample."""
        self.count = 0
        """Pictures or rows in the file."""
        self.missing = 0
        """Pictures or rows that were missing before others."""
        self.faults: Counter[str] = Counter()
        """Samples that are not in the file, or not as they were, by reason."""

    def add(self, sample: Sample) -> None:
        """Append a sample of the sensor."""
        if self.first_ns is None:
            self.first_ns = sample.t_ns
        self.missing += sample.lost
        self._add(sample)

    @abstractmethod
    def _add(self, sample: Sample) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Make the file whole."""

    @abstractmethod
    def close(self) -> None:
        """Close everything, whether the file is complete or not; may be called again."""

    def description(self) -> dict[str, Any]:
        """Return the keys of its description, beside file and begin."""
        return {}


class Media(ABC):
    """A file that can be imported: looked at, not read yet."""

    sensor: LoggedSensor
    options: dict[str, Any]
    """Keys of the configuration beside modality and rate: size, channels."""
    length_s: float = 0.0
    """Length that the file states, right or wrong; 0 if it states none."""

    def __init__(self, path: Path) -> None:
        """Look at a file. Raises LogError."""
        self.path = path
        self.faults: Counter[str] = Counter()
        """Samples that were left out while reading, by reason."""

    @abstractmethod
    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """All samples, the first at `begin_ns`. Raises LogError."""
