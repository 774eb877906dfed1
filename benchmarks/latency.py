"""How long from the end of a window to its event at a subscriber, from start to the first event, and who works for it?

    python -m benchmarks.latency [--seconds 60] [--busy]
    python -m benchmarks.latency --against REV [--rounds 4] [--seconds 60] [--busy]

Runs `sensebind run` on the synthetic scene (five sensors in processes of their own, at the lowest priority while it is
measured, since they render what devices would give) with one subscriber over loopback in this process. Prints each hop
of a tick on its way, the whole of it less the time on the model, and the processor time of a tick by thread; --busy has
another process take a core meanwhile. The floor of the machine is a bare round trip over the same kind of connection.

With --against, this tree and a revision are measured in turn by the code of this file, on the same scene, and every
figure of the one is divided by the other's of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from agent.client import Client
from agent.clock import RunClock
from benchmarks.agent_process import CAPTURES, busy_process, processor_s, put_captures_at_rest, running

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "synthetic.yaml"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run gave: times in milliseconds, one a tick."""

    settling: list[float]
    """From the end of a window until the last stream is settled."""
    inference: list[float]
    inside: list[float]
    """From settled to published, less the time on the model: waiting, and what follows from the vectors."""
    delivery: list[float]
    """From published to the subscriber."""
    trips: list[float]
    """Of unary calls that are answered at once."""
    first_s: float
    """From the start of the agent's process to its first event."""
    cpu_ms: dict[str, float]
    """Processor time of a tick, by thread of the agent, and of all capture processes, which render the scene."""
    ticks: str
    """How many there were, and what became of them."""

    @property
    def overhead(self) -> list[float]:
        """From the settled window to its event at the subscriber, less the time on the model."""
        return [inside + delivery for inside, delivery in zip(self.inside, self.delivery, strict=True)]

    @property
    def own_cpu_ms(self) -> float:
        """Processor time of a tick, without the capture processes."""
        return sum(self.cpu_ms.values()) - self.cpu_ms[CAPTURES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--busy", action="store_true", help="beside a process that takes a core")
    parser.add_argument("--against", metavar="REV", help="a commit of this repository to be measured in turn with it")
    parser.add_argument("--rounds", type=int, default=4, help="of both, with --against")
    asked = parser.parse_args()
    if asked.against:
        from benchmarks.two_versions import compare

        compare(asked.against, asked.rounds, asked.seconds, busy=asked.busy)
        return
    run = measure(ROOT, asked.seconds, busy=asked.busy)
    print(f"{run.ticks}; start -> first event {run.first_s:.1f} s")
    for name, values in (
        ("end of window -> settled", run.settling),
        ("time on the model", run.inference),
        ("settled -> published, beyond the model", run.inside),
        ("published -> subscriber", run.delivery),
        ("settled -> subscriber, beyond the model", run.overhead),
        ("floor: one unary call over loopback", run.trips),
    ):
        print(f"{name:42} p50 {statistics.median(values):7.1f}  p99 {quantile(values, 0.99):7.1f} ms")
    print(f"processor time of a tick: {run.own_cpu_ms:.1f} ms, without the capture processes, which render")
    for name, spent_ms in sorted(run.cpu_ms.items(), key=lambda item: -item[1]):
        if spent_ms >= 0.05:
            print(f"  {name:40} {spent_ms:7.1f} ms")


def measure(tree: Path, seconds: float, *, busy: bool = False) -> Measured:
    """Run the agent of a tree for a while from the first tick that has every window."""
    clock = RunClock.start()
    with busy_process() if busy else nullcontext(), running(tree, CONFIG) as (pid, address):
        return asyncio.run(_measure(pid, address, seconds, clock))


async def _measure(pid: int, address: str, seconds: float, clock: RunClock) -> Measured:
    settling, inference, inside, delivery = [], [], [], []
    first_s = until = 0.0
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    async with Client(address) as client:
        async for event in client.subscribe(kinds=["embedding"], vectors=True):
            received_ns = clock.now_ns()
            embedding = event.embedding
            first_s = first_s or (received_ns - clock.start_ns) / 1e9
            if not until and not all(window.present for window in embedding.windows):
                continue  # windows fill for some seconds, in which a tick costs less
            if not until:
                put_captures_at_rest(pid)
                before, until = processor_s(pid), time.monotonic() + seconds
                continue
            settling.append((embedding.settled_ns - event.capture_ns) / 1e6)
            inference.append(embedding.inference_ms)
            inside.append((event.publish_ns - embedding.settled_ns) / 1e6 - embedding.inference_ms)
            delivery.append((received_ns - event.publish_ns) / 1e6)
            if time.monotonic() > until:
                after = processor_s(pid)
                break
        trips = [await round_trip_ms(client) for _ in range(200)]
        status = await client.status()
    cpu_ms = {name: (spent_s - before.get(name, 0.0)) * 1e3 / len(inference) for name, spent_s in after.items()}
    shed = sum(status.ticks_shed.values())
    produced, delivered = status.ticks_produced, status.ticks_delivered
    ticks = f"{produced} ticks: {delivered} delivered, {shed} shed {dict(status.ticks_shed)}"
    return Measured(settling, inference, inside, delivery, trips, first_s, cpu_ms, ticks)


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
