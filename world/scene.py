"""The synthetic world: one seeded scene that every sensor of a robot perceives consistently, with known truth.

A scene is pure: the same options give the same bytes, whatever is asked first. Time is seconds since the scene
began and has no end.

    scene = Scene(SceneOptions(seed=7))
    picture, depth = scene.image(30), scene.depth(30)      # 3 s into the scene
    heard = scene.audio(0, 16000)                          # the first second
    scene.truth(3.0).in_view("dog")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, isfinite

import numpy as np
from numpy.typing import NDArray

from world.acoustics import Walls
from world.imu import Imu
from world.motion import MotionName, Trajectory
from world.render import Painter
from world.schedule import Schedule
from world.soundtrack import MIC_POSITIONS_M, Soundtrack
from world.surroundings import Surroundings
from world.things import Thing, place_things
from world.truth import ThingSpan, ThingTruth, Truth
from world.view import Pinhole, Sight, direction_deg, look

SPAN_STEP_S = 0.1
"""Step at which `truth_between` checks whether a thing is in view."""


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """Parameters of a scene. Raises ValueError for values that can never work."""

    seed: int = 0
    width: int = 320
    height: int = 240
    fps: float = 10.0
    hfov_deg: float = 75.0
    audio_rate_hz: int = 16000
    imu_rate_hz: float = 400.0
    reflections: bool = False
    """True if ground and walls give back sound."""

    def __post_init__(self) -> None:
        limits = {
            "seed": (0, 2**63 - 1),
            "width": (16, 4096),
            "height": (16, 4096),
            "fps": (0.1, 1000.0),
            "hfov_deg": (10.0, 150.0),
            "audio_rate_hz": (4000, 192000),
            "imu_rate_hz": (1.0, 10000.0),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not (isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}; it must be from {low} to {high}")


class Scene:
    """Things in an arena, a robot that moves among them, and what its sensors perceive."""

    mic_positions_m: NDArray[np.float64] = MIC_POSITIONS_M
    """[4, 3] in the body frame: x forward, y left, z up."""

    def __init__(self, options: SceneOptions) -> None:
        self.options = options
        self._surroundings = Surroundings(options.seed)
        self.things: tuple[Thing, ...] = place_things(options.seed, self._surroundings.air_c)
        self._trajectory = Trajectory(options.seed, self._surroundings.body_height_m)
        self._schedule = Schedule(options.seed, self.things, self._trajectory)
        half = self._surroundings.half_size_m
        walls = Walls((-half, half), (-half, half)) if options.reflections else None
        self._soundtrack = Soundtrack(
            options.seed, self.things, self._trajectory, self._schedule, options.audio_rate_hz, walls
        )
        self._imu = Imu(options.seed, self._trajectory, options.imu_rate_hz)
        self._camera = Pinhole(options.width, options.height, options.hfov_deg)
        self._painter = Painter(options.seed, self._camera, self._surroundings)
        self._view = lru_cache(maxsize=4)(self._look)
        self._truth = lru_cache(maxsize=256)(self._make_truth)

    @property
    def focal_px(self) -> float:
        """Focal length of camera, depth camera and thermal camera; the principal point is the image's middle."""
        return self._camera.focal_px

    def image(self, frame: int) -> NDArray[np.uint8]:
        """RGB [H, W, 3] taken at `frame / fps`."""
        return self._painter.image(self._view(frame / self.options.fps), frame)

    def depth(self, frame: int) -> NDArray[np.float32]:
        """Return depth [H, W] in metres along the optical axis at `frame / fps`; 0 marks a missing reading."""
        return self._painter.depth(self._view(frame / self.options.fps), frame)

    def thermal(self, frame: int) -> NDArray[np.float32]:
        """Temperature [H, W] in degrees Celsius at `frame / fps`."""
        return self._painter.thermal(self._view(frame / self.options.fps), frame)

    def audio(self, first: int, n: int) -> NDArray[np.float32]:
        """Samples `first` to `first + n` of the microphones, [n, 4]."""
        return self._soundtrack.samples(first, n)

    def imu(self, first: int, n: int) -> NDArray[np.float32]:
        """Rows `first` to `first + n`, [n, 6]: m/s2 with gravity (+9.81 on z at rest), rad/s."""
        return self._imu.rows(first, n)

    def pose(self, t_s: float) -> NDArray[np.float64]:
        """Return x, y, z (m), roll, pitch, yaw (rad) of the robot's sensors in the world."""
        pose: NDArray[np.float64] = self._trajectory.pose(np.array([t_s]))[0]
        return pose

    def truth(self, t_s: float) -> Truth:
        """Return the truth at a time: places of the things, sounds, and the robot's motion."""
        return self._truth(t_s)

    def sounded_between(self, start_s: float, stop_s: float) -> dict[str, float]:
        """Return the seconds for which each kind sounded within an interval; kinds that did not are left out."""
        sounded: dict[str, float] = {}
        for episode in self._schedule.between(start_s, stop_s):
            kind = self.things[episode.thing].kind.name
            sounded[kind] = sounded.get(kind, 0.0) + episode.overlap_s(start_s, stop_s)
        return sounded

    def moved_between(self, start_s: float, stop_s: float) -> dict[MotionName, float]:
        """Return the seconds of each motion of the robot within an interval; the others are left out."""
        moved: dict[MotionName, float] = {}
        at_s = max(0.0, start_s)
        while at_s < stop_s:
            segment = self._trajectory.segment(at_s)
            until_s = min(segment.stop_s, stop_s)
            moved[segment.motion] = moved.get(segment.motion, 0.0) + until_s - at_s
            at_s = until_s
        return moved

    def truth_between(self, start_s: float, stop_s: float) -> tuple[ThingSpan, ...]:
        """Return the time that each thing sounded and was in view within an interval, at steps of SPAN_STEP_S."""
        first, last = ceil(start_s / SPAN_STEP_S - 1e-9), floor(stop_s / SPAN_STEP_S + 1e-9)
        times = [step * SPAN_STEP_S for step in range(first, last)] or [start_s]
        weight = (stop_s - start_s) / len(times)
        in_view = np.array([[thing.in_view for thing in self.truth(t_s).things] for t_s in times])
        sounding = np.array([[thing.sounding for thing in self.truth(t_s).things] for t_s in times])
        sounded = self.sounded_between(start_s, stop_s)
        return tuple(
            ThingSpan(
                thing.index,
                thing.kind.name,
                sounded.get(thing.kind.name, 0.0),
                weight * float(in_view[:, thing.index].sum()),
                weight * float((in_view & sounding)[:, thing.index].sum()),
            )
            for thing in self.things
        )

    def _look(self, t_s: float) -> Sight:
        return look(t_s, self.pose(t_s), self.things, self._camera)

    def _make_truth(self, t_s: float) -> Truth:
        view = self._view(t_s)
        covered = self._painter.coverage(view)
        active = {episode.thing for episode in self._schedule.between(t_s, np.nextafter(t_s, np.inf))}
        things = []
        for thing in self.things:
            position = thing.emitter_m(np.array([t_s]))[0]
            offset = position - view.eye_m
            distance = float(np.linalg.norm(offset))
            azimuth, elevation = direction_deg(offset, view.body_to_world)
            box, visible = covered.get(thing.index, (None, 0.0))
            things.append(
                ThingTruth(
                    index=thing.index,
                    kind=thing.kind.name,
                    position_m=(float(position[0]), float(position[1]), float(position[2])),
                    distance_m=distance,
                    azimuth_deg=azimuth,
                    elevation_deg=elevation,
                    box=box,
                    visible=visible,
                    sounding=thing.index in active,
                    loudness=self._soundtrack.loudness(thing, t_s, distance),
                )
            )
        return Truth(t_s, tuple(things), self._trajectory.segment(t_s).motion)
