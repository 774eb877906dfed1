"""Summary of a recording that has ended, as `sensebind record` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from agent.log.format import sensor_of
from agent.log.recording.report import RecorderReport
from common.printable import printable


def summary_of(report: RecorderReport) -> str:
    """Return one line: the file, its messages by sensor, and what was dropped of which sensor and why."""
    files = f"{report.path}" + (f", the last of {report.parts} files" if report.parts > 1 else "")
    written = ", ".join(f"{_name(topic)} {count}" for topic, count in sorted(report.written.items()))
    told = f"{files}: {sum(report.written.values())} messages written" + (f" ({written})" if written else "")
    drops = {_name(topic): reasons for topic, reasons in sorted(report.drops.items()) if sum(reasons.values())}
    dropped = ", ".join(f"{name} {_reasons(reasons)}" for name, reasons in drops.items())
    total = sum(sum(reasons.values()) for reasons in drops.values())
    return printable(f"{told}, {total} dropped" + (f" ({dropped})" if dropped else ""))


def _name(topic: str) -> str:
    return sensor_of(topic) or topic.removeprefix("/")


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()) if count)
