"""What does it cost to run the model in a process of its own, and how soon do ticks flow again when that is killed?

    python -m benchmarks.model_process [--seconds 30] [--rounds 2] [--kills 5]

Runs the agent live on the synthetic scene (five sensors) with one subscriber over loopback, by turns with the model in
the agent's process and in one of its own, each time in a fresh interpreter. Then kills the model's process again and
again, and prints the time to the next event with a window in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.client import Client
from agent.config.parse import parse, synthetic
from agent.embedding.apart import ModelApart
from agent.run import build
from agent.run.serving import serving
from benchmarks.latency import quantile
from protos import perception_pb2 as pb

SEED = 7
STEADY_S = 11.0
"""Between kills: a model that has served for 10 s is restarted without a longer wait."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run gave; times in milliseconds, one a tick."""

    inference: list[float]
    beyond: list[float]
    """From the settled window to its event at the subscriber, less the time on the model."""
    cpu_ms: float
    """Processor time of a tick: of the agent, this subscriber and the model, without the processes of the sensors."""
    agent_mb: float
    """Most memory that the agent's process has had."""
    first_s: float
    """From start to the first event."""
    back_s: list[float]
    """From a kill of the model's process to the next event with a window in it."""
    shed: dict[str, int]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2, help="of both")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--here", choices=["inside", "apart"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(asdict(asyncio.run(measure(asked.here == "apart", asked.seconds, asked.kills)))))
        return
    for number in range(asked.rounds):
        last = number == asked.rounds - 1
        for where in ("inside", "apart"):
            kills = asked.kills if last and where == "apart" else 0
            show(where, in_a_fresh_interpreter(where, asked.seconds, kills))


def in_a_fresh_interpreter(where: str, seconds: float, kills: int) -> Measured:
    """One run."""
    words = ["--here", where, "--seconds", str(seconds), "--kills", str(kills)]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.model_process", *words], stdout=subprocess.PIPE, check=True, text=True
    )
    return Measured(**json.loads(ran.stdout))


def show(where: str, run: Measured) -> None:
    """Print a run."""
    print(
        f"{where:6}  model p50 {statistics.median(run.inference):6.1f}  beyond it p50 "
        f"{statistics.median(run.beyond):5.1f}  p99 {quantile(run.beyond, 0.99):6.1f} ms; "
        f"{run.cpu_ms:6.1f} ms of processor time a tick; the agent's process {run.agent_mb:.0f} MB; "
        f"first event {run.first_s:.1f} s; {len(run.inference)} ticks, shed {run.shed}"
    )
    if run.back_s:
        print(
            f"kill -9 of the model -> next event: median {statistics.median(run.back_s):.1f} s, longest "
            f"{max(run.back_s):.1f} s, of {len(run.back_s)}"
        )


async def measure(apart: bool, seconds: float, kills: int) -> Measured:
    """Start, run for a while from the first tick that has every window, and kill the model's process `kills` times."""
    tree = synthetic(SEED).tree
    config = parse({**tree, "model": {**tree.get("model", {}), "device": "cpu", "process": apart}})
    began = time.monotonic()
    run = build.live(config)
    inference, beyond = [], []
    first_s = cpu_s = until = 0.0
    back_s: list[float] = []
    async with serving(run, "127.0.0.1:0") as server, Client(server.address) as client:
        model = (await server.loaded).model
        pid = model.pid if isinstance(model, ModelApart) else None
        async with aclosing(client.subscribe(kinds=["embedding"], vectors=True)) as events:
            async for event in events:
                first_s = first_s or time.monotonic() - began
                embedding = event.embedding
                if not inference and not all(window.present for window in embedding.windows):
                    continue  # windows fill for some seconds, in which a tick costs less
                if not inference:
                    cpu_s, until = processor_s(pid), time.monotonic() + seconds
                inference.append(embedding.inference_ms)
                beyond.append((run.clock.now_ns() - embedding.settled_ns) / 1e6 - embedding.inference_ms)
                if time.monotonic() > until and len(inference) > 1:
                    break
            cpu_s = (processor_s(pid) - cpu_s) / max(1, len(inference) - 1)
            for _ in range(kills):
                assert isinstance(model, ModelApart)
                back_s.append(await killed(model, client))
        shed = dict((await client.status()).ticks_shed)
    agent_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(inference, beyond, cpu_s * 1e3, agent_mb, first_s, back_s, shed)


async def killed(model: ModelApart, client: Client) -> float:
    """Kill the model's process; in how many seconds the next event with a window came."""
    await asyncio.sleep(STEADY_S)
    pid = model.pid
    assert pid is not None
    async with aclosing(client.subscribe(kinds=["embedding"])) as events:
        await anext(events)
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        async for event in events:
            # What was embedded before may still come.
            if model.pid not in (None, pid) and has_window(event):
                break
    return time.monotonic() - began


def has_window(event: pb.Event) -> bool:
    """Whether something of a tick was embedded."""
    return any(window.present for window in event.embedding.windows)


def processor_s(pid: int | None) -> float:
    """Processor time of this process and another."""
    if pid is None:
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
