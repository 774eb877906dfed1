"""The command line: `sensebind VERB`. Thin: every command calls a function that a program could call as well.

Imports stand inside the commands, so that `sensebind watch` needs no torch and starts at once. A command that runs
until a signal ends it calls `ending.meant()` first.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.address import DEFAULT_ADDRESS
from agent.collection import defer_collection
from agent.commands.config import config_app
from agent.commands.golden import golden_app
from agent.commands.log import log_app
from agent.commands.options import BeginOption
from agent.commands.queries import Address, query_app
from agent.commands.serving import serve_run
from agent.commands.signals import ending
from agent.commands.telling import tell
from agent.commands.training import evaluate, simulate, train
from agent.commands.weights import weights_app

if TYPE_CHECKING:
    from agent.config.parse import Config


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"sensebind {version('sensebind')}")
        raise typer.Exit


app = typer.Typer(
    help="Embed camera, microphone, depth, thermal and IMU in ImageBind's one space; stream the embeddings, alerts for "
    "text queries and the direction of sound over gRPC. A first look: sensebind demo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(query_app, name="query")
app.add_typer(config_app, name="config")
app.add_typer(golden_app, name="golden")
app.add_typer(log_app, name="log")
app.add_typer(weights_app, name="weights")


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of `sensebind` itself."""


ConfigPath = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML configuration, such as robot.yaml. Default: a synthetic scene."),
]
LogConfigPath = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML configuration, such as robot.yaml. Default: the one stored in the log."),
]
ListenOption = Annotated[
    str | None,
    typer.Option(help="HOST:PORT to serve on, such as 127.0.0.1:50052. Default: the config's server.listen."),
]
InsecureOption = Annotated[
    bool,
    typer.Option(help="Allow an address that other machines can reach, such as 0.0.0.0:50051, without TLS or tokens."),
]


@app.command()
def run(
    config: ConfigPath = None,
    listen: ListenOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Run the agent on live sensors until Ctrl-C: embed, localize sound, raise alerts, and serve over gRPC."""
    ending.meant()
    defer_collection()
    loaded = _config(config)

    from agent.run import build

    address = listen or loaded.server.listen
    asyncio.run(serve_run(build.live(loaded), address, insecure=insecure or loaded.server.insecure))


@app.command()
def record(
    out: Annotated[
        Path | None,
        typer.Option(help="Log to write, such as drive.mcap. Default: a new file in the config's record.folder."),
    ] = None,
    config: ConfigPath = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Length of the recording, such as 30. Default: until Ctrl-C.")
    ] = None,
    listen: ListenOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Run the agent like `run`, and write all samples and events to a log (MCAP)."""
    ending.meant()
    defer_collection()
    from agent.commands.record import summary_of
    from agent.log.format import RecordError

    loaded = _config(config)
    if out is None and loaded.record_folder is None:
        raise RecordError("nowhere to record: give --out FILE, or record.folder in the configuration")

    from agent.run import build

    live = build.live(loaded, log_to=out)
    address = listen or loaded.server.listen
    asyncio.run(serve_run(live, address, insecure=insecure or loaded.server.insecure, seconds=seconds))
    assert live.recorder is not None
    report = live.recorder.report()
    tell(summary_of(report))
    if report.error:
        raise RecordError(report.error)
    if report.lost:
        lost = ", ".join(f"{count} {reason}" for reason, count in report.lost.items())
        raise RecordError(report.notice or f"{report.path}: messages are lost: {lost}")


@app.command()
def replay(
    logs: Annotated[
        list[Path], typer.Argument(help="Log files of one recording, or their folder, such as drive.mcap.")
    ],
    config: LogConfigPath = None,
    speed: Annotated[
        str | None,
        typer.Option(
            help="Multiple of real time from 0.1 to 1000, such as 2, or max. Default: max, or 1 with --serve."
        ),
    ] = None,
    begin: BeginOption = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="End: seconds from the start of the log, such as 42.5, or UTC, such as 14:05:40."),
    ] = None,
    loop: Annotated[bool, typer.Option(help="Start over at the end, until Ctrl-C.")] = False,
    sensors: Annotated[
        str | None, typer.Option(help="Sensors to replay, separated by commas, such as camera,imu. Default: all.")
    ] = None,
    reuse_embeddings: Annotated[
        bool, typer.Option(help="Score the embeddings stored in the log instead of embedding its samples again.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Log to write samples and the new events to, such as again.mcap.")
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(help="Serve over gRPC like `run`; clients can pause, seek and step. Default: print the events."),
    ] = False,
    paused: Annotated[
        bool, typer.Option(help="With --serve: wait at the start until a client resumes the replay.")
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(help="With --serve: HOST:PORT, such as 127.0.0.1:50052. Default: the config's server.listen."),
    ] = None,
    insecure: InsecureOption = False,
) -> None:
    """Run the agent on a recorded log instead of sensors, and print its events or serve them."""
    if serve:
        ending.meant()
        defer_collection()
    from agent.commands.replay import open_replay
    from agent.commands.replay import replay as play

    opened = open_replay(
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
        out=out,
    )
    if serve:
        server = opened.config.server
        asyncio.run(serve_run(opened, listen or server.listen, insecure=insecure or server.insecure))
    else:
        play(opened)


