"""Sound files: the one reader, block by block, of every format that libsndfile decodes.

Every row of the file is handed out once, and `rows` says beforehand how many there are:

- MP3 without a stated length: frames are counted (`mpeg_audio`);
- WAV of a recorder that was killed or wrote to a pipe: sizes are taken from the file (`wav`);
- FLAC from a pipe: the last frame tells (`flac`);
- Ogg of several streams in a row: they are read one after the other (`ogg`).

libsndfile seeks exactly in uncompressed sound and FLAC only. In MP3 and Ogg Vorbis it lands beside the place, and the
`soundfile` package seeks after every read (0.14), which makes noise of the beginning of each block of an MP3: such
files are never sought in, but read from the start again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from common.media import aiff, flac, mpeg_audio, ogg, wav
from common.media.fault import FilePath, MediaError, check_file, first_line
from common.media.span import Span, SpanFile

_UNSTATED: Final = 2**62
"""libsndfile gives the largest int64 for a length that is not stated."""
_SKIPPED_ROWS: Final = 65_536
_EXACT: Final = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Codings in which a seek lands where it should."""
_FORMATS: Final = "convert it to WAV or FLAC"


class SoundReader:
    """An open sound file, at its first row. Every fault is a MediaError."""

    def __init__(self, path: FilePath) -> None:
        """Open a file and find out how long it is; nothing is decoded yet."""
        check_file(path)
        self._path = path
        self._file: Any = None
        self._spans, missing_rows = self._looked()
        with self._opened(self._spans[0]) as file:
            self.rate_hz = int(file.samplerate)
            self.channels = int(file.channels)
            self._exact = str(file.subtype).startswith(_EXACT) and len(self._spans) == 1
        self.rows = sum(self._rows_of(span) for span in self._spans)
        """Rows that can be read; of damaged files fewer may come."""
        if self.rows >= _UNSTATED:
            raise MediaError(f"{path}: does not state its length, and its end cannot be found; {_FORMATS}")
        self.stated_rows = self.rows + missing_rows
        """Rows that the file's head states; more than `rows` if the file was cut."""
        self._link, self._left = -1, 0
        self._at = 0
        self._next_link()

    @property
    def at(self) -> int:
        """Row that is read next."""
        return self._at

    def read(self, rows: int) -> NDArray[np.float32]:
        """Return the next rows, float32 [n, channels] with full scale -1..1: n = `rows`, or fewer at the end."""
        parts: list[NDArray[np.float32]] = []
        while rows > 0 and (self._left or self._next_link()):
            got = self._decoded(min(rows, self._left))
            self._left = self._left - len(got) if len(got) else 0
            self._at += len(got)
            rows -= len(got)
            parts.append(got)
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, self.channels), np.float32), *parts])

    def seek(self, row: int) -> None:
        """Go to a row, counted from 0."""
        if row == self._at:
            return
        if self._exact and row <= self.rows:
            with _faults(self._path):
                self._file.seek(row)
            self._at, self._left = row, self.rows - row
            return
        if row < self._at:
            self.close()
            self._link, self._at, self._left = -1, 0, 0
            self._next_link()
        while self._at < row and len(self.read(min(_SKIPPED_ROWS, row - self._at))):
            pass

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _looked(self) -> tuple[list[Span | None], int]:
        """How to read the file, link by link (None: as it is), and the rows that its head states and it lacks."""
        if not os.path.getsize(self._path):
            return [None], 0
        with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            missing, spans = 0, list[Span]()
            match data[:4]:
                case b"RIFF" | b"RF64":
                    if (head := wav.look(data)) is not None:
                        missing = head.missing_bytes // head.row_bytes if head.row_bytes else 0
                        spans = [head.span] if head.span else []
                case b"FORM":
                    missing = aiff.missing_rows(data)
                case b"fLaC":
                    spans = [span] if (span := flac.look(data)) else []
                case b"OggS":
                    spans = ogg.look(data)
                case _ if mpeg_audio.begins(data):
                    spans = mpeg_audio.look(data)
            return [None] if not spans or spans == [Span(0, len(data))] else [*spans], missing

    def _rows_of(self, span: Span | None) -> int:
        with self._opened(span) as file:
            if (file.samplerate, file.channels) != (self.rate_hz, self.channels):
                raise MediaError(
                    f"{self._path}: changes from {self.rate_hz} Hz and {self.channels} channels to "
                    f"{file.samplerate} Hz and {file.channels}; split it there"
                )
            return _rows(span, file)

    def _next_link(self) -> bool:
        if self._link + 1 >= len(self._spans):
            return False
        self.close()
        self._link += 1
        span = self._spans[self._link]
        self._file = self._opened(span)
        self._left = _rows(span, self._file)
        return True

    def _decoded(self, rows: int) -> NDArray[np.float32]:
        left, self._left = self._left, self._left if self._exact else 0  # without a seek there is no way past damage
        with _faults(self._path):
            data: NDArray[np.float32] = self._file.read(rows, dtype="float32", always_2d=True)
        self._left = left
        return data

    def _opened(self, span: Span | None) -> Any:
        with _faults(self._path):
            return _forwards()(self._path, span)


@cache
def _forwards() -> Any:
    import soundfile

    class Forwards(soundfile.SoundFile):  # type: ignore[misc]
        """A sound file, or a span of one, that `soundfile` does not seek in after every read."""

        def __init__(self, path: FilePath, span: Span | None) -> None:
            self._bytes = None if span is None else SpanFile(open(path, "rb"), span)  # noqa: SIM115  `close` closes it
            try:
                super().__init__(self._bytes or os.fsencode(path))
            except BaseException:
                self.close()
                raise

        def seekable(self) -> bool:
            return False  # whatever the file can

        def close(self) -> None:
            super().close()
            if self._bytes is not None:
                self._bytes.close()

    return Forwards


@contextmanager
def _faults(path: FilePath) -> Iterator[None]:
    """Raise what libsndfile and the system say of a file as MediaError."""
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: .raw, which states no format
        why = getattr(error, "error_string", "") or first_line(error)
        raise MediaError(f"{path}: cannot be read as audio ({why.rstrip('. ')}); {_FORMATS}") from None


def _rows(span: Span | None, file: Any) -> int:
    return int(file.frames) if span is None or span.rows is None else span.rows


def read_sound(path: FilePath, values_max: int) -> tuple[NDArray[np.float32], float]:
    """Return a whole recording, float32 [n, channels] with full scale -1..1, and its rate in Hz.

    Raises MediaError, also when it has more than `values_max` samples of all channels, or ends before the length that
    it states.
    """
    with SoundReader(path) as reader:
        if reader.rows * reader.channels > values_max:
            seconds = reader.rows / reader.rate_hz
            raise MediaError(f"{path}: is {seconds:.0f} s long, more than can be held; cut it into parts")
        samples = reader.read(reader.rows)
        stated = reader.stated_rows
        if not stated:
            raise MediaError(f"{path}: the recording is empty")
        if len(samples) < stated:
            raise MediaError(f"{path}: ends after {len(samples)} of {stated} samples, truncated; write it again")
        return samples, float(reader.rate_hz)
