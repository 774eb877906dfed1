"""The targets by name, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")

TARGETS = {
    "wit": "frames of WitMotion IMUs on a serial line",
    "imu_lines": "lines of numbers on a serial line",
    "mjpeg": "parts of Motion JPEG over HTTP",
    "media_heads": "heads of WAV, MP3, Ogg and FLAC files, and of videos",
    "pictures": "JPEG and PNG files, those of 16 bits too, and raw frames",
    "samples": "sensor messages, as clients push them and logs hold them",
    "requests": "requests of clients",
    "mcap": "the bytes of a log",
    "log_info": "logs whose lengths and checksums are right, through `sensebind log info`",
    "viewers": "logs as above, through `sensebind log export --to foxglove`",
    "facts": "what a log says of its run",
    "config": "the configuration as YAML",
    "weights": "our weights files, the length of the header made right",
    "published": "the published checkpoint: a pickle in a zip",
    "imu_table": "tables of inertial rows to import",
    "description": "recording.yaml of a folder to import",
}
"""Name, which is that of its module and its corpus, and what its bytes are."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes."""

    name: str
    one: Callable[[bytes], None]
    """Read some; raises for a fault of ours only."""
    seeds: Callable[[], list[bytes]]
    """Valid inputs."""
    tokens: tuple[bytes, ...]
    """Words of its format, for mutations."""
    peak_mb: float
    """How much memory one input may take on top: 100 MB, but where a larger limit is stated."""

    def corpus(self) -> list[bytes]:
        """The seeds, and what is kept."""
        return [*self.seeds(), *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*")))]


def target(name: str) -> Target:
    """Import a target."""
    module = importlib.import_module(f"fuzz.{name}")
    return Target(name, module.one, module.seeds, getattr(module, "TOKENS", ()), getattr(module, "PEAK_MB", 100.0))
