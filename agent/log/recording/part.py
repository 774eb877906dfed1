"""A file of a recording: its beginning, and the ways in which it ends."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from pathlib import Path

from agent.config.recording import RecordSettings
from agent.log.disk import NewFile
from agent.log.encoded import Encoded
from agent.log.format import FACTS_RECORD, MODEL_RECORD, RunFacts
from agent.log.writing import LogWriter

log = logging.getLogger(__name__)


class Part:
    """A file of a recording; to be used by one thread."""

    def __init__(self, path: Path, facts: RunFacts, model: str, settings: RecordSettings) -> None:
        """Make the file. Raises OSError and leaves nothing behind."""
        self.begun_ns: dict[str, int] = {}
        """Capture time of the first sample, by topic."""
        self.written: Counter[str] = Counter()
        """Messages in it, by topic."""
        self.file = NewFile(path)
        try:
            self.writer = LogWriter(self.file.write, settings.chunk_bytes)
            self.writer.add_metadata(FACTS_RECORD, facts.to_record())
            if model:
                self.writer.add_metadata(MODEL_RECORD, {"model": model})
        except OSError:
            self._remove()
            raise

    def is_long_enough(self, message: Encoded, settings: RecordSettings) -> bool:
        """Return whether a message belongs into the next file."""
        if settings.split_bytes is not None and self.writer.chunks and self.writer.size >= settings.split_bytes:
            return True
        # By the sensor's own stamps: those of another may be wrong.
        begun_ns = self.begun_ns.get(message.topic)
        return (
            settings.split_s is not None
            and begun_ns is not None
            and message.log_ns - begun_ns >= round(settings.split_s * 1e9)
        )

    def end(self, timeout_s: float = 0.0) -> bool:
        """Write the summary, without which it is read all the same; say whether the file is safe within the time."""
        whole = self.writer.size
        try:
            self.writer.finish()
        except OSError as error:
            log.warning("%s: has no summary: %s; it can be replayed, and repaired", self.file.path, error.strerror)
            self.cut_back(whole)
        self.writer.close()
        return self.file.close(timeout_s)

    def abandon(self) -> bool:
        """End the file after its last chunk, after a fault; without one nothing is left, and this says False."""
        if not self.writer.chunks:
            self._remove()
            return False
        self.cut_back(self.writer.size)
        self.writer.drop_chunk()
        self.end()
        return True

    def leave(self) -> None:
        """End it as it is."""
        self.writer.close()
        self.file.close()

    def cut_back(self, size: int) -> None:
        """Take off what stands behind `size`."""
        try:
            self.file.cut_back(size)
        except OSError as error:
            log.warning("%s: may end in a part of a chunk: %s", self.file.path, error.strerror)

    def _remove(self) -> None:
        self.file.close()
        with contextlib.suppress(OSError):  # the rest has no messages
            self.file.path.unlink()
