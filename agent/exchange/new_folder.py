"""A folder that appears whole or not at all, and never in an old one's place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.log.format import RecordError
from agent.log.whole_file import check_free
from common import private_files


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which is renamed to `path` when the block ends without an error, and else removed.

    Raises RecordError when there is something already, and in place of any OSError within the block.
    """
    check_free(path)
    # Hidden, and beside it: a rename works only on the same disk.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        private_files.make_folder(unfinished)
        yield unfinished
        unfinished.rename(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}; nothing is left of it") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
