"""Fault of an input, and the items of a batch that have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

from torch import Tensor

from common.usual_values import Usual


class PreprocessError(ValueError):
    """An array is not what the modality needs; one line: which, what it is, what it should be.

    `items` maps the index of each unusable item of a batch to its own line, so that a caller can go on without them;
    it is empty when the call as a whole is wrong.
    """

    def __init__(self, message: str, items: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.items = dict(items or {})

    @classmethod
    def of_items(cls, items: Mapping[int, str], batch: int) -> Self:
        """The error of some items of a batch of `batch`; its line names the first."""
        first = min(items)
        place = f"item {first} of {batch}: " if batch > 1 else ""
        others = f" ({len(items) - 1} more items are unusable)" if len(items) > 1 else ""
        return cls(f"{place}{items[first]}{others}", items)


class ItemFaults:
    """Collects what is wrong with the items of a batch; the first fault of an item stands."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._items: dict[int, str] = {}

    def add(self, bad: Tensor, line: Callable[[int], str]) -> None:
        """Mark the items where `bad`, bool [B], is true; `line` says what is wrong with one of them."""
        for i in bad.nonzero().flatten().tolist():
            self._items.setdefault(i, line(i))

    def add_unit(self, line: str, usual: Usual, magnitudes: Tensor) -> None:
        """Mark the items whose magnitudes, [B], look like another unit; `line` has a place for one of them."""
        for i, magnitude in enumerate(magnitudes.tolist()):
            if unit := usual.looks_like(magnitude):
                self._items.setdefault(i, f"{line.format(magnitude)}; the values look like {unit}")

    def refuse(self) -> None:
        """Raise PreprocessError if any item has a fault."""
        if self._items:
            raise PreprocessError.of_items(self._items, self._batch)
