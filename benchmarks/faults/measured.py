"""What one row of the table of faults gives when it is run.

A row is a file `rowNN_name.py` beside this one. The first line of its docstring says which fault is injected; its
`run()` injects it, on this machine and over loopback only, and returns what was measured beside the bar.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One fault, injected."""

    bar: str
    """What must hold, one line."""
    found: str
    """What was measured, one line with figures and units."""
    met: bool
    """Whether the bar is met."""
