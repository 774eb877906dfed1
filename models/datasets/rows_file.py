"""Rows of tensors on the disk instead of in memory: as many as there is room, at the cost of a page cache."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserFault


class NoRoom(UserFault):
    """The disk does not take the rows; one line: which folder, what is wrong, what to do."""


class RowsFile:
    """Rows of one shape and dtype, appended to a file without a name, which ends with the process.

    Written rather than mapped, so that a full disk is an error and not the end of the process.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder` is on the disk to take; by default that of temporary files (TMPDIR)."""
        self._folder = folder or Path(tempfile.gettempdir())
        self._shape: torch.Size | None = None
        self._dtype = np.dtype(np.float32)
        self._count = 0
        try:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  open until `rows`
        except OSError as error:
            raise self._refused(error) from None

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Give the file up; may be called again."""
        self._file.close()

    def append(self, row: Tensor) -> None:
        """Add a row. Raises NoRoom."""
        values = row.numpy()
        if self._shape is None:
            self._shape, self._dtype = row.shape, values.dtype
        assert (row.shape, values.dtype) == (self._shape, self._dtype)
        try:
            self._file.write(values.tobytes())
        except OSError as error:
            raise self._refused(error) from None
        self._count += 1

    def rows(self) -> Tensor:
        """All rows, [N, ...], at least one, read from the disk where they are used; the last call. Raises NoRoom."""
        assert self._shape is not None
        try:
            with self._file as file:
                file.flush()
                # Copy on write: torch takes no memory that may not be written.
                mapped = np.memmap(file, self._dtype, "c", shape=(self._count, *self._shape))
        except OSError as error:
            raise self._refused(error) from None
        return torch.from_numpy(mapped)

    def _refused(self, error: OSError) -> NoRoom:
        return NoRoom(f"{self._folder}: cannot hold the training examples ({error.strerror}); make room there")
