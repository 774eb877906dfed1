"""The one fault of media files, and the check that comes before every reader."""

from __future__ import annotations

import os

from common.errors import UserFault

FilePath = str | os.PathLike[str]


class MediaError(UserFault, ValueError):
    """A file cannot be read as what it should be; one line: which file, what is wrong, what to do."""


def check_file(path: FilePath) -> None:
    """Raise MediaError unless this is a file that may be read."""
    if not os.path.isfile(path):
        raise MediaError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from None


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, without a full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
