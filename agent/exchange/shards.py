"""Training shards out of a recording: moments of an image and what was measured with it, cut by the windows of live.

A log knows nothing of what is seen or heard, and what its alerts say is what the model thought: training on that would
only teach the model its own mistakes. So examples carry no labels, and no captions but those that a person gives: they
are pairs of an image with what was measured at the same time, which is all that ImageBind's audio, depth, thermal and
IMU encoders learn from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.capture.source import Jump
from agent.config.parse import parse
from agent.exchange.captions import Caption, texts_at
from agent.exchange.contents import chosen_sensors, over_time
from agent.exchange.new_folder import new_folder
from agent.log.format import LogError
from agent.log.replay.samples import SampleReplay
from agent.log.stored_config import replayed
from agent.log.timeline import Timeline
from agent.streams import Streams, in_any_order
from agent.windows.windower import Tick, Window, Windower
from common.physics import STANDARD_GRAVITY_MPS2
from common.progress import Progress, untold
from common.window_lengths import AUDIO_WINDOW_S, IMU_WINDOW_S
from drivers.driver import MODALITIES, Modality
from drivers.forms import image_like
from models import preprocess
from models.datasets.dataset import About, Example, write_shard

EXAMPLES_PER_SHARD = 200
EVERY_S = 2.0
"""Between examples; as long as the sound of one, so that none is in two."""
OLDEST_PERIODS = 2.0
"""An image may be so many periods of its stream older than the moment; live, it may be ten."""
MOST_RATE_HZ = 655_350
"""Largest sample rate of FLAC."""

_WINDOW_S: dict[Modality, float] = {"audio": AUDIO_WINDOW_S, "imu": IMU_WINDOW_S}
"""Window lengths of the encoders, whatever the configuration of the run."""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """Result of an export."""

    examples: int
    shards: int
    pairs: dict[Modality, int]
    """Examples that hold each modality beside the image."""
    captioned: int
    """Examples that have a caption."""
    left_out: dict[str, int]
    """Moments that are not examples, by reason."""
    lacking: dict[str, int]
    """Examples that lack a modality that the log has, by modality and reason."""
    unfinished: str
    """File of the recording that ended early; empty if none did."""


@dataclass(slots=True)
class _Counts:
    pairs: Counter[Modality] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    captioned: int = 0


def export_shards(
    log: Path,
    out: Path,
    sensors: Collection[str] = (),
    every_s: float = EVERY_S,
    *,
    captions: Sequence[Caption] = (),
    progress: Progress = untold,
) -> ShardReport:
    """Write examples as `models.datasets.dataset` reads them into a new folder, which appears whole or not at all.

    An example is an image and what at least one other sensor measured, whole and at that time, or a caption; one sensor
    of a modality, so `sensors` says which where a log has several. `progress` is told seconds of the recording. Raises
    LogError and ConfigError.
    """
    if not 0.1 <= every_s <= 3600:
        raise LogError(f"examples every {every_s:g} s; 0.1 to 3600 s are possible")
    timeline = Timeline([log])
    streams = _streams(timeline, log, sensors, alone=bool(captions))
    counts = _Counts()
    moments = _moments(timeline, streams, round(every_s * 1e9))
    told = over_time(moments, lambda tick: tick.t_ns, timeline, progress)
    examples = _examples(told, streams, timeline.facts.run_id, captions, counts)
    shards = written = 0
    with new_folder(out) as folder:
        for first in examples:
            path = folder / f"{shards:06d}.tar"
            written += write_shard(path, chain([first], islice(examples, EXAMPLES_PER_SHARD - 1)))
            shards += 1
        if not written:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.left_out.most_common())
            raise LogError(
                f"{log}: holds no moment of an image and something else: {reasons or 'none at all'}; 2 s of sound, or "
                f"5 s of IMU, must lie before a moment"
            )
    return ShardReport(
        written,
        shards,
        dict(counts.pairs),
        counts.captioned,
        dict(counts.left_out),
        dict(counts.lacking),
        timeline.unfinished,
    )


def _streams(timeline: Timeline, log: Path, sensors: Collection[str], *, alone: bool) -> Streams:
    """The streams of the recorded run, one a modality; a camera may be `alone`. Raises LogError and ConfigError."""
    known = parse(replayed(timeline.facts.config, model=False), str(log), devices=False).streams
    chosen = chosen_sensors(timeline, sensors)
    streams: Streams = {}
    for modality in MODALITIES:
        names = [name for name, sensor in chosen.items() if sensor.modality == modality and name in known]
        if len(names) > 1:
            others = [name for name, sensor in chosen.items() if sensor.modality != modality]
            raise LogError(
                f"{log}: has {len(names)} {modality} sensors ({', '.join(names)}), and an example holds one; choose, "
                f"such as --sensors {','.join([names[0], *others])}; several folders can be trained on together"
            )
        for name in names:
            streams[name] = replace(known[name], window_s=_WINDOW_S.get(modality, known[name].window_s))
    if len(streams) + alone < 2 or not any(stream.modality == "vision" for stream in streams.values()):
        found = ", ".join(streams) or "no sensor"
        raise LogError(
            f"{log}: an example is an image and something else of one moment; found {found}; record a camera and "
            "another sensor"
        )
    return streams


def _moments(timeline: Timeline, streams: Streams, hop_ns: int) -> Iterator[Tick]:
    """The ticks of a recording, as a replay gives them."""
    replay = SampleReplay(timeline, sensors=streams)
    streams = in_any_order(streams)
    windower = Windower(streams, hop_ns, timeline.start_ns)
    replay.start()
    try:
        while not replay.ended:
            polled = replay.poll(0.0)
            if isinstance(polled, Jump):  # a hole in the recording
                yield from windower.finish()
                windower = Windower(streams, hop_ns, polled.start_ns)
                continue
            for name, sample in polled:
                windower.push(name, sample)
                yield from windower.advance(windower.newest_ns)
        yield from windower.finish()
    finally:
        replay.stop()


def _examples(
    ticks: Iterator[Tick], streams: Streams, run_id: str, captions: Sequence[Caption], counts: _Counts
) -> Iterator[Example]:
    run = re.sub(r"[^A-Za-z0-9_-]", "_", run_id)  # a key ends at the first dot
    for tick in ticks:
        windows = {window.modality: window for window in tick.windows.values()}
        faults = {m: fault for m, window in windows.items() if (fault := _fault(window, tick, streams))}
        usable = {modality: window for modality, window in windows.items() if modality not in faults}
        texts = texts_at(captions, tick.t_ns)
        if "vision" not in usable or (len(usable) < 2 and not texts):
            counts.left_out.update([_first(faults)])
            continue
        counts.captioned += bool(texts)
        counts.pairs.update(modality for modality in usable if modality != "vision")
        counts.lacking.update(f"{modality}: {fault}" for modality, fault in faults.items())
        data = {modality: _data(window) for modality, window in usable.items()}
        sound, rows = usable.get("audio"), usable.get("imu")
        yield Example(
            key=f"{run}-{tick.t_ns}",
            frames=data["vision"],
            audio=np.ascontiguousarray(data["audio"][:, 0]) if sound else None,  # the channel that the model hears
            depth_m=data.get("depth"),
            temperature_c=data.get("thermal"),
            imu=_at_model_rate(data["imu"], rows.rate_hz) if rows else None,
            about=About(scene=texts, clear=False, labelled=False),
            audio_rate_hz=int(sound.rate_hz) if sound else preprocess.AUDIO_RATE_HZ,
        )


def _first(faults: Mapping[Modality, str]) -> str:
    """The fault for which a moment is left out: that of the image, or else of the first other modality."""
    if not faults:
        return "no caption"
    modality = "vision" if "vision" in faults else next(iter(faults))
    return f"{modality}: {faults[modality]}"


def _fault(window: Window, tick: Tick, streams: Streams) -> str:
    """Return why a window is not part of an example; empty if it is."""
    if window.data is None:
        return str(window.missing)
    if not window.data.size:
        return "invalid: cannot be decoded"
    if window.filled:
        return "gap"
    oldest_ns = OLDEST_PERIODS * 1e9 * streams[window.sensor].period_s
    if image_like(window.modality) and tick.t_ns - window.newest_ns > oldest_ns:
        return "not of the same moment"
    rate_hz = window.rate_hz
    if window.modality == "audio" and not (rate_hz.is_integer() and rate_hz <= MOST_RATE_HZ):
        return f"{rate_hz:g} Hz"
    return ""


def _data(window: Window) -> NDArray[Any]:
    assert window.data is not None
    return window.data


def _at_model_rate(rows: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """5 s of rows at 400 Hz, as examples hold them, in the units of the log."""
    if rate_hz == preprocess.IMU_RATE_HZ:
        return rows
    # [2000, 6], acceleration in units of gravity
    steps = preprocess.imu(rows[None], rate_hz, guess_units=False)[0].numpy().T
    units = np.repeat([STANDARD_GRAVITY_MPS2, 1.0], 3).astype(np.float32)
    resampled: NDArray[np.float32] = np.ascontiguousarray(steps * units)
    return resampled
