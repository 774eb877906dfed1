"""What does it cost to stream one tick's embedding to many subscribers?

    python -m benchmarks.fanout --subscribers 256 --rate-hz 20 --seconds 10 --stalled 1

The server and its publisher run in this process, all subscribers in another one, over loopback. Latency is from the
moment of publishing to the moment at which the client holds the parsed event. The floor is what one subscriber sees;
`--stalled` adds subscribers that never read, which must not change what the others see.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import grpc
import numpy as np

from agent.events.bus import Bus
from agent.query import StandingQuery
from agent.server.server import Limits, Server, Share
from agent.streams import Streams
from agent.vectors import vector_message
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

MODALITIES = ("eye", "ear", "depth", "thermal", "body")
D = 1024
STREAMS_PER_CHANNEL = 32
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Source:
    """As much of an agent as the server needs to stream."""

    def __init__(self) -> None:
        self.bus = Bus("fanout", time.monotonic_ns)
        self.streams: Streams = {}
        self.remotes: dict[str, object] = {}

    def list_queries(self) -> list[StandingQuery]:
        return []


def event(tick: int) -> pb.Event:
    """One tick of five modalities."""
    vector = vector_message(np.full(D, D**-0.5, np.float32))
    windows = [pb.WindowEmbedding(sensor=name, present=True, vector=vector) for name in MODALITIES]
    return pb.Event(capture_ns=tick, embedding=pb.Embedding(tick=tick, windows=windows, fused=vector))


@dataclass
class Row:
    """One line of the table."""

    subscribers: int
    rate_hz: float
    expected: int
    received: int
    lost: int
    p50_ms: float
    p99_ms: float
    server_cpu: float
    late_publishes: int

    def __str__(self) -> str:
        return (
            f"{self.subscribers:11d} {self.rate_hz:7.0f} {self.received:9d}/{self.expected:<9d} {self.lost:6d} "
            f"{self.p50_ms:8.2f} {self.p99_ms:8.2f} {100 * self.server_cpu:6.0f} % {self.late_publishes:6d}"
        )


HEADER = "subscribers rate Hz   received/expected    lost   p50 ms   p99 ms      cpu   late"


async def _read_one(stub: PerceptionStub, ready: asyncio.Semaphore, latencies_ns: list[int]) -> int:
    call = stub.Subscribe(pb.SubscribeRequest(vectors=True))
    await call.initial_metadata()
    ready.release()
    lost = 0
    async for received in call:
        if received.WhichOneof("event") == "gap":
            lost += received.gap.events
        elif received.embedding.tick < 0xFFFF_FFFF:
            latencies_ns.append(time.monotonic_ns() - received.publish_ns)
        else:
            break
    call.cancel()
    return lost


async def _subscribe_all(address: str, subscribers: int, stalled: int, pipe: Connection) -> None:
    channels = [
        grpc.aio.insecure_channel(address, options=OWN_CONNECTION)
        for _ in range(-(-subscribers // STREAMS_PER_CHANNEL))
    ]
    ready = asyncio.Semaphore(0)
    latencies_ns: list[int] = []
    readers = [
        asyncio.create_task(_read_one(PerceptionStub(channels[i % len(channels)]), ready, latencies_ns))
        for i in range(subscribers)
    ]
    for _ in readers:
        await ready.acquire()
    # One channel each: what is not read fills the connection, not only the call.
    idle_channels = [grpc.aio.insecure_channel(address, options=OWN_CONNECTION) for _ in range(stalled)]
    idle = [PerceptionStub(channel).Subscribe(pb.SubscribeRequest(vectors=True)) for channel in idle_channels]
    for call in idle:
        await call.initial_metadata()
    pipe.send("ready")
    lost = sum(await asyncio.gather(*readers))
    pipe.send((latencies_ns, lost))
    for channel in channels + idle_channels:
        await channel.close()


def _subscribers(address: str, subscribers: int, stalled: int, pipe: Connection) -> None:
    asyncio.run(_subscribe_all(address, subscribers, stalled, pipe))


def _publish(bus: Bus, count: int, rate_hz: float) -> int:
    """Publish at a rate from this thread; the number of events that came later than half a period."""
    begin_ns = time.monotonic_ns()
    late = 0
    for tick in range(count):
        due_ns = begin_ns + round(tick * 1e9 / rate_hz)
        ahead_ns = due_ns - time.monotonic_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns / 1e9)
        elif -ahead_ns > 0.5e9 / rate_hz:
            late += 1
        bus.publish(event(tick))
    return late


async def measure(subscribers: int, rate_hz: float, seconds: float, stalled: int = 0) -> Row:
    """Run one case."""
    source = Source()
    server = Server(source, Limits(subscribers=Share(subscribers + stalled)))  # type: ignore[arg-type]  # streams, and nothing else
    address = await server.start("127.0.0.1:0")
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    clients = spawn.Process(target=_subscribers, args=(address, subscribers, stalled, theirs), daemon=True)
    clients.start()
    await asyncio.to_thread(ours.recv)
    count = round(seconds * rate_hz)
    cpu_s, wall_s = time.process_time(), time.monotonic()
    late = await asyncio.to_thread(_publish, source.bus, count, rate_hz)
    server_cpu = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
    await asyncio.sleep(0.5)
    source.bus.publish(event(0xFFFF_FFFF))
    latencies_ns, lost = await asyncio.to_thread(ours.recv)
    await server.stop()
    clients.join()
    p50_ns, p99_ns = np.percentile(latencies_ns, [50, 99])
    return Row(
        subscribers, rate_hz, count * subscribers, len(latencies_ns), lost, p50_ns / 1e6, p99_ns / 1e6, server_cpu, late
    )


def main() -> None:
    """Print the floor and the case asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=64)
    parser.add_argument("--rate-hz", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--stalled", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{event(0).ByteSize() / 1000:.1f} kB an event")
    print(HEADER)
    cases = [(1, 0), (arguments.subscribers, 0)]
    if arguments.stalled:
        cases.append((arguments.subscribers, arguments.stalled))
    for subscribers, stalled in cases:
        row = asyncio.run(measure(subscribers, arguments.rate_hz, arguments.seconds, stalled))
        print(f"{row}{f'  beside {stalled} stalled' if stalled else ''}", flush=True)


if __name__ == "__main__":
    main()
