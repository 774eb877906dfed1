"""Who may do what with files."""

from __future__ import annotations

import stat
from pathlib import Path


def others_may(path: Path) -> dict[str, str]:
    """Files and folders that other users may do anything with, a folder's content included."""
    found = [path, *path.rglob("*")]
    return {str(p): stat.filemode(p.stat().st_mode) for p in found if p.stat().st_mode & 0o077}
