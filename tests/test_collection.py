from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from agent.collection import defer_collection, resume_collection
passes = []
gc.callbacks.append(lambda phase, info: passes.append(info["generation"]) if phase == "start" else None)
usual = gc.get_threshold()
defer_collection()
kept = [[n] for n in range(200_000)]
during = len(passes)
oldest = passes.count(2)
resume_collection()
print(during, oldest, gc.get_freeze_count() >= 200_000, gc.get_threshold() == usual)
passes.clear()
more = [[n] for n in range(200_000)]
print(len(passes) > 100)
"""


def test_a_start_is_hardly_looked_through_and_what_it_brought_in_never_again() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    during, *rest = told
    assert int(during) <= 4  # with the usual thresholds it is 285
    assert rest == ["0", "True", "True", "True"]
