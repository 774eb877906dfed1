"""What the agent tells the numerical libraries about their threads, before it loads them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TELL = """
import sys
import agent
assert "numpy" not in sys.modules
import os
print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""


@pytest.mark.parametrize(("own", "told"), [({}, "4"), ({"OPENBLAS_THREAD_TIMEOUT": "20"}, "20")])
def test_threads_of_numpy_do_not_spin_unless_the_user_wants_them_to(own: dict[str, str], told: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run([sys.executable, "-c", TELL], env=others | own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [told]
