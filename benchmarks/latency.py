"""How long from the end of a window to its event at a subscriber, and from start to the first event?

    python -m benchmarks.latency [--seconds 60]

Runs the agent live on the synthetic scene (five sensors in processes of their own) with one subscriber over loopback,
and prints the time on the model beside everything else: settled window -> event received, less the time on the model.
The floor of the machine is a bare round trip over the same kind of connection.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from agent.client import Client
from agent.config import synthetic
from agent.pipeline import Pipeline
from agent.server.serving import serving


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    asyncio.run(measure(parser.parse_args().seconds))


async def measure(seconds: float) -> None:
    """Run and print."""
    began = time.monotonic()
    pipeline = Pipeline.live(synthetic())
    inference, overhead, capture = [], [], []
    first_s = 0.0
    async with serving(pipeline, "127.0.0.1:0") as server, Client(server.address) as client:
        await server.loaded
        async for event in client.subscribe(kinds=["embedding"], vectors=True):
            received_ns = pipeline.clock.now_ns()
            first_s = first_s or time.monotonic() - began
            embedding = event.embedding
            inference.append(embedding.inference_ms)
            overhead.append((received_ns - embedding.settled_ns) / 1e6 - embedding.inference_ms)
            capture.append((received_ns - max(window.newest_ns for window in embedding.windows)) / 1e6)
            if time.monotonic() - began > seconds:
                break
        trips = [await round_trip_ms(client) for _ in range(200)]
        status = await client.status()
    shed = sum(status.ticks_shed.values())
    print(f"{status.ticks_produced} ticks: {status.ticks_delivered} delivered, {shed} shed {dict(status.ticks_shed)}")
    print(f"start -> first event                   {first_s:8.1f} s")
    for name, values in (
        ("time on the model, per tick", inference),
        ("settled window -> event, beyond the model", overhead),
        ("newest sample -> event", capture),
        ("floor: one unary call over loopback", trips),
    ):
        print(f"{name:42} p50 {statistics.median(values):7.1f}  p99 {quantile(values, 0.99):7.1f} ms")


async def round_trip_ms(client: Client) -> float:
    """One call that the agent answers at once."""
    began = time.perf_counter()
    await client.list_queries()
    return (time.perf_counter() - began) * 1e3


def quantile(values: list[float], q: float) -> float:
    """The value below which a share q lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


if __name__ == "__main__":
    main()
