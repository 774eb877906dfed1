"""The command line: `sensebind VERB`. Thin: every command calls what a program could call as well.

Imports stand inside the commands, so that `sensebind watch` needs no torch and starts at once. What runs until it is
told to end says `ending.meant()` first.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.log import log_app
from agent.commands.queries import DEFAULT_ADDRESS, Address, query_app
from agent.commands.signals import ending
from agent.commands.training import evaluate, simulate, train
from agent.commands.weights import weights_app

if TYPE_CHECKING:
    from agent.config.parse import Config
    from agent.run.run import Run

app = typer.Typer(
    help="Streaming sensor fusion in ImageBind's embedding space.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for verb in (simulate, train, evaluate):
    app.command()(verb)
app.add_typer(query_app, name="query")
golden_app = typer.Typer(help="A stored log that must go on giving the same events.", no_args_is_help=True)
app.add_typer(golden_app, name="golden")
app.add_typer(log_app, name="log")
app.add_typer(weights_app, name="weights")

ConfigPath = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; default: a synthetic scene.")]


@app.command()
def run(
    config: ConfigPath = None,
    listen: Annotated[str | None, typer.Option(help="host:port instead of the config's.")] = None,
    insecure: Annotated[bool, typer.Option(help="Allow an address that other machines reach, without TLS.")] = False,
) -> None:
    """Run the agent until Ctrl-C: capture, embed, localize, alert, serve."""
    ending.meant()
    from agent.run import build

    loaded = _config(config)
    address = listen or loaded.server.listen
    asyncio.run(_serve(build.live(loaded), address, insecure=insecure or loaded.server.insecure))


@app.command()
def record(
    out: Annotated[Path | None, typer.Option(help="The log to write; default: a new one in record.folder.")] = None,
    config: ConfigPath = None,
    listen: Annotated[str | None, typer.Option(help="host:port instead of the config's.")] = None,
    insecure: Annotated[bool, typer.Option(help="Allow an address that other machines reach, without TLS.")] = False,
) -> None:
    """Run the agent and write everything that it sees and says into a log (MCAP)."""
    ending.meant()
    from agent.log.format import RecordError
    from agent.run import build

    loaded = _config(config)
    if out is None and loaded.record_folder is None:
        raise RecordError("nowhere to record: give --out FILE, or record.folder in the configuration")
    pipeline = build.live(loaded, log_to=out)
    address = listen or loaded.server.listen
    asyncio.run(_serve(pipeline, address, insecure=insecure or loaded.server.insecure))
    assert pipeline.recorder is not None
    report = pipeline.recorder.report()
    dropped = sum(sum(reasons.values()) for reasons in report.drops.values())
    files = f"{report.path}" + (f", the last of {report.parts} files" if report.parts > 1 else "")
    _say(f"{files}: {sum(report.written.values())} messages written, {dropped} dropped")
    if report.error:
        raise RecordError(report.error)
    if report.lost:
        lost = ", ".join(f"{count} {reason}" for reason, count in report.lost.items())
        raise RecordError(report.notice or f"{files}: messages are lost: {lost}")


@app.command()
def replay(
    logs: Annotated[list[Path], typer.Argument(help="Files of one recording, or the folder they lie in.")],
    config: ConfigPath = None,
    speed: Annotated[str | None, typer.Option(help="0.1 to 1000, or max. Default: max; with --serve 1.")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="Seconds from the start, or UTC: 14:05:10.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Likewise.")] = None,
    loop: Annotated[bool, typer.Option(help="Start over at the end.")] = False,
    sensors: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    reuse_embeddings: Annotated[
        bool, typer.Option(help="Alerts from the log's own vectors, without the model.")
    ] = False,
    serve: Annotated[bool, typer.Option(help="Serve as `run` does, to be paused, sought in and stepped.")] = False,
    paused: Annotated[
        bool, typer.Option(help="With --serve: stand at the start until a client lets it go on.")
    ] = False,
    listen: Annotated[str | None, typer.Option(help="With --serve: host:port instead of the config's.")] = None,
    insecure: Annotated[bool, typer.Option(help="Allow an address that other machines reach, without TLS.")] = False,
) -> None:
    """Run the agent on a log, on the log's clock, and print or serve what it says."""
    if serve:
        ending.meant()
    from agent.commands.replay import replay as play
    from agent.commands.replay import replaying

    pipeline = replaying(
        logs,
        None if config is None else _config(config),
        speed=speed or ("1" if serve else "max"),
        begin=begin,
        end=end,
        loop=loop,
        paused=paused,
        sensors=sensors,
        reuse_embeddings=reuse_embeddings,
        serve=serve,
    )
    if serve:
        server = pipeline.config.server
        asyncio.run(_serve(pipeline, listen or server.listen, insecure=insecure or server.insecure))
    else:
        play(pipeline)


