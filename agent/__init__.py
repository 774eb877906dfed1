"""The agent."""

import os

# After each product numpy's OpenBLAS keeps its threads spinning for 2^26 cycles, some 20 ms on a core that the model,
# the drivers and the server would have. OpenBLAS reads this when numpy loads it; 4 is the least that it takes.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
