"""Microphones and microphone arrays through PortAudio."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from drivers.adc_time import AdcTime
from drivers.block_ring import BlockRing
from drivers.driver import (
    Clock,
    DeviceBusy,
    DeviceNotFound,
    Disconnected,
    Driver,
    DriverError,
    FormatMismatch,
    MissingLibrary,
    Modality,
    ReadTimeout,
    Sample,
    StreamFacts,
)
from drivers.option_checks import latency_ns, require, require_channels, require_positive
from drivers.row_clock import RowClock

RING_S = 2.0
"""Audio held for a reader that is late; when it is full, blocks are dropped and counted."""

# PortAudio's error codes (portaudio.h, PaErrorCode)
PA_INVALID_CHANNEL_COUNT, PA_INVALID_SAMPLE_RATE, PA_DEVICE_UNAVAILABLE = -9998, -9997, -9985


@dataclass(frozen=True, slots=True)
class MicrophoneOptions:
    """A microphone with one or more channels."""

    device: str | int | None = None
    """Name or a part of it, or index, as `python -m sounddevice` lists them; left out: the system's default."""
    channels: int = 1
    """Number of channels to open; a device that mixes processed sound in gives all of them, or none."""
    use_channels: tuple[int, ...] | None = None
    """Channels to take of those, from 0, in the order of `mic_positions_m`; the model hears the first. None: all."""
    rate_hz: int = 16_000
    """Samples a second and channel."""
    block_ms: float = 50.0
    """Milliseconds of audio in one sample of the stream."""
    latency_ms: float = 0.0
    """Milliseconds from the sound to the time stamp, beyond what the device itself reports; subtracted."""


class Microphone(Driver):
    """Yields audio samples, float32 [n, channels], in blocks of `block_ms`.

    Time is counted in samples and held to PortAudio's ADC time once that can be trusted, before to the arrival of
    blocks; samples that never came are counted in `lost`.
    PortAudio lists devices once per process: after Disconnected or DeviceNotFound, a device that came back is found
    by a new process only.
    """

    Options: ClassVar[type[Any]] = MicrophoneOptions
    modality: ClassVar[Modality] = "audio"

    @classmethod
    def stream(cls, options: MicrophoneOptions) -> StreamFacts:
        """Its rate, channels and blocks."""
        return StreamFacts(
            cls.modality,
            rate_hz=options.rate_hz,
            channels=options.channels if options.use_channels is None else len(options.use_channels),
            block_s=options.block_ms / 1e3,
            latency_s=options.latency_ms / 1e3,
        )

    def __init__(self, options: MicrophoneOptions, clock: Clock) -> None:
        require(options.channels >= 1, "channels", options.channels, "1 or more")
        require_channels(options.use_channels, options.channels)
        require_positive("rate_hz", options.rate_hz)
        require(1 <= options.block_ms <= 1000, "block_ms", options.block_ms, "1 to 1000")
        self._options = options
        self._clock = clock
        self._latency_ns = latency_ns(options.latency_ms)
        self._block_rows = max(1, round(options.rate_hz * options.block_ms / 1000))
        self._name = "microphone" if options.device is None else f"microphone {options.device}"
        self._stream: Any = None

    def connect(self) -> None:
        """Open and start the device; raises MissingLibrary, DeviceNotFound, DeviceBusy or FormatMismatch."""
        self.close()
        sounddevice = import_sounddevice()
        options = self._options
        try:
            devices = sounddevice.query_devices()
        except sounddevice.PortAudioError as error:
            raise DriverError(f"{self._name}: PortAudio cannot list the devices: {_reason(error)}") from None
        index = find_input(devices, options.device, sounddevice.default.device[0])
        most = devices[index]["max_input_channels"]
        if options.channels > most:
            raise FormatMismatch(self._name, "channels", options.channels, most)
        blocks = max(4, round(RING_S * 1000 / options.block_ms))
        self._ring = BlockRing(blocks, self._block_rows, options.channels)
        self._row_clock = RowClock(options.rate_hz, self._block_rows)
        self._adc_time = AdcTime(options.rate_hz)
        stream = None
        try:
            stream = sounddevice.InputStream(
                device=index,
                channels=options.channels,
                samplerate=options.rate_hz,
                blocksize=self._block_rows,
                dtype="float32",
                callback=self._arrive,
                finished_callback=self._ring.wake,
            )
            stream.start()
        except sounddevice.PortAudioError as error:
            if stream is not None:
                stream.close(ignore_errors=True)
            raise self._refused(error, devices[index]) from None
        self._stream = stream

    def read(self, timeout_s: float) -> Sample:
        """Return the next block; raises ReadTimeout when none comes and Disconnected when the device is gone."""
        if self._stream is None:
            raise Disconnected(f"{self._name}: not connected")
        try:
            rows, measured_ns, dropped = self._ring.get(timeout_s)
        except queue.Empty:
            if self._active():
                raise ReadTimeout(f"{self._name}: no audio within {timeout_s:g} s") from None
            rows, measured_ns, dropped = np.zeros((0, 1), np.float32), 0, 0
        if len(rows) == 0:
            raise Disconnected(f"{self._name}: the device or the sound server went away")
        if self._options.use_channels is not None:
            rows = rows.take(self._options.use_channels, axis=1)
        t_ns, lost = self._row_clock.stamp(len(rows), measured_ns, dropped)
        return Sample(t_ns - self._latency_ns, rows, float(self._options.rate_hz), lost)

    def close(self) -> None:
        """Stop and release the device."""
        if self._stream is not None:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
            self._stream = None

    def _active(self) -> bool:
        """Return whether the stream still runs; PortAudio may refuse to tell when the device is gone."""
        import sounddevice

        try:
            return bool(self._stream.active)
        except sounddevice.PortAudioError as error:
            raise Disconnected(f"{self._name}: the device went away: {_reason(error)}") from None

    def _arrive(self, rows: NDArray[np.float32], n: int, time: Any, _status: Any) -> None:
        """PortAudio's callback, on its own thread. Its overflow flag is not set by every backend: samples tell."""
        age_s = self._adc_time.age_s(n, time.currentTime, time.inputBufferAdcTime)
        self._ring.put(rows, self._clock.now_ns() - round(age_s * 1e9))

    def _refused(self, error: Exception, device: Mapping[str, Any]) -> DriverError:
        """Say what PortAudio's error code means for this device."""
        code = error.args[1] if len(error.args) > 1 else None
        if code == PA_DEVICE_UNAVAILABLE:
            return DeviceBusy(f"{self._name}: another program holds it, or it was unplugged; stop that program first")
        if code == PA_INVALID_SAMPLE_RATE:
            return FormatMismatch(self._name, "rate_hz", self._options.rate_hz, round(device["default_samplerate"]))
        if code == PA_INVALID_CHANNEL_COUNT:
            return FormatMismatch(self._name, "channels", self._options.channels, device["max_input_channels"])
        return DriverError(f"{self._name}: {_reason(error)}")


