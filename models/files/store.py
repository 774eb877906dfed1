"""The store: weights on this machine, by name.

    STORE/imagebind-huge/1/vision.safetensors ...    version 1, whole
    STORE/imagebind-huge/.new-x7/                    an import that is running, or was killed
    STORE/imagebind-huge/imagebind-huge.pth.partial  a download that is running, or was cut
    STORE/imagebind-huge/.trusted                    SHA-256 of the file that the first fetch got

STORE is $SENSEBIND_WEIGHTS, or else `weights` in the platform's cache folder of sensebind (Linux: ~/.cache/sensebind).
A version appears by one rename; the highest number counts, and lower ones are removed after that. In names `_` is `-`
and capitals do not matter.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from models.files import description
from models.files.description import SUFFIX, CheckpointError
from models.modalities import MODALITIES

ENVIRONMENT: Final = "SENSEBIND_WEIGHTS"
SHIPPED: Final = {"imagebind-nano": Path(__file__).parents[1] / "shipped" / f"imagebind_nano{SUFFIX}"}
SHIPPED_SHA256: Final = {"imagebind-nano": "c0cfaae3b80bac69fcdedbe0c6a60824d87deda03d116f25ee52cb73666401e7"}
"""Of the files of SHIPPED, whose headers hold no hash."""
FETCH: Final = "sensebind weights fetch imagebind-huge"

TRUSTED: Final = ".trusted"
SHA256: Final = re.compile(r"[0-9a-f]{64}")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights of the store, or shipped ones, and what their files say of themselves."""

    name: str
    path: Path
    modalities: tuple[str, ...]
    dtype: str
    size_bytes: int
    licence: str
    source: str
    source_sha256: str


def find(name: str) -> Path:
    """Return the path of weights: `imagebind-nano` (shipped), a name in the store, or a path.

    A name goes before a path: write `./NAME` for a folder of that name here. Raises CheckpointError with the command
    that gets the weights.
    """
    return Store().find(name)


