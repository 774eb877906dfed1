"""Device files under /dev: is it there, may we open it, does another program hold it."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.driver import DeviceNotFound, DriverError


def check_device_file(path: str, group: str, look: str) -> None:
    """Raise one clear line unless `path` is there and may be read and written.

    `group` is the group that owns such devices on Debian and Ubuntu; `look` is a command that lists them.
    """
    if not os.path.exists(path):
        raise DeviceNotFound(f"{path}: no such device; plug it in, or see what there is with: {look}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise DriverError(f"{path}: permission denied; run: sudo usermod -aG {group} $USER, then log in again")


def holder(path: str) -> str | None:
    """The process that has `path` open, as 'name (process id)'; None when none does or none may be seen.

    Linux only tells about processes of the same user, or of all users to root.
    """
    real_path = os.path.realpath(path)
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        process = descriptors.parent
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.path.realpath(link) == real_path for link in descriptors.iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # the process has ended meanwhile, or belongs to another user
            continue
    return None
