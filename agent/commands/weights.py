"""`sensebind weights`: fetch, import, list, verify, path, export, calibrate. Others work; this file asks and prints."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.commands.progress import show_progress
from common.errors import UserFault
from common.printable import printable, say

if TYPE_CHECKING:
    from models.files.published_weights import Published, Report
    from models.imagebind import Sizes

weights_app = typer.Typer(help="Fetch, import, list, verify and export model weights.", no_args_is_help=True)

HUGE_NAME: Final = "imagebind-huge"
NOT_STATED: Final = "not stated"
_DOING: Final = {"download": "downloading", "check": "checking", "import": "converting"}


class WeightsError(UserFault):
    """A command on weights cannot be carried out; the message is one line."""


class Dtype(StrEnum):
    """Type in which weights are stored."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Format(StrEnum):
    """File formats of an export."""

    ONNX = "onnx"


DtypeOption = Annotated[Dtype, typer.Option(help="Type to store: float32 (exact), bfloat16 or float16.")]
SizesOption = Annotated[
    Path | None,
    typer.Option(
        help="JSON file with the arguments of the published constructor, such as sizes.json. Default: Huge's."
    ),
]


@weights_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="imagebind-huge, or another name together with --url.")],
    url: Annotated[
        str | None, typer.Option(help="Address of the .pth, such as https://example.org/imagebind_huge.pth.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that the file must have: 64 hexadecimal digits.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the weights without being asked.")
    ] = False,
    dtype: DtypeOption = Dtype.FLOAT32,
    sizes: SizesOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloaded .pth after the import.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Download again, even if the store has them.")] = False,
) -> None:
    """Download published weights into the store. An interrupted download resumes."""
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256 := sha256.lower()):
        raise WeightsError(f"--sha256: {sha256!r:.80} is not 64 hexadecimal digits")
    from models.files.store import Store, key_of

    if url is None and key_of(name) != HUGE_NAME:
        raise WeightsError(f"{name}: only {HUGE_NAME} has an address that is known; add --url")

    import torch

    from models.files import published_weights

    store, stored_as = Store(), getattr(torch, dtype)
    offer = _offer(name, url, sizes)
    if not again and (there := published_weights.held(store, offer.name, sha256, stored_as)):
        print(f"{offer.name} is in the store already: {there}; to download it again, add --again")
        return
    _agree(offer, accept_licence)
    with _progress() as report:
        folder = published_weights.fetch(
            store, offer, sha256=sha256, dtype=stored_as, keep=keep, again=again, report=report
        )
    print(f"{offer.name}: {folder}\nSHA-256 of the file: {store.describe(name).source_sha256}")


@weights_app.command("import")
def import_weights(
    file: Annotated[
        Path, typer.Argument(help="The published .pth, such as imagebind_huge.pth, or one of the same layout.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name in the store, such as my-model. Default: imagebind-huge.")
    ] = None,
    dtype: DtypeOption = Dtype.FLOAT32,
    sizes: SizesOption = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence, such as Apache-2.0. Default: that of imagebind-huge.")
    ] = None,
) -> None:
    """Import a .pth file from this machine into the store."""
    if sizes is not None and name is None:
        raise WeightsError(
            "--sizes: weights of other sizes are not imagebind-huge; add --name, such as --name my-model"
        )
    if not file.is_file():
        raise WeightsError(f"{file}: no such file; give the published .pth")

    import torch

    from models.files import published_weights
    from models.files.store import Store
    from models.imagebind import HUGE

    huge = published_weights.IMAGEBIND_HUGE
    store, name = Store(), name or huge.name
    with _progress() as report:
        folder = published_weights.import_file(
            store,
            file,
            name,
            sizes=_sizes(sizes) if sizes else HUGE,
            licence=licence or (NOT_STATED if sizes else huge.licence),
            dtype=getattr(torch, dtype),
            report=report,
        )
    print(f"{name}: {folder}\nSHA-256 of {file.name}: {store.describe(name).source_sha256}")


