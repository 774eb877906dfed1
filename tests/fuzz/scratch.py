"""A file for targets that read one: in memory where the system has a file system there."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path

_SHM = Path("/dev/shm")


GIVEN = "SENSEBIND_FUZZ_FOLDER"
"""In the environment: a folder to use, which whoever started this process removes, however it ends."""


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """One that goes with its context."""
    return tempfile.TemporaryDirectory(prefix="sensebind-fuzz-", dir=_SHM if _SHM.is_dir() else None)


@functools.cache
def folder() -> Path:
    """A folder of this process."""
    if GIVEN in os.environ:
        return Path(os.environ[GIVEN])
    made = new_folder()
    atexit.register(made.cleanup)
    return Path(made.name)


def file(name: str, data: bytes) -> Path:
    """A new file of this name and content; the one before it is gone, but stays whole for whoever has it mapped."""
    path = folder() / name
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path
