"""What the agent tells the numerical libraries about their threads, before it loads them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agent.config.parse import synthetic
from agent.run import build

TELL = """
import sys
import agent
assert "numpy" not in sys.modules
import os
print(os.environ["OPENBLAS_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"])
"""


SET = ("OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("own", "told"), [({}, ["1", "PASSIVE"]), ({SET[0]: "3"}, ["3", "PASSIVE"]), ({SET[1]: "ACTIVE"}, ["1", "ACTIVE"])]
)
def test_threads_of_numpy_and_torch_leave_the_cores_to_others_unless_the_user_wants_more(
    own: dict[str, str], told: list[str]
) -> None:
    others = {name: value for name, value in os.environ.items() if name not in SET}
    done = subprocess.run([sys.executable, "-c", TELL], env=others | own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == told


def test_threads_of_a_live_run_need_not_wait_long_for_each_other() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.25)
    try:
        build.live(synthetic(11)).stop()
        assert sys.getswitchinterval() < 0.005, "Python's own interval"
    finally:
        sys.setswitchinterval(before)
