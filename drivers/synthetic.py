"""The sensors of the synthetic world, as ordinary drivers: camera, microphones, depth, thermal, IMU.

Sensors with one `seed` perceive one scene. Its time zero is the start of the run.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from drivers.driver import (
    BLOCK_S,
    BadOption,
    Clock,
    Disconnected,
    Driver,
    EndOfStream,
    Modality,
    Pace,
    ReadTimeout,
    Sample,
    StreamFacts,
)
from world.scene import Scene, SceneOptions
from world.soundtrack import MIC_POSITIONS_M

_BEHIND_NS = 1_000_000_000
_LONGEST_S = 1e9


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """Options of the synthetic camera, depth camera and thermal camera."""

    seed: int = 0
    pace: Pace = "real"
    duration_s: float | None = None
    width: int = 320
    height: int = 240
    rate_hz: float = 10.0
    hfov_deg: float = 75.0


@dataclass(frozen=True, slots=True)
class SyntheticMicrophoneOptions:
    """Options of the synthetic microphone array."""

    seed: int = 0
    pace: Pace = "real"
    duration_s: float | None = None
    rate_hz: int = 16000
    reflections: bool = False


@dataclass(frozen=True, slots=True)
class ImuOptions:
    """Options of the synthetic IMU."""

    seed: int = 0
    pace: Pace = "real"
    duration_s: float | None = None
    rate_hz: float = 400.0


class _SyntheticDriver(Driver):
    """Reads samples of `step` rows (a picture is one row) out of a scene, at the clock's pace or at once.

    At real pace the first sample is the one due at `connect`. A reader that falls more than 1 s behind is taken to
    the present, and the sample it gets says in `lost` how many rows it missed.
    """

    def __init__(self, options: Any, clock: Clock) -> None:
        self.options = options
        self._clock = clock
        self._scene: Scene | None = None
        self._next_row = 0
        self._ready: Sample | None = None

    @abstractmethod
    def _scene_options(self) -> SceneOptions: ...

    @abstractmethod
    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]: ...

    @property
    @abstractmethod
    def _rate_hz(self) -> float: ...

    @property
    def _step(self) -> int:
        return max(1, round(BLOCK_S * self._rate_hz))

    @property
    def _blocks(self) -> bool:
        return True

    def connect(self) -> None:
        """Make the scene. Raises BadOption for values that can never work."""
        duration_s = self.options.duration_s
        if duration_s is not None and not 0 < duration_s < _LONGEST_S:
            raise BadOption(
                f"{self._name}: duration_s is {duration_s}; it must be over 0 and under {_LONGEST_S:g}, "
                "or absent for no end"
            )
        try:
            self._scene = Scene(self._scene_options())
        except ValueError as error:
            raise BadOption(f"{self._name}: {error}") from None
        self._next_row = self._row_due_now() if self.options.pace == "real" else 0
        self._ready = None

    def read(self, timeout_s: float) -> Sample:
        """Return the next sample; at real pace, when it is due."""
        if self._scene is None:
            raise Disconnected(f"{self._name} is not connected; call connect() first")
        if self._ready is None:
            self._ready = self._make(self._scene)
        if self.options.pace == "real":
            due_ns = self._ready.end_ns
            until_ns = self._clock.now_ns() + round(timeout_s * 1e9)
            self._clock.sleep_until(min(due_ns, until_ns))
            if due_ns > until_ns:
                raise ReadTimeout(f"{self._name}: no sample within {timeout_s} s; its rate is {self._rate_hz:g} Hz")
        sample, self._ready = self._ready, None
        return sample

    def close(self) -> None:
        """Forget the scene."""
        self._scene = None
        self._ready = None

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _row_due_now(self) -> int:
        """The first row of the block that holds the present."""
        elapsed_s = max(0, self._clock.now_ns() - self._clock.start_ns) / 1e9
        return int(elapsed_s * self._rate_hz) // self._step * self._step

    def _time_ns(self, row: int) -> int:
        return self._clock.start_ns + round(row * 1e9 / self._rate_hz)

    def _make(self, scene: Scene) -> Sample:
        lost = 0
        if (
            self.options.pace == "real"
            and self._clock.now_ns() - self._time_ns(self._next_row + self._step) > _BEHIND_NS
        ):
            present = self._row_due_now()
            lost, self._next_row = present - self._next_row, present
        n = self._step
        if self.options.duration_s is not None:
            n = min(n, round(self.options.duration_s * self._rate_hz) - self._next_row)
        if n <= 0:
            raise EndOfStream(f"{self._name}: the scene ends after {self.options.duration_s} s")
        first = self._next_row
        data = self._rows(scene, first, n)
        self._next_row += n
        return Sample(self._time_ns(first), data, self._rate_hz if self._blocks else 0.0, lost)


class _PictureDriver(_SyntheticDriver):
    Options: ClassVar[type[Any]] = PictureOptions

    @classmethod
    def stream(cls, options: PictureOptions) -> StreamFacts:
        return StreamFacts(cls.modality, rate_hz=options.rate_hz, width=options.width, height=options.height)

    def _scene_options(self) -> SceneOptions:
        wanted: PictureOptions = self.options
        return SceneOptions(
            seed=wanted.seed, width=wanted.width, height=wanted.height, fps=wanted.rate_hz, hfov_deg=wanted.hfov_deg
        )

    @property
    def _rate_hz(self) -> float:
        return float(self.options.rate_hz)

    @property
    def _step(self) -> int:
        return 1

    @property
    def _blocks(self) -> bool:
        return False


class SyntheticCamera(_PictureDriver):
    """RGB pictures of the scene."""

    modality: ClassVar[Modality] = "vision"

    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]:  # noqa: ARG002  a picture is one row
        return scene.image(first)


class SyntheticDepth(_PictureDriver):
    """Depth maps of the scene."""

    modality: ClassVar[Modality] = "depth"

    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]:  # noqa: ARG002  a picture is one row
        return scene.depth(first)


class SyntheticThermal(_PictureDriver):
    """Thermal pictures of the scene."""

    modality: ClassVar[Modality] = "thermal"

    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]:  # noqa: ARG002  a picture is one row
        return scene.thermal(first)


class SyntheticMicrophone(_SyntheticDriver):
    """Four microphones, in blocks of BLOCK_S."""

    Options: ClassVar[type[Any]] = SyntheticMicrophoneOptions
    modality: ClassVar[Modality] = "audio"

    @classmethod
    def stream(cls, options: SyntheticMicrophoneOptions) -> StreamFacts:
        """Its rate, and a channel for each microphone of the world."""
        return StreamFacts(cls.modality, rate_hz=options.rate_hz, channels=len(MIC_POSITIONS_M), block_s=BLOCK_S)

    def _scene_options(self) -> SceneOptions:
        wanted: SyntheticMicrophoneOptions = self.options
        return SceneOptions(seed=wanted.seed, audio_rate_hz=wanted.rate_hz, reflections=wanted.reflections)

    @property
    def _rate_hz(self) -> float:
        return float(self.options.rate_hz)

    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]:
        return scene.audio(first, n)


class SyntheticImu(_SyntheticDriver):
    """Accelerometer and gyroscope, in blocks of BLOCK_S."""

    Options: ClassVar[type[Any]] = ImuOptions
    modality: ClassVar[Modality] = "imu"

    @classmethod
    def stream(cls, options: ImuOptions) -> StreamFacts:
        """Its rate."""
        return StreamFacts(cls.modality, rate_hz=options.rate_hz, block_s=BLOCK_S)

    def _scene_options(self) -> SceneOptions:
        wanted: ImuOptions = self.options
        return SceneOptions(seed=wanted.seed, imu_rate_hz=wanted.rate_hz)

    @property
    def _rate_hz(self) -> float:
        return float(self.options.rate_hz)

    def _rows(self, scene: Scene, first: int, n: int) -> NDArray[Any]:
        return scene.imu(first, n)