def find_input(devices: Sequence[Mapping[str, Any]], wanted: str | int | None, default: int) -> int:
    """Return the index of the input device meant by `wanted`: an index, a name, or a part that only one name has."""
    inputs = {i: str(device["name"]) for i, device in enumerate(devices) if device["max_input_channels"] > 0}
    there = "; there are: " + ", ".join(f"{i} {name}" for i, name in inputs.items()) if inputs else "; there is none"
    if wanted is None or isinstance(wanted, int):
        index = default if wanted is None else wanted
        if index not in inputs:
            what = "microphone: no default" if wanted is None else f"microphone {wanted}: no such"
            raise DeviceNotFound(f"{what} input device{there}")
        return index
    found = [i for i, name in inputs.items() if name == wanted]
    found = found or [i for i, name in inputs.items() if wanted.lower() in name.lower()]
    if len(found) != 1:
        raise DeviceNotFound(f"microphone {wanted}: {len(found)} input devices have this name{there}")
    return found[0]


def import_sounddevice() -> ModuleType:
    """Return sounddevice, which initialises PortAudio.

    Raises MissingLibrary when one of them is not installed, DriverError when PortAudio does not start.
    """
    try:
        import sounddevice
    except ImportError:
        raise MissingLibrary("microphones need sounddevice; install it: pip install sounddevice") from None
    except OSError:
        raise MissingLibrary("microphones need PortAudio; install it: sudo apt install libportaudio2") from None
    except Exception as error:  # noqa: BLE001  PortAudioError, whose module is not there to name it
        raise DriverError(f"microphones: PortAudio does not start: {_reason(error)}") from None
    module: ModuleType = sounddevice
    return module


def _reason(error: Exception) -> str:
    """Return the text of a PortAudioError in one line: its first argument; the others are codes."""
    return " ".join(str(error.args[0] if error.args else error).split())
