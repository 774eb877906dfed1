"""The commands of `sensebind config`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import UserFault
from common.printable import printable, say

if TYPE_CHECKING:
    from agent.config.parse import Config

config_app = typer.Typer(help="Check a configuration.", no_args_is_help=True)


class ProbeError(UserFault):
    """Sensors of a configuration give nothing."""


@config_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="YAML configuration, such as robot.yaml.")],
    probe: Annotated[
        bool, typer.Option("--probe", help="Open every sensor for some seconds, and look for the weights.")
    ] = False,
    patience: Annotated[float, typer.Option(min=0.5, help="With --probe: longest wait in seconds, such as 20.")] = 10.0,
) -> None:
    """Read a configuration as `run` does, and print all that is wrong with it; nothing is started without --probe."""
    from agent.config.parse import load

    config = load(file)
    say(f"{file}: no fault; sensors: {', '.join(config.sensors)}; queries: {len(config.queries)}")
    if probe:
        _probe(config, patience)


def _probe(config: Config, patience_s: float) -> None:
    from agent.lab.probe import probe

    logging.getLogger("agent.capture").setLevel(logging.ERROR)  # what it would say is printed below
    silent = []
    for found in probe(config.specs, patience_s):
        name = printable(found.sensor)
        if found.error:
            silent.append(found.sensor)
            print(f"{name}: {printable(found.error)}")
        else:
            stream = config.streams[found.sensor]
            shape = " x ".join(map(str, found.shape))
            print(f"{name}: {stream.modality} of {shape}, {found.rate_hz:.1f} of {stream.rate_hz:g} Hz")
    from models.files.store import find

    print(f"weights: {printable(str(find(config.model.weights)))}")
    if silent:
        raise ProbeError(f"{len(silent)} of {len(config.sensors)} sensors give nothing: {', '.join(silent)}")
