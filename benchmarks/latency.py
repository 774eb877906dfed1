"""How long from the end of a window to its event at a subscriber, and from start to the first event?

    python -m benchmarks.latency [--seconds 60]
    python -m benchmarks.latency --against REV [--rounds 4] [--seconds 60]

Runs the agent live on the synthetic scene (five sensors in processes of their own) with one subscriber over loopback,
and prints the time on the model beside everything else: settled window -> event received, less the time on the model.
The floor of the machine is a bare round trip over the same kind of connection.

With --against, this tree and a revision are measured in turn by the code of this file, on the same scene, and every
figure of the one is divided by the other's of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass

from agent.client import Client
from agent.config.parse import synthetic
from agent.run import build
from agent.run.serving import serving

SEED = 7


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run gave: times in milliseconds, one a tick."""

    inference: list[float]
    overhead: list[float]
    """From the settled window to its event at the subscriber, less the time on the model."""
    capture: list[float]
    """From the newest sample to the event."""
    trips: list[float]
    """Of unary calls that are answered at once."""
    first_s: float
    """From start to the first event."""
    cpu_s: float
    """Processor time of a tick: of the agent and this subscriber, without the processes of the sensors."""
    ticks: str
    """How many there were, and what became of them."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--against", metavar="REV", help="a commit of this repository to be measured in turn with it")
    parser.add_argument("--rounds", type=int, default=4, help="of both, with --against")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.against:
        from benchmarks.two_versions import compare

        compare(asked.against, asked.rounds, asked.seconds)
        return
    run = asyncio.run(measure(asked.seconds))
    if asked.json:
        print(json.dumps(asdict(run)))
        return
    print(f"{run.ticks}; {run.cpu_s * 1e3:.1f} ms of processor time each")
    print(f"start -> first event                   {run.first_s:8.1f} s")
    for name, values in (
        ("time on the model, per tick", run.inference),
        ("settled window -> event, beyond the model", run.overhead),
        ("newest sample -> event", run.capture),
        ("floor: one unary call over loopback", run.trips),
    ):
        print(f"{name:42} p50 {statistics.median(values):7.1f}  p99 {quantile(values, 0.99):7.1f} ms")


async def measure(seconds: float) -> Measured:
    """Start, and run for a while from the first tick that has every window."""
    began = time.monotonic()
    pipeline = build.live(synthetic(SEED))
    inference, overhead, capture = [], [], []
    first_s = cpu_s = until = 0.0
    async with serving(pipeline, "127.0.0.1:0") as server, Client(server.address) as client:
        await server.loaded
        async for event in client.subscribe(kinds=["embedding"], vectors=True):
            received_ns = pipeline.clock.now_ns()
            embedding = event.embedding
            first_s = first_s or time.monotonic() - began
            if not inference and not all(window.present for window in embedding.windows):
                continue  # windows fill for some seconds, in which a tick costs less
            if not inference:
                cpu_s, until = time.process_time(), time.monotonic() + seconds
            inference.append(embedding.inference_ms)
            overhead.append((received_ns - embedding.settled_ns) / 1e6 - embedding.inference_ms)
            capture.append((received_ns - max(window.newest_ns for window in embedding.windows)) / 1e6)
            if time.monotonic() > until and len(inference) > 1:
                break
        cpu_s = (time.process_time() - cpu_s) / max(1, len(inference) - 1)
        trips = [await round_trip_ms(client) for _ in range(200)]
        status = await client.status()
    shed = sum(status.ticks_shed.values())
    produced, delivered = status.ticks_produced, status.ticks_delivered
    ticks = f"{produced} ticks: {delivered} delivered, {shed} shed {dict(status.ticks_shed)}"
    return Measured(inference, overhead, capture, trips, first_s, cpu_s, ticks)


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
