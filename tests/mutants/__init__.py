"""Faults that the tests must notice: one line of the source is changed, and the tests named beside it must fail."""
