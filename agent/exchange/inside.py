"""Files in a folder that somebody else filled: only those that are really in it are read.

A description may name any path, and an entry may be a link to any other file, a device, or a pipe that never ends.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from agent.log.format import LogError
from common.printable import brief


def entry(folder: Path, name: str) -> Path | None:
    """The path of a file or folder that a relative name stands for, `.` for the folder; None when there is none.

    Raises LogError, which names the entry, for a name that leads out of the folder, by itself or over a link, and for
    what is neither a file nor a folder.
    """
    parts = PurePosixPath(name).parts
    if not name or "\0" in name or name.startswith("/") or ".." in parts:
        raise LogError(f"{folder}: {brief(name)} is not in the folder; give a name in it")
    path = folder
    mode = stat.S_IFDIR
    for part in parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LogError(f"{folder}: {brief(name)} cannot be inspected: {error.strerror}") from None
        if stat.S_ISLNK(mode):
            raise LogError(
                f"{folder}: {brief(name)} is a link, or behind one, and links are not followed; copy it here"
            )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise LogError(f"{folder}: {brief(name)} is neither a file nor a folder")
    return path


def is_link(path: Path) -> bool:
    """Return whether an entry of a folder is none that is read: a link, a device, a pipe."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_entries(folder: Path) -> None:
    """Raise LogError, which names it, when anything in a folder, at any depth, is not a file or a folder."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if is_link(path := Path(parent, name)):
                inner = brief(str(path.relative_to(folder)))
                raise LogError(f"{folder}: {inner} is not a file: links are not followed; copy what it stands for")