@weights_app.command("list")
def list_weights() -> None:
    """List the shipped weights and those in the store."""
    from models.files.description import CheckpointError
    from models.files.store import SHIPPED, Store

    store = Store()
    rows = [("name", "modalities", "dtype", "MB", "licence", "source", "where")]
    for name in [*SHIPPED, *store.names()]:
        try:
            found = store.describe(name)
        except CheckpointError as error:
            print(f"sensebind: {printable(str(error))}", file=sys.stderr)
            continue
        size = f"{found.size_bytes / 1e6:.1f}"
        modalities = ",".join(found.modalities)
        rows.append((found.name, modalities, found.dtype, size, found.licence, found.source, str(found.path)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@weights_app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Name that `weights list` shows. Default: all that it shows.")
    ] = None,
) -> None:
    """Read every byte of weights and compare the hashes with those stored at import; shipped ones have theirs here."""
    from models.files.store import SHIPPED, Store

    store = Store()
    for each in [name] if name is not None else [*SHIPPED, *store.names()]:
        print(f"{each}: intact ({store.verify(each)})")


@weights_app.command()
def path(name: Annotated[str, typer.Argument(help="Name that `weights list` shows, such as imagebind-huge.")]) -> None:
    """Print the folder of stored weights."""
    from models.files.store import Store

    print(Store().folder(name))


@weights_app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name that `weights list` shows, such as imagebind_nano, or a file.")],
    out: Annotated[Path, typer.Option(help="Folder to write, such as onnx/; must not exist yet.")],
    format: Annotated[Format, typer.Option(help="File format; only onnx is built.")] = Format.ONNX,  # noqa: ARG001  the only one there is
    modality: Annotated[
        list[str] | None, typer.Option(help="Encoder to export, such as vision; repeatable. Default: all.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Matrix products in float16, for TensorRT.")] = False,
    patches: Annotated[
        bool, typer.Option("--patches", help="Add the vectors of the patches to the vision encoder's outputs.")
    ] = False,
    opset: Annotated[int | None, typer.Option(help="ONNX opset, such as 20. Default: 18.")] = None,
    check: Annotated[bool, typer.Option(help="Run every file with ONNX Runtime and compare it with the model.")] = True,
) -> None:
    """Export one ONNX file per encoder, and check each with ONNX Runtime."""
    from models.files import description, store

    folder = store.find(name)
    description.files_of(folder)

    from models.files import checkpoint
    from models.interop import onnx_export

    model = checkpoint.load(folder, modalities=modality)  # type: ignore[arg-type]  # which names are wrong, it says
    stored = description.metadata(folder)
    facts = {"model": stored.get("model", folder.stem), "weights": description.content_hash(folder)}
    facts |= {key: value for key, value in stored.items() if key in ("licence", "source", "source_sha256")}
    exported = onnx_export.export(
        model,
        out,
        opset=opset if opset is not None else onnx_export.DEFAULT_OPSET,
        half=half,
        patches=patches,
        check=check,
        metadata=facts,
    )
    for tower in exported:
        cosine = "not checked" if tower.cosine is None else f"cosine {tower.cosine:.6f}"
        print(f"{tower.path}  {tower.size_bytes / 1e6:.1f} MB  {cosine}")


