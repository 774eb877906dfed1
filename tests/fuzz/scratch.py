"""A file for targets that read one: in memory where the system has a file system there."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

_SHM = Path("/dev/shm")


@functools.cache
def folder() -> Path:
    """A folder of this process, which goes with it."""
    made = tempfile.mkdtemp(prefix="sensebind-fuzz-", dir=_SHM if _SHM.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def file(name: str, data: bytes) -> Path:
    """A new file of this name and content; the one before it is gone, but stays whole for whoever has it mapped."""
    path = folder() / name
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path
