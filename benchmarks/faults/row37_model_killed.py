"""The model's process is killed under a live agent, and after its return stopped, so that it hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.faults.live_agent import LiveAgent, present, seconds_to
from benchmarks.faults.measured import Measured
from protos import perception_pb2 as pb

BACK_S = 5.0
HUNG_S = 10.0
"""A process that is stopped is killed by then."""
WAIT_S = 60.0
PICTURE = {"width": 64, "height": 64}
SENSORS = {"camera": {"type": "synthetic_camera", **PICTURE}, "imu": {"type": "synthetic_imu"}}


def run() -> Measured:
    """Kill it, then stop its successor."""
    with (
        LiveAgent(SENSORS, model={"device": "cpu", "process": True}) as live,
        grpc.insecure_channel(live.agent.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def serves() -> bool:
            answer = health.Check(health_pb2.HealthCheckRequest())
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        live.settle()
        told_s, unhealthy_s, back_s, exact = _end(live, serves, signal.SIGKILL, pb.ModelState.STATE_FAILING)
        hung_told_s, _, hung_back_s, hung_exact = _end(live, serves, signal.SIGSTOP, pb.ModelState.STATE_HUNG)
        shed = live.agent.status().ticks_shed["model process ended"]
        numbers = [event.seq for event in live.subscriber.events]
    whole = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return Measured(
        f"told and NOT_SERVING within 1 s, of a hang within 6 s; ticks within {BACK_S:g} s of a kill, and of "
        f"{HUNG_S:g} s in which it hangs; the stream goes on; ticks accounted for",
        f"told after {told_s:.2f} s, NOT_SERVING after {unhealthy_s:.2f} s, ticks after {back_s:.1f} s; hung: told "
        f"after {hung_told_s:.1f} s, ticks after {hung_back_s:.1f} s; {shed} ticks shed 'model process ended', sum "
        f"{'exact' if exact and hung_exact else 'NOT exact'}; the stream {'went on' if whole else 'did NOT go on'}",
        told_s < 1
        and unhealthy_s < 1
        and back_s < BACK_S
        and hung_told_s < 6
        and hung_back_s < HUNG_S + BACK_S
        and exact
        and hung_exact
        and whole,
    )


def _end(
    live: LiveAgent, serves: Callable[[], bool], by: signal.Signals, state: pb.ModelState.State.ValueType
) -> tuple[float, float, float, bool]:
    """Send a signal to the model's process: seconds until a state is told, until unhealthy and back; an exact sum?"""
    pid = model_process(live)
    mark, began_ns = live.subscriber.mark(), time.time_ns()
    os.kill(pid, by)
    told = live.subscriber.wait("the model's end", lambda e: says(e, state), mark, WAIT_S)
    while serves():
        time.sleep(0.02)
    unhealthy_s = (time.time_ns() - began_ns) / 1e9
    exact = accounted(live)
    mark = live.subscriber.events.index(told)
    back = live.subscriber.wait("a tick", lambda e: present(e) == live.sensors, mark, WAIT_S)
    live.subscriber.wait("the model's return", lambda e: says(e, pb.ModelState.STATE_OK), mark, WAIT_S)
    while not serves():
        time.sleep(0.02)
    return seconds_to(told, began_ns), unhealthy_s, seconds_to(back, began_ns), exact and accounted(live)


def says(event: pb.Event, state: pb.ModelState.State.ValueType) -> bool:
    """Whether an event tells of a state of the model."""
    return event.HasField("model") and event.model.state == state


def accounted(live: LiveAgent) -> bool:
    """Whether every tick is delivered, shed or in flight."""
    status = live.agent.status()
    known = status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
    return bool(status.ticks_produced == known)


def model_process(live: LiveAgent) -> int:
    """The one of the agent's processes that runs the model."""
    for pid in live.children():
        if b"agent.embedding.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise LookupError("the model has no process of its own")


if __name__ == "__main__":
    print(run())