class Store:
    """A folder of weights; `root` is by default as the module says. Nothing is read or made before it is needed."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or _default_root()

    def find(self, name: str) -> Path:
        """See the function `find`."""
        key = _normal(name)
        if key in SHIPPED:
            return SHIPPED[key]
        if _NAME.fullmatch(key) and (versions := _versions(self.root / key)):
            return versions[-1]
        path = Path(os.path.expanduser(name))
        if path.exists() or path.suffix == SUFFIX or not _NAME.fullmatch(key):
            return path
        raise CheckpointError(
            f"{name}: no weights of this name in {self.root}, and no such file; the shipped ones are "
            f"{', '.join(SHIPPED)}, and `{FETCH}` fetches the published ones"
        )

    def folder(self, name: str) -> Path:
        """Return the folder of a name's weights. Raises CheckpointError for an invalid or unknown name."""
        key = key_of(name)
        if key in SHIPPED:
            return SHIPPED[key]
        if versions := _versions(self.root / key):
            return versions[-1]
        raise CheckpointError(f"{name}: no weights of this name in {self.root}; `{FETCH}` fetches the published ones")

    def names(self) -> list[str]:
        """The names in the store, without shipped ones, in order."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _NAME.fullmatch(p.name) and _versions(p))

    def describe(self, name: str) -> Stored:
        """Return the facts of the weights stored under a name. Raises CheckpointError."""
        path = self.folder(name)
        facts = description.metadata(path)
        return Stored(
            name=key_of(name),
            path=path,
            modalities=tuple(facts["modalities"].split(",")),
            dtype=facts["dtype"],
            size_bytes=sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir())),
            licence=facts.get("licence", "not stated"),
            source=facts.get("source", facts.get("trained_on", "not stated")),
            source_sha256=facts.get("source_sha256", ""),
        )

    def verify(self, name: str) -> Path:
        """Read every byte of some weights; returns where they lie. Raises CheckpointError naming the faulty file."""
        path = self.folder(name)
        if (key := key_of(name)) in SHIPPED:
            _check_shipped(path, SHIPPED_SHA256[key])
            return path
        for file in (path / f"{modality}{SUFFIX}" for modality in MODALITIES) if path.is_dir() else ():
            if not file.is_file():
                raise CheckpointError(f"{file}: is missing; fetch or import {name} again")
        description.verify(path)
        return path

    def trusted(self, name: str) -> str | None:
        """SHA-256 of the file that the first fetch of a name got, if there was one. Raises CheckpointError."""
        path = self.root / key_of(name) / TRUSTED
        try:
            digits = path.read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); remove it to trust the next fetch") from None
        if not SHA256.fullmatch(digits):
            raise CheckpointError(f"{path}: holds no SHA-256; remove it to trust the next fetch")
        return digits

    @contextmanager
    def changing(self, name: str) -> Iterator[Path]:
        """The folder of all versions of a name, for one process at a time, rid of what a killed one left.

        Raises CheckpointError when another process has it, or it cannot be made.
        """
        key = key_of(name)
        if key in SHIPPED:
            raise CheckpointError(f"{name}: these weights are shipped; choose another name")
        place = self.root / key
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = (place / ".lock").open("w")
        except OSError as error:
            raise CheckpointError(f"{place}: cannot be written ({error.strerror}); set {ENVIRONMENT}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckpointError(f"{name}: another process is fetching or importing it; wait for it") from None
            for left in [*place.glob(".new-*"), *_versions(place)[:-1]]:
                shutil.rmtree(left)
            yield place


@contextmanager
def new_version(place: Path) -> Iterator[Path]:
    """An empty folder in `place`, from `Store.changing`, that becomes its current version once it is filled.

    After an error the former version stays. Raises CheckpointError when the disk does not take it.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
        try:
            folder.chmod(0o755)  # the robot may run as another user than the one who fetched
            yield folder
            former = _versions(place)
            number = int(former[-1].name) + 1 if former else 1
            _make_durable(folder)
            os.rename(folder, place / str(number))
            _make_durable(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be written ({error.strerror}); make room, and try again") from None
    for version in former:
        shutil.rmtree(version, ignore_errors=True)  # its readers continue; the next change tries again


def trust(place: Path, sha256: str) -> None:
    """Expect this file from now on whenever the name of `place` is fetched. Raises CheckpointError."""
    partial = place / f"{TRUSTED}.partial"
    try:
        partial.write_text(f"{sha256}\n")
        os.replace(partial, place / TRUSTED)
    except OSError as error:
        raise CheckpointError(f"{partial}: cannot be written ({error.strerror}); make room, and try again") from None


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise CheckpointError unless so much fits on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise CheckpointError(
            f"{folder}: {needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free; make room, or set "
            f"{ENVIRONMENT} to a folder on another disk"
        )


def key_of(name: str) -> str:
    """A name as the store writes it. Raises CheckpointError for what cannot be one, such as a path."""
    key = _normal(name)
    if not _NAME.fullmatch(key):
        raise CheckpointError(
            f"{name!r} is not a name for weights; a name has letters, digits, '.' and '-', at most 64, and begins with "
            "a letter or a digit"
        )
    return key


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _versions(place: Path) -> list[Path]:
    """The whole versions in a folder, the current one last."""
    try:
        found = [p for p in place.iterdir() if re.fullmatch(r"[1-9][0-9]{0,8}", p.name) and p.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read ({error.strerror})") from None
    return sorted(found, key=lambda p: int(p.name))


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_shipped(path: Path, wanted: str) -> None:
    with description.faults_of(path), path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise CheckpointError(f"{path}: damaged, its SHA-256 is {found} and was {wanted}; install sensebind again")


def _default_root() -> Path:
    """The one place that reads the environment variable."""
    set_to = os.environ.get(ENVIRONMENT)
    return Path(set_to).expanduser() if set_to else platformdirs.user_cache_path("sensebind") / "weights"
