from __future__ import annotations

from pathlib import Path

from agent.commands.record import summary_of
from agent.log.recording.report import RecorderReport


def test_the_end_of_a_recording_tells_what_was_written_and_dropped_of_which_sensor() -> None:
    report = RecorderReport(
        "closed",
        "",
        {"/sensors/imu": 40, "/sensors/eye": 7, "/events": 2},
        {"/sensors/eye": {"queue full": 3, "disk": 0}, "/sensors/imu": {}},
        Path("drive_0002.mcap"),
        2,
    )
    assert summary_of(report) == (
        "drive_0002.mcap, the last of 2 files: 49 messages written (events 2, eye 7, imu 40), "
        "3 dropped (eye 3 queue full)"
    )


def test_a_recording_of_nothing_has_a_summary() -> None:
    assert summary_of(RecorderReport("closed", "", {}, {}, Path("drive.mcap"))) == (
        "drive.mcap: 0 messages written, 0 dropped"
    )
