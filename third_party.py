"""Writes THIRD_PARTY.md, the licences of all that is installed or shipped: `make licences`.

Licences are those that the installed packages state of themselves (`importlib.metadata`). A package that is listed but
not installed on this machine keeps its row while one that asks for it has one.
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent
PAGE: Final = ROOT / "THIRD_PARTY.md"
OWN: Final = "sensebind"
CORE: Final = ""
"""Group of the packages that every install has; the other groups are the extras."""

DATA: Final = (
    (
        "models/shipped/clip_merges.*",
        "MIT (texts in `models/shipped/clip_merges.LICENSE`)",
        "OpenAI's CLIP, through open_clip_torch 3.3.0: what its tokenizer uses of `bpe_simple_vocab_16e6.txt.gz`",
    ),
    (
        "models/shipped/imagebind_nano.*",
        "Apache-2.0",
        "trained, calibrated and written by this project on its own synthetic world (`models/shipped/README.md`)",
    ),
)
"""Shipped files that are not code (a pattern), their licence and their source."""

INSIDE: Final = (
    ("opencv-python-headless", "FFmpeg (LGPL-2.1-or-later), libvpx, OpenSSL and others: its `LICENSE-3RD-PARTY.txt`"),
    ("soundfile", "libsndfile (LGPL-2.1-or-later): `COPYING` in `_soundfile_data`"),
    ("numpy", "OpenBLAS (BSD-3-Clause), libgfortran (GPL-3.0 with the GCC runtime exception)"),
    ("scipy", "OpenBLAS (BSD-3-Clause), libgfortran (GPL-3.0 with the GCC runtime exception)"),
)
"""Libraries under other licences inside the wheels of direct dependencies."""

_WORDING: Final = {"Permission is hereby granted, free of charge": "MIT", "Apache License": "Apache-2.0"}
"""Words by which the text of a licence is known where a package has only that."""

_HEAD: Final = """\
# Third-party licences

`make licences` writes this page, from what the packages state of themselves in the versions of `constraints.txt`.

sensebind is Apache-2.0 (`LICENSE`) and contains no third-party code. pip installs the packages below, each with its
own licence texts; npm installs `@grpc/grpc-js` and `@grpc/proto-loader` (both Apache-2.0) for `clients/node`.
ImageBind's published weights (CC BY-NC 4.0) are not shipped: `sensebind weights fetch` asks first.
"""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A line of pyproject.toml."""

    requirement: Requirement
    reason: str
    group: str
    """Name of the extra, or CORE."""

    @property
    def name(self) -> str:
        """The package's name as registries compare it."""
        return canonicalize_name(self.requirement.name)


def dependencies() -> list[Dependency]:
    """Return the dependencies of pyproject.toml, the core's first. Raises ValueError for one without a reason."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    groups = {CORE: project["dependencies"]} | project["optional-dependencies"]
    found = []
    for group, lines in groups.items():
        for line in lines:
            requirement = Requirement(line)
            if canonicalize_name(requirement.name) == OWN:
                continue
            reason = re.search(rf'^ *"{re.escape(line)}", *# (.+)$', text, re.M)
            if reason is None:
                raise ValueError(f"pyproject.toml: {line!r} has no comment that says what it is for")
            found.append(Dependency(requirement, reason[1].strip(), group))
    return found


def licence_of(package: Distribution) -> str:
    """Return what the package states of its licence, in one line."""
    fields = package.metadata
    expression, stated = (str(fields[key]) if key in fields else "" for key in ("License-Expression", "License"))
    classifiers = [
        line.split(" :: ")[-1] for line in fields.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    if expression:
        return expression
    if stated and "\n" not in stated:
        return stated
    if classifiers:
        return str(classifiers[-1])
    texts = [stated, *(_text(package, name) for name in fields.get_all("License-File") or [])]
    known = (licence for words, licence in _WORDING.items() if any(words in text for text in texts))
    return next(known, "not stated")


def _text(package: Distribution, name: str) -> str:
    files = (file for file in package.files or [] if str(file).endswith(f"/{name}"))
    return next((Path(str(file.locate())).read_text("utf-8") for file in files), "")


def brought_by(direct: Iterable[Dependency]) -> dict[str, set[str]]:
    """Return the packages that `direct` bring along on this machine, each with the names of those that ask for it."""
    direct = list(direct)
    parents: dict[str, set[str]] = {}
    waiting = deque((dependency.name, frozenset(dependency.requirement.extras)) for dependency in direct)
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.popleft()
        if (name, extras) in done or (package := installed(name)) is None:
            continue
        done.add((name, extras))
        for child in _required(package, extras):
            parents.setdefault(canonicalize_name(child.name), set()).add(name)
            waiting.append((canonicalize_name(child.name), frozenset(child.extras)))
    return {name: by for name, by in parents.items() if name not in {dependency.name for dependency in direct}}


def installed(name: str) -> Distribution | None:
    """Return the package of this environment, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _required(package: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in package.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement


def listed(page: str) -> dict[str, tuple[str, str]]:
    """Return the packages of the page: name -> its licence and the last column."""
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+?) \| (.+?) \|$", page, re.M)
    return {name: (licence, last) for name, licence, last in rows if licence != "licence"}  # the head of a table


def written(old: str) -> str:
    """Return the page as it should be; `old` is the one there is, for packages that are not installed here."""
    direct = dependencies()
    before = listed(old)
    sections = [
        _HEAD,
        "## Shipped data\n",
        _table(("file", "licence", "source"), ((f"`{a}`", b, c) for a, b, c in DATA)),
    ]

    def licence(name: str) -> str:
        package = installed(name)
        return licence_of(package) if package else before.get(name, ("not installed when this was written", ""))[0]

    titles = {CORE: "Packages of every install", "dev": "Packages for development"}
    for group in dict.fromkeys(dependency.group for dependency in direct):
        title = titles.get(group, f"Packages of the extra `{group}`")
        rows = ((d.name, licence(d.name), d.reason) for d in direct if d.group == group)
        sections += [f"## {title}\n", _table(("package", "licence", "for"), rows)]

    everywhere = brought_by(d for d in direct if d.group == CORE)
    elsewhere = {name: by for name, by in brought_by(direct).items() if name not in everywhere}
    for title, found in (("every install", everywhere), ("extras and for development", elsewhere)):
        kept = {name: before[name][1] for name in _absent(old, title) if installed(name) is None and name not in found}
        there = {dependency.name for dependency in direct} | found.keys()
        while gone := {name for name, by in kept.items() if not set(by.split(", ")) & (there | kept.keys())}:
            kept = {name: by for name, by in kept.items() if name not in gone}
        by_name = {name: ", ".join(sorted(by)) for name, by in found.items()} | kept
        rows = ((name, licence(name), by_name[name]) for name in sorted(by_name))
        sections += [f"## Brought along by packages of {title}\n", _table(("package", "licence", "asked for by"), rows)]
    sections += ["## Libraries inside wheels\n", _table(("package", "holds"), INSIDE)]
    return "\n".join(sections)


def _absent(page: str, title: str) -> set[str]:
    section = re.search(rf"^## Brought along by packages of {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    return set(listed(section[1])) if section else set()


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8") if PAGE.exists() else ""), "utf-8")