@weights_app.command()
def calibrate(
    name: Annotated[str, typer.Argument(help="Name that `weights list` shows, such as imagebind_nano, or a file.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, such as nano.calibration.json. Default: beside the weights.")
    ] = None,
    first_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the first scene; the others follow. Default: 20000.")
    ] = None,
    scenes: Annotated[int | None, typer.Option(min=1, help="Scenes of 60 s, of all sensors. Default: 60.")] = None,
    rides: Annotated[
        int | None, typer.Option(min=0, help="Rides of 10 minutes, of the IMU alone, after the scenes. Default: 12.")
    ] = None,
) -> None:
    """Calibrate the scores of weights on scenes of the synthetic world, as far as that is what they know; minutes."""
    from models.files import calibration, description, store

    description.files_of(store.find(name))
    file = calibration.path_beside(store.find(name)) if out is None else out
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise WeightsError(f"{file}: cannot be written; give another file by --out")

    from agent.config.settings import ModelSettings
    from agent.lab import calibration as lab

    with show_progress() as progress:
        made = lab.calibrate(
            ModelSettings(weights=name),
            first_seed=lab.FIRST_SEED if first_seed is None else first_seed,
            scenes=lab.SCENES if scenes is None else scenes,
            rides=lab.RIDES if rides is None else rides,
            progress=progress,
        )
    calibration.write(made, file)
    say(f"{file}: written")


@weights_app.command()
def limits(
    name: Annotated[str, typer.Argument(help="Name that `weights list` shows, such as imagebind_nano, or a file.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, such as nano.limits.json. Default: beside the weights.")
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; the others follow.")] = 25_000,
    scenes: Annotated[int, typer.Option(min=1, help="Scenes of a minute.")] = 60,
) -> None:
    """Measure when a sound is in view and whether steady noise means anything, on synthetic scenes; minutes."""
    from agent.perceiving.limits import path_beside, write_limits
    from models.files import description, store

    description.files_of(store.find(name))
    file = path_beside(store.find(name)) if out is None else out
    if not file.parent.is_dir():
        raise WeightsError(f"--out {file}: {file.parent} is not a folder; make it, or give another --out")

    from agent.config.settings import ModelSettings
    from agent.lab.limits import measure

    try:
        with show_progress() as progress:
            settings = ModelSettings(weights=name)
            found, provenance = measure(settings, first_seed=first_seed, scenes=scenes, progress=progress)
        write_limits(file, found, provenance)
    except ValueError as error:
        raise WeightsError(f"--scenes {scenes}: {error}") from None
    except OSError as error:
        raise WeightsError(f"{file}: cannot be written ({error.strerror}); give another --out") from None
    say(
        f"{file}: written; {provenance.kept:.1%} of the sounds in view are kept, {provenance.let_through:.1%} of others"
    )


def _offer(name: str, url: str | None, sizes: Path | None) -> Published:
    from models.files.published_weights import IMAGEBIND_HUGE, Published
    from models.files.store import key_of
    from models.imagebind import HUGE

    key = key_of(name)
    huge = key == IMAGEBIND_HUGE.name
    return Published(
        key,
        url or IMAGEBIND_HUGE.url,
        _sizes(sizes) if sizes else HUGE,
        IMAGEBIND_HUGE.licence if huge else NOT_STATED,
    )


def _sizes(path: Path) -> Sizes:
    from models.imagebind import Sizes

    try:
        return Sizes.from_published(json.loads(path.read_bytes()))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{path}: holds no sizes ({' '.join(str(error).split())})") from None


def _agree(offer: Published, accepted: bool) -> None:
    """Show size and licence, and ask for consent. Raises WeightsError when nobody accepts the licence."""
    import torch

    from models.files.published_file import stored_bytes

    terms = f"licence {offer.licence}" + (": non-commercial use only" if "NC" in offer.licence else "")
    if not accepted and not sys.stdin.isatty():
        raise WeightsError(f"{offer.name}: {terms}; nobody is here to accept it: add --accept-licence if you do")
    size_gb = stored_bytes(offer.sizes, torch.float32) / 1e9
    print(f"{offer.name}: {size_gb:.1f} GB from {offer.source}\n{terms}")
    if not accepted and not typer.confirm("Do you accept this licence?"):
        raise WeightsError(f"{offer.name}: the licence was not accepted; nothing is fetched")


@contextmanager
def _progress() -> Iterator[Report]:
    """Show the bytes of each step."""
    with show_progress("B") as progress:
        yield lambda what, done, of: progress(_DOING[what], done, of)
