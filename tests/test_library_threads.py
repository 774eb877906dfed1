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
print(os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize(("own", "told"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_products_of_numpy_take_one_thread_unless_the_user_wants_more(own: dict[str, str], told: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", TELL], env=others | own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [told]
