"""The agent."""

import os

# One thread for numpy's products, which are small here. With more, OpenBLAS keeps its threads spinning for 20 ms after
# each of them, and whoever asked for it spins until the other threads have had a core: the model, the drivers and the
# server have those. OpenBLAS reads this when numpy loads it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Threads that spin while they wait for each other take the cores from the drivers, and stand still for seconds whenever
# another process has one: a step of training on two busy cores takes fourteen times as long. OpenMP reads this when
# torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
