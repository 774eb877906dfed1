"""An audio file as a microphone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from common.media.fault import MediaError
from common.media.sound import SoundReader
from drivers.driver import (
    BadData,
    BadOption,
    Clock,
    DeviceNotFound,
    Disconnected,
    Driver,
    DriverError,
    MissingLibrary,
    Modality,
    Pace,
    Sample,
    StreamFacts,
)
from drivers.option_checks import latency_ns, require, require_channels, require_positive
from drivers.pacing import Playhead, rows_to_skip, wait_until_due


@dataclass(frozen=True, slots=True)
class AudioFileOptions:
    """An audio file in any format that libsndfile reads: WAV, FLAC, Ogg, MP3 and more.

    One that states no length, or a wrong one, is read to its end.
    """

    path: str
    channels: int = 1
    """As the file has them; compared with it."""
    use_channels: tuple[int, ...] | None = None
    """Channels to take of those, from 0, in the order of `mic_positions_m`; the model hears the first. None: all."""
    rate_hz: int = 16_000
    """Samples a second and channel, as the file has them; compared with it."""
    block_ms: float = 50.0
    """Milliseconds of audio in one sample of the stream."""
    latency_ms: float = 0.0
    """Milliseconds to move the sound back in time against the other sensors."""
    pace: Pace = "real"
    loop: bool = True
    """Begin again at the end."""


class AudioFile(Driver):
    """Yields audio samples, float32 [n, channels], at the file's own rate.

    The first row of the file is at the start of the run. A block is due when its last row is.
    """

    Options: ClassVar[type[Any]] = AudioFileOptions
    modality: ClassVar[Modality] = "audio"

    @classmethod
    def stream(cls, options: AudioFileOptions) -> StreamFacts:
        """Its rate, channels and blocks."""
        return StreamFacts(
            cls.modality,
            rate_hz=options.rate_hz,
            channels=options.channels if options.use_channels is None else len(options.use_channels),
            block_s=options.block_ms / 1e3,
            latency_s=options.latency_ms / 1e3,
        )

    def __init__(self, options: AudioFileOptions, clock: Clock) -> None:
        require(bool(options.path), "path", options.path, "the path of an audio file")
        require_positive("channels", options.channels)
        require_channels(options.use_channels, options.channels)
        require_positive("rate_hz", options.rate_hz)
        require(1 <= options.block_ms <= 1000, "block_ms", options.block_ms, "1 to 1000")
        self._options = options
        self._clock = clock
        self._latency_ns = latency_ns(options.latency_ms)
        self._reader: SoundReader | None = None
        self._due: Sample | None = None

    def connect(self) -> None:
        """Open the file, where it is by now; raises DeviceNotFound, BadOption, MissingLibrary or EndOfStream."""
        self.close()
        path, options = self._options.path, self._options
        try:
            import soundfile  # noqa: F401
        except (ImportError, OSError):
            raise MissingLibrary("audio files need soundfile; install it: pip install soundfile") from None
        if not os.path.exists(path):
            raise DeviceNotFound(f"{path}: no such file")
        try:
            self._reader = reader = SoundReader(path)
            channels, rate_hz = reader.channels, reader.rate_hz
            require(options.channels == channels, "channels", options.channels, f"{channels} as in {path}")
            require(options.rate_hz == rate_hz, "rate_hz", options.rate_hz, f"{rate_hz} as in {path}")
            require(reader.rows > 0, "path", path, "an audio file that is not empty")
            self._missing_rows = reader.stated_rows - reader.rows
            self._block_rows = max(1, round(rate_hz * options.block_ms / 1000))
            self._playhead = Playhead(self._clock, reader.rows, rate_hz, options.loop, path)
            self._playhead.played = rows_to_skip(self._clock, options.pace, rate_hz)
            reader.seek(self._playhead.index)  # in compressed sound this decodes all that lies before
        except MediaError as error:
            self.close()
            raise BadOption(f"path: {error}") from None
        except DriverError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Sample:
        """Return the next block when it is due; the last block of a lap may be shorter."""
        if self._reader is None:
            raise Disconnected(f"{self._options.path}: not connected")
        if self._due is None:
            self._due = self._next_block(self._reader)
        wait_until_due(self._clock, self._options.pace, self._due.end_ns, timeout_s, self._options.path)
        sample, self._due = self._due, None
        return sample

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._due = None

    def _next_block(self, reader: SoundReader) -> Sample:
        head = self._playhead
        if self._missing_rows and head.played >= reader.rows:  # once, at the end of the first lap
            missing, self._missing_rows = self._missing_rows, 0
            raise BadData(f"{self._options.path}: the file ends {missing} rows before the length it states")
        n = min(self._block_rows, head.left_in_lap)
        t_ns = head.t_ns() - self._latency_ns
        try:
            reader.seek(head.index)
            rows = reader.read(n)
        except MediaError as error:
            head.played += n
            raise BadData(str(error)) from None
        head.played += n
        if len(rows) < n:
            raise BadData(f"{self._options.path}: {n - len(rows)} rows are missing before the end that the file states")
        if self._options.use_channels is not None:
            rows = rows.take(self._options.use_channels, axis=1)
        return Sample(t_ns, rows, float(reader.rate_hz))
