"""Main loop of the model's own process: an embedder that answers requests, one after the other.

The process is one of `agent.child`, the only one of the agent that imports torch. It ends when the agent does, and when
the device has failed in a way that only a new process mends.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from dataclasses import asdict, replace

import numpy as np
import torch

from agent.clock import RunClock
from agent.collection import defer_collection, resume_collection
from agent.embedding.embedder import Embedder
from agent.embedding.model import NotFinite
from agent.embedding.pipe import Closed, Pipe
from agent.embedding.requests import Read
from agent.embedding.requests import answer as answer_of
from agent.embedding.weights import load_embedder
from agent.embedding.wire import Answer, Embed, ModelOrder, Sent, embedded_answer, pack_answer, unpack_request
from agent.faults import Faults
from common.errors import UserFault

LONGEST_MESSAGE = 800
"""Characters."""
LONGEST_TRACE = 20_000


def main() -> None:
    """Entry point. Signals that end the agent are its own to handle: it ends this process when it is through."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    defer_collection()
    order: ModelOrder = pickle.load(sys.stdin.buffer)
    pipe, faults = Pipe(*order.pipe_fds), Faults()
    try:
        embedder, name = load_embedder(order.settings, order.modalities, faults=faults)
        hello = Answer(
            {
                "name": name,
                "device": str(embedder.device),
                "dimensions": embedder.dimensions,
                "logit_scales": embedder.logit_scales(),
                "calibration": embedder.calibration and embedder.calibration.tree(),
            }
        )
    except Exception as error:  # noqa: BLE001  (told to the agent, whose it is to say so)
        hello = refusal(error)
    resume_collection()
    pipe.send(pack_answer(hello))
    if not hello.trouble:
        serve(embedder, pipe, order.clock, faults)
    os._exit(0)  # a library's threads must not hold up, or crash, the end


def serve(embedder: Embedder, pipe: Pipe, clock: RunClock, faults: Faults) -> None:
    """Answer requests until the other end has gone, or the device has failed for good."""
    told: dict[str, int] = {}
    while True:
        try:
            sent = unpack_request(pipe.receive())
        except Closed:
            return
        try:
            answer = answered(embedder, sent, clock)
        except Exception as error:  # noqa: BLE001  (told to the agent)
            answer = refusal(error)
            if is_fatal(error) or is_lost(embedder.device):
                answer = replace(answer, trouble="fatal")
        counts = faults.counts()
        new = [(place, n - told.get(place, 0), faults.first(place)) for place, n in counts.items()]
        told, news = counts, [one for one in new if one[1]]
        if news and is_lost(embedder.device):
            answer = Answer(trouble="fatal", message=news[0][2])
        try:
            pipe.send(pack_answer(replace(answer, faults=news)))
        except Closed:
            return
        if answer.trouble == "fatal":
            return
        del sent, answer  # or they would be kept until the next comes


def answered(embedder: Embedder, sent: Sent, clock: RunClock) -> Answer:
    """Do what is asked."""
    match sent.asked:
        case Embed(ticks, budget):
            left = budget and budget.later((clock.now_ns() - sent.sent_ns) / 1e9)
            return embedded_answer(embedder.embed(ticks, left))
        case Read(text):
            return Answer(asdict(embedder.read(text)))
        case request:
            return Answer(arrays=[np.asarray(answer_of(embedder, request))])


def refusal(error: Exception) -> Answer:
    """Return an error as the answer that tells the agent of it."""
    message = " ".join(str(error).split())[:LONGEST_MESSAGE] or type(error).__name__
    match error:
        case UserFault():
            return Answer([type(error).__module__, type(error).__name__], trouble="user", message=message)
        case NotFinite():
            return Answer(trouble="not finite", message=message)
        case ValueError():
            return Answer(trouble="unusable", message=message)
    trace = "".join(traceback.format_exception(error))[-LONGEST_TRACE:]
    return Answer(trouble="failed", message=message, trace=trace)


def is_fatal(error: Exception) -> bool:
    """Return whether an error says by itself that the device can no more be used from this process."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def is_lost(device: torch.device) -> bool:
    """Return whether the device can no more be used from this process: such errors of CUDA come again at every call."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False