@app.command()
def backtest(
    logs: Annotated[list[Path], typer.Argument(help="Logs, or folders of them; several recordings are added up.")],
    query: Annotated[list[str] | None, typer.Option(help="What to watch for; repeat. Default: the config's.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Which may carry it; repeat for several.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score at which alerts begin, 0..1.")] = None,
    config: ConfigPath = None,
    reuse_embeddings: Annotated[bool, typer.Option(help="Score the log's own vectors, without the model.")] = False,
    false_alarms_per_hour: Annotated[
        float | None, typer.Option(help="Suggest a threshold for this rate; all that fired is false unless marked.")
    ] = None,
    true: Annotated[
        list[str] | None, typer.Option(help="When it was there, FROM-TO: 12.5-14, or UTC: 14:05:10-14:05:20; repeat.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write: a page, pictures and sounds of hits.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many hits of each query to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Run new alerts over stored logs: what would have fired, how often, and at which threshold."""
    from agent.commands.backtest import backtest as look_back

    look_back(
        logs,
        query or (),
        modalities=modality or (),  # type: ignore[arg-type]  # the query checks the names
        threshold=threshold,
        config=None if config is None else _config(config),
        reuse_embeddings=reuse_embeddings,
        false_alarms_per_hour=false_alarms_per_hour,
        true=true or (),
        out=out,
        top=top,
        as_json=as_json,
    )


@golden_app.command("record")
def golden_record(log: Path, out: Annotated[Path, typer.Option(help="Folder.")] = Path("tests/data/golden")) -> None:
    """Keep a short log and what the agent says about it, to be compared with from now on."""
    from agent.lab.golden import record as keep

    print(f"{out}: {keep(log, out)} events kept")


@golden_app.command("check")
def golden_check(
    folder: Annotated[Path, typer.Argument()] = Path("tests/data/golden"),
    accept: Annotated[bool, typer.Option(help="Store what is said now: the change is meant.")] = False,
    exact: Annotated[bool, typer.Option(help="Bit for bit, as on the machine that recorded it.")] = False,
) -> None:
    """Replay a kept log and compare field by field with what was said about it."""
    from agent.lab.golden import check

    check(folder, exact=exact, accept=accept)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=5, help="How long.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic scene.")] = 7,
    picture: Annotated[Path | None, typer.Option(help="Write an SVG of the live view.")] = None,
) -> None:
    """Run the agent on a synthetic scene, show it live, and compare what it said with the truth."""
    from agent.commands.demo import show

    ending.run(lambda: show(_config(None, seed), seconds, picture))


@app.command()
def watch(address: Address = DEFAULT_ADDRESS) -> None:
    """Show the events of a running agent."""
    from agent.client import Client
    from agent.commands.terminal import Terminal
    from agent.commands.view import LiveView
    from agent.commands.watching import watch as follow

    async def follow_agent() -> None:
        async with Client(address) as client:
            await follow(client, Terminal(), LiveView(f"sensebind at {address}"))

    ending.run(follow_agent)


