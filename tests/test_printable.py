from __future__ import annotations

import logging
import time

import pytest

from agent.commands.view import LiveView
from common.printable import PrintableFormatter, brief, printable, shortened
from protos import perception_pb2 as pb

HOSTILE = "\x1b]0;pwn\x07\x1b[31mred\x9b2J\r\n\u202egnp.exe\u2066\u2028\ud800"


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable(HOSTILE) == (r"\x1b]0;pwn\x07\x1b[31mred\x9b2J\r\n\u202egnp.exe\u2066\u2028\ud800")
    plain = "Hündchen, 犬, مرحبا, 👩‍🚒 [bold] 45°"
    assert printable(plain) == plain


def test_a_value_is_shown_as_it_is_while_it_is_short() -> None:
    for value in ("a", b"a", 1, -2.5, True, None, [1, "a"], {"a": [1, {"b": 2}]}, [], {}):
        assert brief(value) == repr(value)
    assert shortened("a" * 200, 80) == "a" * 77 + "..."


@pytest.mark.parametrize(
    "value",
    [
        "a" * 10**8,
        b"a" * 10**8,
        10**100_000,
        [[0] * 10**6] * 10**6,
        dict.fromkeys(range(10**6), "x" * 10**6),
    ],
    ids=["text", "bytes", "number", "lists", "mapping"],
)
def test_a_large_value_costs_no_more_than_a_small_one(value: object) -> None:
    began = time.process_time()
    assert len(brief(value)) <= 80
    assert time.process_time() - began < 0.5


def test_a_line_of_the_programs_log_is_printable_and_a_traceback_keeps_its_lines() -> None:
    record = logging.LogRecord("agent", logging.WARNING, "", 1, "%s is odd", (HOSTILE,), None)
    line = PrintableFormatter("%(levelname)s %(message)s").format(record)
    assert line.isprintable()
    assert line.startswith(r"WARNING \x1b]0;pwn")
    try:
        raise ValueError("x")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "\nValueError: x" in PrintableFormatter("%(message)s").format(record)


def test_what_an_agent_says_cannot_steer_the_terminal() -> None:
    from io import StringIO

    from rich.console import Console

    view, out = LiveView("agent"), StringIO()
    health = pb.StreamHealth(sensor=f"[red]{HOSTILE[:-1]}", reason=HOSTILE[:-1])
    status = pb.Status(streams=[health], model=HOSTILE[:-1], device=HOSTILE[:-1])
    status.recording.reason = HOSTILE[:-1]
    view.on_status(status, {"dog": HOSTILE[:-1]})
    view.on_event(pb.Event(health=health))
    window = pb.WindowEmbedding(sensor="camera", missing_reason=HOSTILE[:-1])
    view.on_event(pb.Event(embedding=pb.Embedding(windows=[window])))
    Console(file=out, width=400).print(view.render())
    said = out.getvalue()
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "[red]" in said, "a name is no markup"
    assert said.count(r"\x1b]0;pwn") >= 5
