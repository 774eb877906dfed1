"""`sensebind embed`: checks what was asked, and shows or writes what `agent.lab.similarities` found."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from agent.config.settings import Device, Dtype
from agent.lab.inputs import KINDS, Array, Comparison, Item, Kind, SimilarityError, Table
from common.media.fault import check_file
from models.arithmetic import parse
from models.files import description, store

TOY: Final = "imagebind_nano"
_TOY_NOTE: Final = (
    "note: imagebind_nano is a toy that knows thirteen kinds of things of a synthetic world; for real pictures, "
    "recordings and words: --weights imagebind-huge"
)


def embed(
    given: Mapping[Kind, Sequence[str]],
    *,
    combination: str | None = None,
    weights: str = TOY,
    device: str = "auto",
    dtype: str = "float32",
    imu_rate_hz: float | None = None,
    depth_scale_m: float = 0.001,
    scored: bool = True,
    as_json: bool = False,
    npz: Path | None = None,
) -> None:
    """Embed texts and files and print tables, or one JSON document; `npz` names a file to write the arrays to.

    Only the result goes to stdout; notes and warnings go to stderr. Raises SimilarityError, CombinationError,
    MediaError, DriverError, CheckpointError, DeviceError.
    """
    items = [Item(kind, name) for kind in KINDS for name in given.get(kind, ())]
    terms = [] if combination is None else parse(combination, list(KINDS))
    place: Device = _choice("--device", device, get_args(Device))
    precision: Dtype = _choice("--dtype", dtype, get_args(Dtype))
    if not items and not terms:
        raise SimilarityError("nothing to embed; try --text 'A dog.' --text 'A car' --image dog.jpg --audio dog.wav")
    for text in [*given.get("text", ()), *(term.name for term in terms if term.kind == "text")]:
        if not text.strip() or text != _printable(text):
            raise SimilarityError(
                f"--text {_printable(text)!r} is {'not UTF-8' if text.strip() else 'empty'}; give it words"
            )
    if not (as_json or npz or (items and terms) or len({item.modality for item in items}) > 1):
        raise SimilarityError("nothing to compare; give another modality too, or --json or --npz for the vectors alone")
    if not depth_scale_m > 0:
        raise SimilarityError(f"--depth-scale-m: is {depth_scale_m:g}; give metres per count, such as 0.001")
    if npz is not None and os.path.lexists(npz):
        raise SimilarityError(f"{npz}: exists already; choose another place, or remove it first")

    file = store.find(weights)
    description.metadata(file)
    files = [item.name for item in items if item.kind != "text"]
    for name in (*files, *(term.name for term in terms if term.kind != "text")):
        check_file(name)

    from agent.lab.similarities import compare  # torch: seconds

    toy = file == store.find(TOY)
    found = compare(
        items,
        terms,
        weights=weights,
        device=place,
        dtype=precision,
        imu_rate_hz=imu_rate_hz,
        depth_scale_m=depth_scale_m,
        scored=scored,
    )
    notes = [_TOY_NOTE] if toy else []
    if found.unknown_words:
        notes.append(f"warning: the model was never trained on: {', '.join(map(_printable, found.unknown_words))}")
    for note in notes:
        print(f"sensebind: {note}", file=sys.stderr)
    if npz is not None:
        _write(npz, _arrays(found))
    if as_json:
        print(json.dumps({"notes": notes, **_document(found)}))
    else:
        _show(found, combination or "")


def _choice(option: str, value: str, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise SimilarityError(f"{option} is {value!r}; it must be one of {', '.join(choices)}")
    return value


def _show(found: Comparison, combination: str) -> None:
    console = Console(highlight=False)
    for table in found.tables:
        console.print(_grid(table, "cosine", table.cosines))
        if table.scores is not None:
            console.print(_grid(table, "score as in alerts, 0 to 1", table.scores))
    if found.combined is not None and found.items:
        grid = Grid("", "", "cosine", title=_plain(combination), title_justify="left")
        for i in np.argsort(-found.combined.similarity, kind="stable"):
            item = found.items[i]
            grid.add_row(item.kind, _plain(item.name), f"{found.combined.similarity[i]:.3f}")
        console.print(grid)


def _grid(table: Table, unit: str, values: Array) -> Grid:
    """A table for people; the largest of each row of several stands out."""
    title = f"{table.rows.capitalize()} x {table.columns.capitalize()}: {unit}"
    grid = Grid("", title=title, title_justify="left")
    for name in table.column_names:
        grid.add_column(_plain(name), justify="right", overflow="fold")
    for name, row in zip(table.row_names, values, strict=True):
        best = row.max() if len(row) > 1 else None
        cells = [Text(f"{value:.3f}", style="bold" if value == best else "") for value in row]
        grid.add_row(_plain(name), *cells)
    return grid


def _document(found: Comparison) -> dict[str, Any]:
    """Return the document that `--json` prints."""
    document: dict[str, Any] = {
        "model": found.model,
        "inputs": [
            {"kind": item.kind, "modality": item.modality, "name": _printable(item.name), "vector": _numbers(vector)}
            for item, vector in zip(found.items, found.vectors, strict=True)
        ],
        "tables": [
            {
                "rows": table.rows,
                "columns": table.columns,
                "row_names": [_printable(name) for name in table.row_names],
                "column_names": [_printable(name) for name in table.column_names],
                "cosines": [_numbers(row) for row in table.cosines],
                "scores": None if table.scores is None else [_numbers(row) for row in table.scores],
                "products": [_numbers(row) for row in table.products],
                "softmax": [_numbers(row) for row in table.softmax],
            }
            for table in found.tables
        ],
    }
    if found.combined is not None:
        document["combined"] = {
            "terms": [asdict(term) | {"name": _printable(term.name)} for term in found.combined.terms],
            "vector": _numbers(found.combined.vector),
            "similarity": _numbers(found.combined.similarity),
        }
    return document


def _arrays(found: Comparison) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays that `--npz` writes: inputs, those of each pair of modalities, and the combination."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "kinds": np.array([item.kind for item in found.items], np.str_),
        "names": np.array([_printable(item.name) for item in found.items], np.str_),
        "vectors": found.vectors,
    }
    for table in found.tables:
        arrays[f"{table.rows}_x_{table.columns}"] = table.softmax
        arrays[f"{table.rows}_x_{table.columns}_products"] = table.products
        arrays[f"{table.rows}_x_{table.columns}_cosines"] = table.cosines
        if table.scores is not None:
            arrays[f"{table.rows}_x_{table.columns}_scores"] = table.scores
    if found.combined is not None:
        arrays["combined"] = found.combined.vector
        arrays["combined_similarity"] = found.combined.similarity
    return arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """The file appears whole or not at all, and takes the place of none."""
    partial = path.parent / f".{path.name}.partial"
    try:
        with partial.open("wb") as file:  # given a path, NumPy would append .npz to the name
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes every name for an option of its own
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):  # it may never have been there
            partial.unlink()
        raise SimilarityError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def _numbers(values: Array) -> list[float]:
    """Return floats with as few digits as give the same float32 again."""
    return [float(str(value)) for value in values]


def _plain(name: str) -> Text:
    """Return text that is not markup: a name may hold square brackets."""
    return Text(_printable(name), overflow="fold")


def _printable(name: str) -> str:
    """A file's name may hold bytes that are no UTF-8."""
    return name.encode(errors="replace").decode()