@app.command()
def status(address: Address = DEFAULT_ADDRESS) -> None:
    """Print the status of a running agent."""
    from rich.console import Console

    from agent.client import Client
    from agent.commands.view import LiveView

    async def ask() -> None:
        async with Client(address) as client:
            view = LiveView(f"sensebind at {address}")
            view.on_status(await client.status(), {})
            Console().print(view.head(), view.streams())

    ending.run(ask)


@app.command()
def embed(
    text: Annotated[list[str] | None, typer.Option(help="A text; this and what follows may be repeated.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="An image file.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="A video file.")] = None,
    audio: Annotated[list[str] | None, typer.Option(help="A recording: WAV, FLAC, Ogg, MP3.")] = None,
    depth: Annotated[list[str] | None, typer.Option(help="A 16-bit PNG in millimetres.")] = None,
    thermal: Annotated[list[str] | None, typer.Option(help="A 16-bit PNG in hundredths of a kelvin.")] = None,
    imu: Annotated[list[str] | None, typer.Option(help="Lines of ax,ay,az,gx,gy,gz in m/s2 and rad/s.")] = None,
    imu_rate_hz: Annotated[float | None, typer.Option(help="Lines a second of the IMU files.")] = None,
    combine: Annotated[
        str | None, typer.Option(help="Add embeddings up: '0.5*image:beach.jpg + 0.5*audio:rain.wav'.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="imagebind_nano, imagebind-huge once fetched, or a file.")
    ] = "imagebind_nano",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    npz: Annotated[Path | None, typer.Option(help="Write vectors and tables as NumPy arrays.")] = None,
) -> None:
    """Compare texts and files in one space: softmax tables for every pair of modalities."""
    from agent.commands.embed import embed as compare

    compare(
        {
            "text": text or (),
            "image": image or (),
            "video": video or (),
            "audio": audio or (),
            "depth": depth or (),
            "thermal": thermal or (),
            "imu": imu or (),
        },
        combination=combine,
        weights=weights,
        device=device,
        dtype=dtype,
        imu_rate_hz=imu_rate_hz,
        as_json=as_json,
        npz=npz,
    )


@app.command()
def doctor() -> None:
    """List the optional system packages that this machine lacks, and what goes without them."""
    from agent.commands.doctor import optional_packages

    missing = [package for package in optional_packages() if not package.found]
    for package in missing:
        print(f"optional system package {package.package} is missing: {package.without}")
    if not missing:
        print("all optional system packages are there")


def _config(path: Path | None, seed: int | None = None) -> Config:
    from agent.config.parse import load, synthetic

    return synthetic(seed) if path is None else load(path)


async def _serve(pipeline: Run, address: str, *, insecure: bool) -> None:
    """Serve a pipeline until a signal comes, or a fault."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with ending.calling(lambda: loop.call_soon_threadsafe(stop.set)):
        await _serve_until(stop, pipeline, address, insecure=insecure)


async def _serve_until(stop: asyncio.Event, pipeline: Run, address: str, *, insecure: bool) -> None:
    from agent.run.serving import serving

    async with serving(pipeline, address, insecure=insecure) as server:
        _say(f"sensebind listens at {server.address}")
        stopping = asyncio.create_task(stop.wait())
        # When all recordings are over, queries and requests are still answered: only a fault ends what was not stopped.
        for milestone in (server.loaded, server.ended):
            await asyncio.wait({stopping, server.ended, milestone}, return_when=asyncio.FIRST_COMPLETED)
            if server.ended.done():
                server.ended.result()
            if server.loaded.done() and milestone is server.loaded:
                _say(f"sensebind runs {server.loaded.result().name}")
        await stopping


def _say(line: str) -> None:
    """Print a line, which an agent does not end for when nobody reads it any more."""
    with suppress(OSError):
        print(line, flush=True)
