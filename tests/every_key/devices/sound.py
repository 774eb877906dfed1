"""Microphones, stood in for at PortAudio, and sound files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from drivers.driver import Sample
from every_key import Row, Rows
from every_key.devices.reading import AUDIO_HZ, of_driver, outcome, shift_ms, taken, waited_ms


def wav(folder: Path, name: str = "any.wav", level: float = 0.1) -> str:
    """A second of two channels, the second twice as loud."""
    path = folder / name
    soundfile.write(path, np.tile(np.array([level, 2 * level], np.float32), (AUDIO_HZ, 1)), AUDIO_HZ, subtype="FLOAT")
    return str(path)


def audio_file(folder: Path, **options: Any) -> dict[str, Any]:
    return {"path": wav(folder), "channels": 2, "rate_hz": AUDIO_HZ, "pace": "fast", **options}


def sound_level(path: str, folder: Path) -> float:
    found = taken("audio_file", 1, **audio_file(folder, path=wav(folder, path, 0.5 if path == "loud.wav" else 0.25)))
    return float(found[0].data[0, 0])


class StandInSound(SimpleNamespace):
    """The module `sounddevice` with two arrays of eight microphones, whose first block comes when they are started."""

    PortAudioError = OSError

    def __init__(self) -> None:
        super().__init__(default=SimpleNamespace(device=(0, 0)), asked={})

    def query_devices(self) -> list[dict[str, Any]]:
        return [{"name": name, "max_input_channels": 8} for name in ("front array", "rear array")]

    def InputStream(self, **asked: Any) -> StandInStream:  # noqa: N802  as PortAudio's is called
        self.asked = asked
        return StandInStream(asked)


class StandInStream:
    active = True

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked

    def start(self) -> None:
        rows = self._asked["blocksize"]
        block = np.tile(np.arange(self._asked["channels"], dtype=np.float32), (rows, 1))
        time = SimpleNamespace(currentTime=1.5, inputBufferAdcTime=1.4)
        self._asked["callback"](block, rows, time, None)

    def abort(self, ignore_errors: bool) -> None:
        """Nothing plays."""

    close = abort


def heard(**options: Any) -> tuple[Sample, dict[str, Any]]:
    """The first block of a stand-in, and what was asked of PortAudio."""
    sound = StandInSound()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivers.microphone.import_sounddevice", lambda: sound)
        (sample,) = taken("microphone", 1, **options)
    return sample, sound.asked


ROWS: Rows = {
    **of_driver(
        "microphone",
        {
            "device": Row(lambda name, _: heard(device=name)[1]["device"], ("rear", 1), (0, 0)),
            "channels": Row(lambda n, _: heard(channels=n)[0].data.shape[1], (2, 2), (6, 6)),
            "rate_hz": Row(
                lambda rate, _: (heard(rate_hz=rate)[1]["samplerate"], heard(rate_hz=rate)[0].rate_hz),
                (8000, (8000, 8000.0)),
                (48_000, (48_000, 48_000.0)),
            ),
            "block_ms": Row(lambda ms, _: len(heard(block_ms=ms)[0].data), (20.0, 320), (100.0, 1600)),
            # PortAudio says that the block is 100 ms old; of a first block only its length, 50 ms, is believed.
            "latency_ms": Row(
                lambda ms, _: shift_ms(heard(latency_ms=ms)[0]),
                (30.0, pytest.approx(80.0)),
                (80.0, pytest.approx(130.0)),
            ),
            "use_channels": Row(
                lambda use, _: heard(channels=6, use_channels=use)[0].data[0].tolist(),
                ([1, 2, 4], [1.0, 2.0, 4.0]),
                ([5, 0], [5.0, 0.0]),
            ),
        },
    ),
    **of_driver(
        "audio_file",
        {
            "path": Row(sound_level, ("loud.wav", 0.5), ("soft.wav", 0.25)),
            "channels": Row(
                lambda n, folder: outcome(lambda: taken("audio_file", 1, **audio_file(folder, channels=n))),
                (2, "fits"),
                (3, "BadOption"),
            ),
            "rate_hz": Row(
                lambda rate, folder: outcome(lambda: taken("audio_file", 1, **audio_file(folder, rate_hz=rate))),
                (AUDIO_HZ, "fits"),
                (44_100, "BadOption"),
            ),
            "use_channels": Row(
                lambda use, folder: taken("audio_file", 1, **audio_file(folder, use_channels=use))[0].data[0].tolist(),
                ([1], pytest.approx([0.2])),
                ([1, 0], pytest.approx([0.2, 0.1])),
            ),
            "block_ms": Row(
                lambda ms, folder: len(taken("audio_file", 1, **audio_file(folder, block_ms=ms))[0].data),
                (20.0, 160),
                (100.0, 800),
            ),
            "latency_ms": Row(
                lambda ms, folder: shift_ms(taken("audio_file", 1, **audio_file(folder, latency_ms=ms))[0]),
                (20.0, 20.0),
                (70.0, 70.0),
            ),
            "pace": Row(
                lambda pace, folder: waited_ms("audio_file", 4, **audio_file(folder, pace=pace)),
                ("real", 200.0),
                ("fast", 0.0),
            ),
            "loop": Row(
                lambda loop, folder: len(taken("audio_file", 25, **audio_file(folder, loop=loop))),
                (True, 25),
                (False, 20),
            ),
        },
    ),
}  # fmt: skip
