"""Sound as a 16-bit WAV file that keeps time: missing samples are zeros, listed in the table beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.exchange.row_blocks import LONGEST_GAP_S
from agent.exchange.tables import SOUND_TIMES, TimesTable, read_times, times_beside
from agent.exchange.track import Media, Track
from agent.log.format import LogError, LoggedSensor
from common import private_files
from common.media.fault import MediaError
from common.media.sound import SoundReader
from drivers.driver import BLOCK_S, Sample
from drivers.row_timeline import RowTimeline

SUFFIX = ".wav"
MAX_BYTES = 2**32 - 2**16
"""WAV counts its bytes in 32 bits."""
_FULL_SCALE = 32768


class SoundTrack(Track):
    """A microphone's sound: its blocks one after the other as they are counted, but for gaps."""

    def __init__(self, folder: Path, name: str, sensor: LoggedSensor) -> None:  # noqa: ARG002  the first block tells
        """Begin the table; the sound begins with the first block, whose rate and channels it has."""
        super().__init__(folder / (name + SUFFIX))
        self._times = TimesTable(times_beside(self.path), SOUND_TIMES)
        self._file: Any = None
        self._form = (0, 0)
        self._timeline = RowTimeline(1.0)
        self._rows = 0
        """Rows in the file, zeros included."""

    def _add(self, sample: Sample) -> None:
        form = round(sample.rate_hz), sample.data.shape[1]
        if self._file is None:
            self._file = _create(self.path, *form)
            self._form, self._timeline = form, RowTimeline(form[0])
        if form != self._form:
            self.faults[f"blocks not of {self._form[0]} Hz and {self._form[1]} channels as the first"] += 1
            return
        gap = self._gap(sample)
        if gap is None:
            return
        rows = len(sample.data)
        if (self._rows + gap + rows) * form[1] * 2 > MAX_BYTES:
            raise LogError(f"{self.path.name}: more sound than the 4 GiB of a WAV file; export the log in parts")
        self._write_zeros(gap)
        _write(self._file, self.path, self._pcm(sample.data))
        self._times.add(self._rows + gap, rows, sample.t_ns, sample.lost, gap)
        self._rows += gap + rows
        self.count += rows

    def _gap(self, sample: Sample) -> int | None:
        """Rows of zeros before a block; None when it cannot be placed."""
        gap = self._timeline.gap(sample.t_ns, len(sample.data), sample.lost)
        if gap < 0:
            self.faults["blocks that begin before the end of the one before"] += 1
            return None
        if gap > LONGEST_GAP_S * self._form[0]:
            self.faults[f"blocks more than {LONGEST_GAP_S:.0f} s after the one before"] += 1
            return None
        self._timeline.take(sample.t_ns, len(sample.data), gap)
        return gap

    def _pcm(self, data: NDArray[np.float32]) -> NDArray[np.int16]:
        """The counts that a log holds, exactly."""
        counts = np.rint(np.nan_to_num(data, posinf=1.0, neginf=-1.0) * np.float32(_FULL_SCALE))
        altered = int(np.count_nonzero(~(np.abs(data) <= 1)))
        if altered:
            self.faults["values beyond full scale, clipped"] += altered
        pcm: NDArray[np.int16] = np.clip(counts, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
        return pcm

    def _write_zeros(self, rows: int) -> None:
        rate, channels = self._form
        for first in range(0, rows, rate):
            _write(self._file, self.path, np.zeros((min(rate, rows - first), channels), np.int16))

    def finish(self) -> None:
        """Complete the head of the file."""
        if self._file is not None:
            _close(self._file, self.path)
        self._times.close()

    def close(self) -> None:
        """Close the sound and the table, complete or not."""
        with suppress(LogError, OSError):  # on a full disk the buffer fails again
            if self._file is not None:
                _close(self._file, self.path)
        with suppress(OSError):
            self._times.close()


class SoundMedia(Media):
    """A sound file that libsndfile reads."""

    def __init__(self, path: Path) -> None:
        """Look at its head."""
        super().__init__(path)
        with self._opened() as file:
            self.sensor = LoggedSensor("audio", float(file.rate_hz))
            self.options = {"channels": file.channels}
            self.length_s = file.rows / file.rate_hz

    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """Blocks at the times of the table beside the sound, or else one after the other."""
        table = times_beside(self.path)
        self.faults.clear()
        with self._opened() as file:
            rate_hz = float(file.rate_hz)
            if not table.exists():
                at = 0
                while len(rows := self._read(file, max(1, round(BLOCK_S * rate_hz)))):
                    yield Sample(begin_ns + round(at * 1e9 / rate_hz), rows, rate_hz)
                    at += len(rows)
                if at < file.stated_rows:
                    self.faults["rows that the file states and does not hold"] += file.stated_rows - at
                return
            first_ns = None
            for first_row, count, t_ns, lost, _ in read_times(table, SOUND_TIMES):
                first_ns = t_ns if first_ns is None else first_ns
                if not 0 < count <= file.rows - first_row:
                    raise LogError(f"{table}: rows {first_row} to {first_row + count} are not in {self.path.name}")
                yield Sample(begin_ns + t_ns - first_ns, self._read(file, count, first_row), rate_hz, lost)

    def _opened(self) -> SoundReader:
        try:
            return SoundReader(self.path)
        except MediaError as error:
            raise LogError(str(error)) from None

    def _read(self, file: SoundReader, rows: int, first_row: int | None = None) -> NDArray[np.float32]:
        try:
            if first_row is not None:
                file.seek(first_row)
            return file.read(rows)
        except MediaError as error:
            raise LogError(str(error)) from None


def _create(path: Path, rate_hz: int, channels: int) -> Any:
    import soundfile

    try:
        private_files.create(path)
        return soundfile.SoundFile(path, "w", rate_hz, channels, "PCM_16", format="WAV")
    except (soundfile.SoundFileError, ValueError) as error:
        raise LogError(f"{path.name}: {channels} channels at {rate_hz} Hz cannot be written: {error}") from None


def _write(file: Any, path: Path, pcm: NDArray[np.int16]) -> None:
    import soundfile

    try:
        file.write(pcm)
    except soundfile.SoundFileError as error:
        raise LogError(f"{path.name}: cannot be written: {error} Is the disk full?") from None


def _close(file: Any, path: Path) -> None:
    import soundfile

    try:
        file.close()
    except soundfile.SoundFileError as error:
        raise LogError(f"{path.name}: cannot be completed: {error} Is the disk full?") from None
