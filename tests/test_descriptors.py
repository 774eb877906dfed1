"""The reserve of file descriptors, with real limits and real descriptors, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CHECKOUT = TESTS.parent

BEGIN = f"""
import errno, os, resource, sys
sys.path[:0] = [{str(CHECKOUT)!r}, {str(TESTS)!r}]
from common.descriptors import RESERVE, Reserve, raise_limit

def hold_all():
    held = []
    while True:
        try:
            held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return held
"""


def in_a_process(code: str, limit: tuple[int, int]) -> str:
    """Run code under a soft and a hard limit of open files; what it printed."""
    begin = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {limit})\n" + BEGIN
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_limit_is_raised_to_what_the_user_may_have() -> None:
    told = in_a_process("raise_limit(); print(resource.getrlimit(resource.RLIMIT_NOFILE))", (100, 300))
    assert told.strip() == "(300, 300)"


def test_what_must_go_on_can_open_files_when_others_hold_all() -> None:
    code = """
RESERVE.keep(12)
others = hold_all()
def ten():
    opened = []
    try:
        for _ in range(10):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return opened
for _ in range(3):
    opened = RESERVE.open(ten, 10)
    others += hold_all()      # whoever comes takes what is free
    assert RESERVE.held == 2, RESERVE.held
    for fd in opened:
        RESERVE.close(fd)
        others += hold_all()  # and nobody comes between
    assert RESERVE.held == 12, RESERVE.held
try:
    RESERVE.open(lambda: os.open("/no/such/file", os.O_RDONLY))
except OSError as error:
    print(error.strerror)
"""
    assert in_a_process(code, (100, 100)).strip() == "No such file or directory"


def test_a_reserve_is_filled_again_when_there_is_room() -> None:
    code = """
RESERVE.keep(10)
others = hold_all()
fd = RESERVE.open(lambda: os.open("/dev/null", os.O_RDONLY))
assert RESERVE.held == 9
os.close(others.pop())
RESERVE.fill()
assert RESERVE.held == 10
os.close(others.pop())
RESERVE.close(fd)
assert RESERVE.held == 10
print(len(hold_all()))
"""
    assert in_a_process(code, (100, 100)).strip() == "2"


def test_of_few_descriptors_few_are_kept() -> None:
    assert in_a_process("RESERVE.keep(24); print(RESERVE.held)", (40, 40)).strip() == "5"


def test_a_dead_driver_is_replaced_while_others_hold_every_descriptor() -> None:
    code = """
import signal, time
from test_capture import Rig, spec
from faulty_drivers import FaultyOptions
RESERVE.keep()
rig = Rig(spec("left", FaultyOptions()), spec("right", FaultyOptions()))
rig.capture.start()
rig.poll_until_received("left", 5)
others = hold_all()
for _ in range(4):
    rig.samples.clear()  # a frame that is kept keeps its memory mapped, which takes a descriptor
    os.kill(rig.pid("left"), signal.SIGKILL)
    rig.poll_until(lambda: rig.capture.reports()["left"].state == "lost")
    others += hold_all()
    rig.poll_until_received("left", 5)
    others += hold_all()
print(rig.capture.reports()["left"].restarts, RESERVE.held >= 18)
rig.capture.stop()
"""
    assert in_a_process(code, (300, 300)).split() == ["4", "True"]


def test_without_any_descriptor_a_start_fails_leaks_nothing_and_heals_by_itself() -> None:
    code = """
import logging
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
from test_capture import Rig, spec
from faulty_drivers import FaultyOptions
import numpy as np
rig = Rig(spec("left", FaultyOptions()))
others = hold_all()
starts = 0
back_off = rig.capture._sensors["left"]._back_off
for room in range(8):           # the start fails at another place each time
    back_off.reset()            # the longer waits are for users
    rig.poll_until(lambda: back_off.attempts > 0)
    assert len(hold_all_of := hold_all()) == room, (room, len(hold_all_of))
    for fd in hold_all_of:
        os.close(fd)
    os.close(others.pop())
report = rig.capture.reports()["left"]
print(report.state, report.restarts)
for fd in others:
    os.close(fd)
rig.poll_until_received("left", 5)
print(rig.capture.reports()["left"].state)
rig.capture.stop()
"""
    told = in_a_process(code, (64, 64)).splitlines()
    assert told[0] == (
        "left: no free file descriptor to start its driver with; raise the limit with ulimit -n or LimitNOFILE="
    )
    assert told[1:] == ["lost 0", "running"]
