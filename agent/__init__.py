"""The agent."""

import os

# One thread for numpy's products, which are small here. With more, OpenBLAS keeps its threads spinning for 20 ms after
# each of them, and whoever asked for it spins until the other threads have had a core: the model, the drivers and the
# server have those. OpenBLAS reads this when numpy loads it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
