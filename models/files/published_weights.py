"""From what its authors offer to the store: download, check, convert. Published: ImageBind-Huge.

The SHA-256 of Meta's file is not known here. The first fetch trusts what it gets and the store remembers its hash; a
later fetch that differs is refused, unless the hash that is wanted is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import torch

from models.files import download, published_file
from models.files.description import CheckpointError
from models.files.download import HashMismatch
from models.files.published_file import PublishedFileError
from models.files.store import Store, check_room, new_version, trust
from models.imagebind import HUGE, Sizes

Report = Callable[[str, int, int], None]
"""Gets the present step, the bytes that are done, and their total."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model that is offered somewhere as a `.pth`."""

    name: str
    url: str
    sizes: Sizes
    licence: str

    @property
    def source(self) -> str:
        """The address without what may be secret in it, such as the signature of a link that expires."""
        return urlsplit(self.url)._replace(query="", fragment="").geturl()


IMAGEBIND_HUGE: Final = Published(
    "imagebind-huge", "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth", HUGE, "CC BY-NC 4.0"
)


def fetch(
    store: Store,
    offer: Published,
    *,
    sha256: str | None = None,
    dtype: torch.dtype = torch.float32,
    keep: bool = False,
    again: bool = False,
    report: Report | None = None,
    retries: int = download.RETRIES,
    back_off_s: float = 1.0,
) -> Path:
    """Download a published model and put it into the store; returns its folder.

    `sha256` pins the file; without it, it must be what the first fetch got. `keep` keeps the `.pth`, which is removed
    otherwise. A file that was kept, or that a killed fetch left, is not downloaded anew unless `again` says so. Raises
    DownloadError and CheckpointError.
    """
    with store.changing(offer.name) as place:
        file = place / f"{offer.name}.pth"
        wanted = sha256 or store.trusted(offer.name)
        if again:
            download.remove(file)

        def accept(length: int, left: int) -> None:
            smallest = published_file.stored_bytes(offer.sizes, torch.float16)
            if length < smallest:
                raise CheckpointError(
                    f"{offer.url}: has {length} bytes, and {offer.name} needs {smallest} at least: not the weights"
                )
            check_room(place, left + published_file.stored_bytes(offer.sizes, dtype))

        try:
            found = download.fetch(
                offer.url,
                file,
                sha256=wanted,
                accept=accept,
                progress=_about(report, "download"),
                retries=retries,
                back_off_s=back_off_s,
            )
            folder = _convert(store, place, file, offer, found, dtype, report)
        except HashMismatch as error:
            if sha256 is not None:
                raise
            raise CheckpointError(
                f"{offer.url}: the file has SHA-256 {error.got}, and the first fetch got {error.wanted}; if the new "
                f"one is right, fetch it with --sha256 {error.got}"
            ) from None
        except PublishedFileError:
            download.remove(file)  # the next fetch should not find it and fail again
            raise
        trust(place, found)
        if not keep:
            download.remove(file)
    return folder


def held(store: Store, name: str, sha256: str | None, dtype: torch.dtype) -> Path | None:
    """The folder of the store that a fetch would give, if it is there: from the wanted file, and of this dtype."""
    try:
        found = store.describe(name)
        wanted = sha256 or store.trusted(name) or found.source_sha256
    except CheckpointError:
        return None
    same = found.source_sha256 == wanted and found.dtype == str(dtype).removeprefix("torch.")
    return found.path if same else None


def import_file(
    store: Store,
    path: Path,
    name: str = IMAGEBIND_HUGE.name,
    *,
    sizes: Sizes = HUGE,
    licence: str = IMAGEBIND_HUGE.licence,
    dtype: torch.dtype = torch.float32,
    report: Report | None = None,
) -> Path:
    """Put a published `.pth` into the store; returns its folder, which replaces an earlier one of this name.

    Raises CheckpointError.
    """
    with store.changing(name) as place:
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
        check_room(place, published_file.stored_bytes(sizes, dtype))
        return _convert(store, place, path, Published(name, path.name, sizes, licence), found, dtype, report)


def _convert(
    store: Store, place: Path, file: Path, offer: Published, found: str, dtype: torch.dtype, report: Report | None
) -> Path:
    published_file.check_parts(file, _about(report, "check"))
    facts = {"model": place.name, "source": offer.source, "source_sha256": found, "licence": offer.licence}
    with new_version(place) as folder:
        published_file.convert(file, offer.sizes, folder, dtype, facts, _about(report, "import"))
    return store.folder(offer.name)


def _about(report: Report | None, what: str) -> Callable[[int, int], None]:
    def tell(done: int, of: int) -> None:
        if report is not None:
            report(what, done, of)

    return tell
