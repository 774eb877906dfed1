"""Fuzz targets: whatever bytes come, what reads them gives a value or a fault of its own kind, soon, in little memory.

    PYTHONPATH=.:tests python -m fuzz [--target mcap] [--executions 1000000] [--seconds 60] [--keep runs/fuzz]

One file a target. Its `one(data)` hands the bytes to what reads them from devices, files and clients, and catches the
faults that are promised there by name; whatever else is raised, an assertion too, is a finding. Its `seeds()` are valid
inputs, written by the program itself; `corpus/TARGET/` keeps inputs that once led somewhere new.
"""
