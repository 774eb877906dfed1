"""Versions of installed packages, each read once: a later look might find no file descriptor to read it with."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def version_of(package: str) -> str:
    """The version of an installed package. Raises PackageNotFoundError."""
    return version(package)
