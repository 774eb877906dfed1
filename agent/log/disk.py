"""A new file that grows at its end and is synced in the background, so that its writer never waits for the disk.

Written bytes survive a killed process at once. They survive a power cut once they are synced: a few milliseconds after
each `sync` on a flash disk, as soon as possible on a slow one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import Literal

from common import private_files
from common.descriptors import RESERVE

log = logging.getLogger(__name__)

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Whereabouts = Literal["there", "moved", "deleted", "changed"]
"""`moved`: under another name. `changed`: another program wrote to it, or cut it."""


class NewFile:
    """A file that did not exist before. It is locked while it is open, so that nobody takes it for an old one.

    To be used by one thread. `write` raises OSError, also for what went wrong with an earlier `sync`.
    """

    def __init__(self, path: Path) -> None:
        """Create it. Raises OSError, as FileExistsError when there is one."""
        self.path = path
        self.size = 0
        # Appending, so that a file that another program truncated has no hole.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = RESERVE.open(lambda: private_files.opener(str(path), flags))
        self._changed = threading.Condition()
        self._unsynced = True
        self._closing = False
        self._error: OSError | None = None
        with contextlib.suppress(OSError):  # a file system without locks has nothing to tell other processes by
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._thread = threading.Thread(target=self._keep_safe, name="log-sync", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Append all of `data`. When that fails part of it may be there; `cut_back` takes it off again."""
        if self._error:
            raise self._error
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def cut_back(self, size: int) -> None:
        """Take off what stands behind `size`."""
        os.ftruncate(self._fd, size)
        self.size = size

    def look(self) -> Whereabouts:
        """Say what another program has made of it, before `close`. When it was moved, `path` is its new name.

        Raises OSError.
        """
        mine = os.fstat(self._fd)
        if mine.st_nlink == 0:
            return "deleted"
        if mine.st_size != self.size:
            return "changed"
        with contextlib.suppress(OSError):
            found = os.stat(self.path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                return "there"
        path = Path(os.readlink(f"/proc/self/fd/{self._fd}"))
        if path.name.startswith(".nfs"):  # as NFS keeps a file that was deleted while it is open
            return "deleted"
        if path == Path(os.path.abspath(self.path)):  # a file system whose numbers are not steady
            return "there"
        self.path = path
        return "moved"

    def sync(self) -> None:
        """Ask for what was written so far to be made safe; returns at once."""
        with self._changed:
            self._unsynced = True
            self._changed.notify()

    def close(self, timeout_s: float | None = 0.0) -> bool:
        """Sync the file a last time and close it; return whether that was done in time. May be called again."""
        with self._changed:
            self._closing = self._unsynced = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _keep_safe(self) -> None:
        with contextlib.suppress(OSError):  # a file system that cannot sync folders needs no sync of names
            _sync_folder(self.path.parent)
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._unsynced)
                closing, self._unsynced = self._closing, False
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                if self._error is None:
                    log.error("%s: not synced to the disk: %s", self.path, error.strerror)
                self._error = error
        RESERVE.close(self._fd)


def in_use(path: Path) -> bool:
    """Return whether a `NewFile` here or in another process still writes to a path."""
    try:
        fd = RESERVE.open(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(fd)
    return False


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
