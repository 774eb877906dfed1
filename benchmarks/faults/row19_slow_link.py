"""A subscriber of everything is behind a link that passes half of it, with half a second there and back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from agent.client import Client
from benchmarks.faults.live_agent import LiveAgent
from benchmarks.faults.measured import Measured
from benchmarks.faults.slow_link import SlowLink
from protos import perception_pb2 as pb

BYTES_PER_S, DELAY_S = 6_000.0, 0.25
MAX_UNREAD, MAX_AGE_S = 2, 0.5
"""What a subscriber asks for who knows its link: few events on their way at a time, and no old ones but alerts."""
LASTS_S = 25.0
EVERY_S = 1.5
"""A new query, which begins an alert at once."""
BAR_S = 2 * DELAY_S + 1.0


def run() -> Measured:
    """Let alerts begin, and see when they come over the link."""
    sensors = {
        "camera": {"type": "synthetic_camera", "hfov_deg": 60},
        "depth": {"type": "synthetic_depth"},
        "thermal": {"type": "synthetic_thermal"},
    }
    with LiveAgent(sensors, windows={"hop_s": 0.1}) as live:
        live.settle()
        mark = live.subscriber.mark()
        alerts, others, gaps = asyncio.run(_watch(live.agent.address))
        direct = live.subscriber.since(mark)
        begun = sum(event.HasField("alert") for event in direct)
    late = sorted(alerts)
    seen = sum(event.HasField("embedding") for event in direct)
    share = _share(direct)
    return Measured(
        f"alerts come within {BAR_S:g} s while embeddings are dropped, and told as dropped",
        f"{len(late)} of {begun} alerts, the latest after {max(late, default=0):.2f} s; {others} of {seen} embeddings; "
        f"{gaps} told as dropped; all would take {share:.0%} of the link",
        bool(late) and len(late) >= begun - 2 and late[-1] <= BAR_S and others < seen and gaps > 0,
    )


async def _watch(address: str) -> tuple[list[float], int, int]:
    """Seconds that each alert took, and how many embeddings came, and how many did not."""
    alerts: list[float] = []
    others = gaps = 0
    async with SlowLink(address, BYTES_PER_S, DELAY_S) as link, Client(link.address) as far, Client(address) as near:
        adding = asyncio.create_task(_add_queries(near))
        ends_s = time.monotonic() + LASTS_S
        events = far.subscribe(vectors=True, heat_maps=True, max_unread=MAX_UNREAD, max_age_s=MAX_AGE_S)
        with contextlib.suppress(TimeoutError):
            while True:
                event = await asyncio.wait_for(anext(events), max(0.0, ends_s - time.monotonic()))
                if event.HasField("alert"):
                    alerts.append((time.time_ns() - event.publish_ns) / 1e9)
                others += event.HasField("embedding")
                gaps += event.gap.events
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
    return alerts, others, gaps


async def _add_queries(client: Client) -> None:
    number = 0
    while True:
        await client.add_query("something", threshold_on=1e-3, min_duration_s=0.0, query_id=f"q{number}")
        if number >= 4:
            await client.remove_query(f"q{number - 4}")
        number += 1
        await asyncio.sleep(EVERY_S)


def _share(events: Sequence[pb.Event]) -> float:
    """How much of what the link passes these events would take, had none been dropped."""
    seconds = (events[-1].publish_ns - events[0].publish_ns) / 1e9
    return sum(event.ByteSize() for event in events) / seconds / BYTES_PER_S
