"""The demo: the agent on a synthetic scene, watched through its own server and held against the scene's truth."""

from __future__ import annotations

import asyncio
import io
import math
from contextlib import suppress
from pathlib import Path

from rich.console import Console, RenderableType

from agent.client import Client
from agent.commands.doctor import optional_packages
from agent.commands.terminal import Terminal
from agent.commands.view import LiveView
from agent.commands.watching import watch
from agent.config.parse import Config
from agent.lab.assessment import Assessment, assess, scene_of
from agent.run import build
from agent.run.serving import serving
from common.errors import UserFault
from protos import perception_pb2 as pb
from world.kinds import KINDS

PICTURE_COLUMNS = 110


class DemoError(UserFault):
    """The demo did not show what it is for; the message is one line."""


async def show(config: Config, seconds: float, picture: Path | None = None) -> Assessment:
    """Run for `seconds` after the model is loaded, then print a summary. Raises DemoError when the agent failed."""
    console = Terminal()
    for package in optional_packages():
        if not package.found:
            console.print(f"optional system package {package.package} is missing: {package.without}", style="dim")
    scene = scene_of(config)
    pipeline = build.live(config)
    view = LiveView(f"sensebind demo, scene {scene.options.seed}")
    events: list[pb.Event] = []
    frames: list[RenderableType] = []

    def keep(event: pb.Event) -> None:
        events.append(event)
        if picture and event.HasField("audio_source") and view.busy:
            frames[:] = [view.render()]

    console.print(f"starting {len(config.sensors)} sensors of a synthetic scene and loading the model ...")
    async with serving(pipeline, "127.0.0.1:0") as server, Client(server.address) as client:
        await server.loaded
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await watch(client, console, view, keep)
        status = await client.status()
    if picture:
        save_picture(frames[-1] if frames else view.render(), picture)
    result = assess(scene, pipeline.clock.start_ns, events, kinds_of(config))
    summarize(console, status, events, result)
    check(status)
    return result


def kinds_of(config: Config) -> dict[str, str]:
    """The kind of thing that each query asks for by its sound, by query id."""
    by_sound = {kind.sound: kind.name for kind in KINDS.values() if kind.sound}
    return {query.id: by_sound[query.text] for query in config.queries if query.text in by_sound}


def summarize(console: Console, status: pb.Status, events: list[pb.Event], result: Assessment) -> None:
    """Print what was embedded, alerted and localized, and how much of it was right."""
    windows: dict[str, int] = {}
    for event in events:
        for window in event.embedding.windows:
            windows[window.sensor] = windows.get(window.sensor, 0) + window.present
    shed = ", ".join(f"{count} {reason}" for reason, count in status.ticks_shed.items()) or "none"
    lines = [
        "",
        f"embedded   {', '.join(f'{sensor} {count}' for sensor, count in windows.items())} windows",
        f"ticks      {status.ticks_produced} produced = {status.ticks_delivered} delivered + shed ({shed})"
        f" + {status.ticks_in_flight} in flight; {status.inference_ms:.0f} ms each",
    ]
    for sense, counts in result.alerts.items():
        lines.append(
            f"alerts     {sense:5}  {counts.found} right, {counts.missed} missed, {counts.false} false"
            f"   F1 {_decimal(counts.f1)} over episodes, {_decimal(counts.f1_ticks)} over ticks"
        )
    lines += [
        f"           {result.seen_but_only_heard} reported as seen while only heard",
        f"direction  {_share(result.directions_right)} of {len(result.direction_errors_deg)} within 10 degrees",
        f"heat map   {_share(result.peaks_right)} of {result.peaks_total} peaks inside the sounding thing",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _decimal(value: float) -> str:
    """Return a number with two decimals; `-` where there was nothing to judge."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def _share(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.0%}"


def check(status: pb.Status) -> None:
    """Raise DemoError unless every tick is accounted for and some were delivered."""
    accounted = status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
    if status.ticks_produced != accounted:
        raise DemoError(f"{status.ticks_produced} ticks were produced but {accounted} are accounted for")
    if not status.ticks_delivered:
        raise DemoError("no tick was embedded")


def save_picture(frame: RenderableType, path: Path) -> None:
    """Write a frame of the live view as SVG."""
    console = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="sensebind")