@app.command()
def backtest(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs or folders of logs, such as recordings/. Counts are added up.")
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(
            help='Text to watch for, such as "a dog barking"; repeatable. Default: the queries of the config.'
        ),
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(help="Modality to score: vision, audio, depth, thermal or imu; repeatable. Default: all."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score at which an alert begins, above 0 and up to 1, such as 0.6.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Run queries that hang on words that the model was never trained on.")
    ] = False,
    config: LogConfigPath = None,
    reuse_embeddings: Annotated[
        bool, typer.Option(help="Score the embeddings stored in the log instead of embedding its samples again.")
    ] = False,
    false_alarms_per_hour: Annotated[
        float | None,
        typer.Option(
            help="Suggest a threshold for this many false alarms an hour, such as 0.5; all are false without --true."
        ),
    ] = None,
    true: Annotated[
        list[str] | None,
        typer.Option(
            help="Time of a true event, FROM-TO, such as 12.5-14, or UTC, such as 14:05:10-14:05:20; of one of several "
            'queries: "a dog=12.5-14"; repeatable.'
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for an HTML report, such as report/.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Hits to show for each query, best first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Run queries over recorded logs: count the alerts that would have fired, and suggest a threshold."""
    from agent.commands.backtest import backtest as look_back

    look_back(
        logs,
        query or (),
        modalities=modality or (),  # type: ignore[arg-type]  # the query checks the names
        threshold=threshold,
        force=force,
        config=None if config is None else _config(config),
        reuse_embeddings=reuse_embeddings,
        false_alarms_per_hour=false_alarms_per_hour,
        true=true or (),
        out=out,
        top=top,
        as_json=as_json,
    )


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=5, help="Length of the demo in seconds.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic scene; each gives another one.")] = 7,
    picture: Annotated[Path | None, typer.Option(help="File for a picture of the live view, such as demo.svg.")] = None,
) -> None:
    """Run the agent on a synthetic scene, show it live, then compare its events with the truth."""
    from agent.commands.demo import show

    ending.run(lambda: show(_config(None, seed), seconds, picture))


@app.command()
def watch(address: Address = DEFAULT_ADDRESS) -> None:
    """Show the streams, scores, alerts and audio source of a running agent until Ctrl-C."""
    from agent.client import Client
    from agent.commands.terminal import Terminal
    from agent.commands.view import LiveView
    from agent.commands.watching import watch as follow

    async def follow_agent() -> None:
        async with Client(address) as client:
            await follow(client, Terminal(), LiveView(f"sensebind at {address}"))

    ending.run(follow_agent)


@app.command()
def status(
    address: Address = DEFAULT_ADDRESS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole status as one JSON document.")] = False,
) -> None:
    """Print the model, tick counts and stream health of a running agent, with reasons."""
    from google.protobuf.json_format import MessageToJson
    from rich.console import Console

    from agent.client import Client
    from agent.commands.view import LiveView

    async def ask() -> None:
        async with Client(address) as client:
            told = await client.status()
        if as_json:
            print(MessageToJson(told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
            return
        view = LiveView(f"sensebind at {address}")
        view.on_status(told, {})
        console = Console()
        console.print(view.head(), soft_wrap=True)
        console.print(view.streams())
        if troubles := view.troubles():
            console.print(troubles, soft_wrap=True)

    ending.run(ask)


@app.command()
def embed(
    text: Annotated[
        list[str] | None, typer.Option(help='Text, such as "a dog". This and the next six are repeatable.')
    ] = None,
    image: Annotated[list[str] | None, typer.Option(help="Image file, such as dog.jpg.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="Video file, such as dog.mp4.")] = None,
    audio: Annotated[list[str] | None, typer.Option(help="Sound file: WAV, FLAC, Ogg or MP3.")] = None,
    depth: Annotated[list[str] | None, typer.Option(help="Depth map: 16-bit PNG.")] = None,
    depth_scale_m: Annotated[
        float, typer.Option(help="Metres per count of the depth maps, such as 0.0002 for TUM RGB-D.")
    ] = 0.001,
    thermal: Annotated[list[str] | None, typer.Option(help="Thermal image: 16-bit PNG in 0.01 K.")] = None,
    imu: Annotated[
        list[str] | None,
        typer.Option(
            help="CSV file of ax,ay,az,gx,gy,gz in m/s2 and rad/s, or with units and times as in `log export`."
        ),
    ] = None,
    imu_rate_hz: Annotated[
        float | None, typer.Option(help="Rate of the lines in IMU files without times, in Hz, such as 200.")
    ] = None,
    combine: Annotated[
        str | None,
        typer.Option(help='Weighted sum to compare with, such as "0.5*image:beach.jpg + 0.5*audio:rain.wav".'),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Name that `weights list` shows, such as imagebind-huge, or a file.")
    ] = "imagebind_nano",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU if there is one.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; float16 needs a GPU.")] = "float32",
    scores: Annotated[
        bool, typer.Option(help="Score the texts as alerts do; some hundred prompts are embedded for that.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    npz: Annotated[
        Path | None, typer.Option(help="File for vectors and tables as NumPy arrays, such as out.npz.")
    ] = None,
) -> None:
    """Embed texts and files; print cosines of each pair of modalities, and scores of texts as alerts have them."""
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
        depth_scale_m=depth_scale_m,
        scored=scores,
        as_json=as_json,
        npz=npz,
    )


@app.command()
def doctor() -> None:
    """List the optional system packages that are missing, and the features that need them."""
    from agent.commands.doctor import optional_packages

    missing = [package for package in optional_packages() if not package.found]
    for package in missing:
        print(f"optional system package {package.package} is missing: {package.without}")
    if not missing:
        print("all optional system packages are installed")


for verb in (simulate, train, evaluate):
    app.command()(verb)


def _config(path: Path | None, seed: int | None = None) -> Config:
    from agent.config.parse import load, synthetic

    return synthetic(seed) if path is None else load(path)
