"""Files and folders of recordings: only for their owner, from the moment at which they exist.

Modes are given when things are made, so that there is no moment at which others may open them, whatever the umask.
Folders that exist are left as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def opener(path: str, flags: int) -> int:
    """Open a file for `open`: a new file is private. A link in its place is not followed."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def create(path: Path) -> None:
    """Make an empty file, for a library to fill that takes a name only. Raises OSError, also when there is one."""
    os.close(opener(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def write(path: Path, data: bytes) -> None:
    """Write a new file. Raises OSError, also when there is one."""
    with open(path, "xb", opener=opener) as file:
        file.write(data)


def make_folder(path: Path) -> None:
    """Make a folder. Raises OSError, also when there is something."""
    path.mkdir(FOLDER_MODE)


def make_folders(path: Path) -> None:
    """Make a folder, and those above it that are missing. Raises OSError; one that exists is left as it is."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        folder.mkdir(FOLDER_MODE, exist_ok=True)
    path.mkdir(exist_ok=True)  # its error names the obstacle
