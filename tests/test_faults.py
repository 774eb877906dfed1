"""Faults: what a guard swallows, counts and logs."""

from __future__ import annotations

import logging
import threading

import pytest

from agent import faults as module
from agent.faults import ELSEWHERE, Faults


def test_a_fault_is_swallowed_counted_and_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with faults.guard("camera"):
                raise IndexError("row 7 of 3\nand more")
        with faults.guard("camera"):
            raise IndexError("row 9 of 3")
        with faults.guard("mic"):
            raise ValueError
    assert faults.counts() == {"camera": 4, "mic": 1}
    assert faults.first("camera") == "IndexError: row 7 of 3"
    assert faults.first("mic") == "ValueError"
    assert faults.first("imu") == ""
    assert len(caplog.records) == 3
    assert "camera" in caplog.text
    assert "Traceback" in caplog.text


def test_what_ends_a_process_passes() -> None:
    faults = Faults()
    for end in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(end), faults.guard("camera"):
            raise end
    assert faults.counts() == {}


def test_messages_kinds_and_places_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KINDS", 5)
    monkeypatch.setattr(module, "PLACES", 4)
    faults = Faults()
    with caplog.at_level(logging.ERROR):
        for number in range(20):
            with faults.guard(f"query {number}"):
                raise ValueError(f"{number} " + "x" * 10_000)
    assert len(caplog.records) == 5
    assert len(faults.first("query 0")) <= len("ValueError: ") + 200
    assert faults.counts() == {f"query {number}": 1 for number in range(4)} | {ELSEWHERE: 16}


def test_threads_lose_no_count() -> None:
    faults = Faults()

    def fail() -> None:
        for _ in range(500):
            with faults.guard("mic"):
                raise ValueError("the same")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults.counts() == {"mic": 2000}


def test_an_exception_without_a_message_of_its_own_is_counted_too() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no message")

    faults = Faults()
    faults.count("mic", Silent())
    assert faults.first("mic") == "Silent"
