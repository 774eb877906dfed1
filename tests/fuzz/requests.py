"""Requests of clients. The first byte says of which call; the rest is the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from agent.events.bus import Bus
from agent.log.replay.control import ReplayPosition
from agent.server.refusal import Refusal
from agent.server.requests import check_subscribe, embed_inputs, query_of, replay_command
from protos import perception_pb2 as pb
from protos.sensors_pb2 import AudioBlock, Image

PEAK_MB = 600.0
"""64 megapixels of pictures are allowed in a call."""
_BUS = Bus("a1b2c3", lambda: 0)
_STATE = ReplayPosition(10**18, 10**18 + 10**10, 10**18, 10**18 + 10**10, False, 10**18, 1.0, False, False, 0.0, 1)

_CALLS: list[tuple[Any, Callable[[Any], object]]] = [
    (pb.SubscribeRequest, lambda request: check_subscribe(request, {}, _BUS)),
    (pb.AddQueryRequest, lambda request: query_of(request, {"a-dog"})),
    (pb.EmbedRequest, embed_inputs),
    (pb.ControlReplayRequest, lambda request: replay_command(request, _STATE)),
    (pb.WatchRequest, lambda request: check_subscribe(request.subscribe, {}, _BUS)),
]


def one(data: bytes) -> None:
    """Check the request; a refusal must be one that can be sent."""
    message, check = _CALLS[(data[0] if data else 0) % len(_CALLS)]
    try:
        check(message.FromString(data[1:]))
    except DecodeError:
        pass
    except Refusal as refusal:
        refusal.status()


def seeds() -> list[bytes]:
    """One of each call."""
    picture = Image(encoding=Image.ENCODING_RGB8, width=2, height=2, data=bytes(12))
    sound = AudioBlock(encoding=AudioBlock.ENCODING_PCM_S16, rate_hz=16000, channels=1, data=bytes(64))
    subscribe = pb.SubscribeRequest(kinds=[1], modalities=[1], query_ids=["dog"], max_rate_hz=2, max_age_s=3)
    messages = [
        (0, subscribe),
        (0, pb.SubscribeRequest(resume_run_id="a1b2c3", resume_after_seq=0)),
        (1, pb.AddQueryRequest(text="a dog", modalities=[2], threshold_on=0.3, min_duration_s=1, id="x", clip=True)),
        (2, pb.EmbedRequest(texts=["a dog"], images=[picture], audio=[sound])),
        (3, pb.ControlReplayRequest(paused=True, speed=2, seek_s=3)),
        (3, pb.ControlReplayRequest(seek_ns=10**18 + 5, step_ticks=4)),
        (4, pb.WatchRequest(subscribe=subscribe, max_unread=4)),
    ]
    return [bytes([call]) + message.SerializeToString() for call, message in messages]
