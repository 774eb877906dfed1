"""The bytes of a log. The first eight are a time to read from."""

from __future__ import annotations

from io import BytesIO

from agent.log.editing.copying import contents
from agent.log.format import ReplayError
from agent.log.ordering import by_time
from agent.log.reading import MAGIC, frames, records
from agent.log.seeking import places_of
from agent.log.unpacking import Damaged
from fuzz.log_info import small_log
from fuzz.log_recipe import log_of, recipe_of

TOKENS = (
    MAGIC,
    b"lz4",
    b"zstd",
    b"\x02\x14\0\0\0\0\0\0\0",
    b"\x06",
    b"\xff" * 8,
    b"\x04\x22\x4d\x18",
    b"\x28\xb5\x2f\xfd",
)
PEAK_MB = 700.0
"""A chunk of 256 MiB is allowed: as it is packed, and unpacked."""


def one(data: bytes) -> None:
    """From front to back, with what is damaged left out, and from a time on."""
    t_ns, log = int.from_bytes(data[:8], "little"), data[8:]
    places_of(BytesIO(log))
    for read in (_records, _contents, lambda stream: by_time(stream, t_ns)):
        try:
            for _ in read(BytesIO(log)):
                pass
        except (Damaged, ReplayError):
            pass


def _records(stream: BytesIO) -> object:
    return records(stream)


def _contents(stream: BytesIO) -> object:
    return contents(frames(stream), on_damage=lambda _: None)


def seeds() -> list[bytes]:
    """A log that the program wrote, whole and without its index."""
    log = small_log()
    return [bytes(8) + log, bytes(8) + log_of(recipe_of(log)), b"\xff" * 8 + log[: len(log) // 2]]
