"""Requests checked, and turned into plain values. Pure: a message in; a value out, or a Refusal naming every fault."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.embedding.requests import Sound
from agent.events.bus import Bus, Resume
from agent.events.filters import KINDS
from agent.log.replay.control import MAX_SPEED, SPEEDS, Command, ReplayPosition
from agent.query import MAX_TEXT, Query, QueryError
from agent.server.refusal import Violation, bad_request
from agent.streams import Streams
from drivers import image_file
from drivers.codec import MODALITY_NAMES, decode_audio, decode_colour
from drivers.driver import MODALITIES, BadData
from protos import perception_pb2 as pb
from protos.sensors_pb2 import AudioBlock, Image

MAX_QUERY_IDS = 1000
MAX_NAME = 64
"""Characters of an id, a sensor's name or a run's id in a filter: none is longer."""
LEAST_THRESHOLD = 0.001
"""Of a query that a client adds: every window would reach a lower one, or none fall below it."""
_THRESHOLDS: Final = ("threshold_on", "threshold_off")
MAX_UNREAD = (16, 1024)
"""Events of a Watch call that may be on their way at a time: when nothing is asked for, and at most."""
MAX_EMBED_ITEMS = 64
MAX_EMBED_PIXELS = 64_000_000
"""Of all pictures of a call together: 192 MB once decoded."""
MAX_CLIP_S = 60.0
MAX_STEP_TICKS = 1_000_000
_MOST_SECONDS = 1e9


def check_subscribe(request: pb.SubscribeRequest, streams: Streams, bus: Bus) -> Resume | None:
    """Check a filter, and return from where the subscriber wants to go on."""
    faults: list[Violation] = []
    if unknown := sorted(set(request.kinds) - set(KINDS.values())):
        faults.append(("kinds", f"{unknown[0]} is not a kind of event; the kinds are {', '.join(KINDS)}"))
    faults += _modality_faults(request.modalities)
    if missing := sorted(set(request.sensors) - set(streams)):
        faults.append(
            ("sensors", f"{_short(missing[0])} is not a sensor; the sensors are {', '.join(sorted(streams))}")
        )
    if len(request.query_ids) > MAX_QUERY_IDS:
        faults.append(("query_ids", f"are {len(request.query_ids)}; at most {MAX_QUERY_IDS} are allowed"))
    if long := next((name for name in request.query_ids if len(name) > MAX_NAME), ""):
        faults.append(("query_ids", f"{_short(long)} has {len(long)} characters; no id has more than {MAX_NAME}"))
    if len(request.resume_run_id) > MAX_NAME:
        faults.append(("resume_run_id", f"has {len(request.resume_run_id)} characters; no run's id has so many"))
    if not (math.isfinite(request.max_rate_hz) and request.max_rate_hz >= 0):
        faults.append(("max_rate_hz", f"is {request.max_rate_hz}; it is 0 (every event) or more"))
    if not 0 <= request.max_age_s <= _MOST_SECONDS:  # also true for nan
        faults.append(("max_age_s", f"is {request.max_age_s}; it is 0 (no limit) or more, in seconds"))
    resume = _resume(request, bus, faults)
    if faults:
        raise bad_request(*faults)
    return resume


def max_unread_of(request: pb.WatchRequest) -> int:
    """Return the number of events that a Watch call wants in transit at a time."""
    usual, most = MAX_UNREAD
    if request.max_unread > most:
        raise bad_request(("max_unread", f"is {request.max_unread}; it is 1 to {most}, or 0: {usual}"))
    return request.max_unread or usual


def _resume(request: pb.SubscribeRequest, bus: Bus, faults: list[Violation]) -> Resume | None:
    if not request.HasField("resume_after_seq"):
        if request.resume_run_id:
            faults.append(("resume_after_seq", "is missing beside resume_run_id; give the seq of the last event read"))
        return None
    if not request.resume_run_id:
        faults.append(("resume_run_id", "is missing beside resume_after_seq; give the run_id of the last event read"))
    if request.resume_run_id == bus.run_id and request.resume_after_seq > bus.last_seq:
        faults.append(
            ("resume_after_seq", f"is {request.resume_after_seq}, but the newest event of this run is {bus.last_seq}")
        )
    return Resume(request.resume_run_id, request.resume_after_seq)


def query_of(request: pb.AddQueryRequest, taken: Collection[str]) -> Query:
    """Return the query that is asked for; what it leaves open has the defaults of Query."""
    faults = _modality_faults(request.modalities)
    if faults:
        raise bad_request(*faults)
    for name in _THRESHOLDS:
        if request.HasField(name) and getattr(request, name) < LEAST_THRESHOLD:
            raise bad_request((name, f"is {getattr(request, name):g}; it is at least {LEAST_THRESHOLD}"))
    try:
        return Query.of(request, request.id or query_id(request.text, taken))
    except QueryError as error:
        raise bad_request((error.field, str(error).removeprefix(f"{error.field}: "))) from None


def query_id(text: str, taken: Collection[str]) -> str:
    """Make an id that a person can type, from the words of a query: `a-dog-barking`, then `a-dog-barking-2`."""
    words = re.findall(r"[a-z0-9]+", text[:MAX_TEXT].lower())
    stem = "-".join(words)[:40].strip("-") or "query"
    number = 1
    made = stem
    while made in taken:
        number += 1
        made = f"{stem}-{number}"
    return made


def embed_inputs(request: pb.EmbedRequest) -> tuple[list[str], list[NDArray[np.uint8]], list[Sound]]:
    """Return what is to be embedded, decoded. Slow for large pictures: call it off the asyncio thread."""
    count = len(request.texts) + len(request.images) + len(request.audio)
    if not 1 <= count <= MAX_EMBED_ITEMS:
        raise bad_request(
            ("texts", f"texts, images and audio are {count} together; 1 to {MAX_EMBED_ITEMS} are allowed in a call")
        )
    faults: list[Violation] = []
    for i, text in enumerate(request.texts):
        if not text.strip() or len(text) > MAX_TEXT:
            faults.append(
                (f"texts[{i}]", f"has {len(text)} characters; 1 to {MAX_TEXT} that are not blank are allowed")
            )
    images = _pictures(request.images, faults)
    clips: list[Sound] = []
    for i, block in enumerate(request.audio):
        try:
            clips.append(_clip(block))
        except BadData as error:
            faults.append((f"audio[{i}]", str(error)))
    if faults:
        raise bad_request(*faults)
    return list(request.texts), images, clips


def replay_command(request: pb.ControlReplayRequest, state: ReplayPosition) -> Command:
    """Return what is asked of a replay that stands so."""
    faults: list[Violation] = []
    speed = None
    if request.HasField("speed"):
        speed = request.speed or MAX_SPEED
        if request.speed and not SPEEDS[0] <= speed <= SPEEDS[1]:
            allowed = f"{SPEEDS[0]:g} to {SPEEDS[1]:g}, or 0: as fast as the model goes"
            faults.append(("speed", f"is {request.speed:g}; it is {allowed}"))
    seek_ns = _seek_ns(request, state, faults)
    if request.step_ticks and request.HasField("paused") and not request.paused:
        faults.append(("step_ticks", "pauses after that many ticks; leave out paused = false"))
    if request.step_ticks > MAX_STEP_TICKS:
        faults.append(("step_ticks", f"are {request.step_ticks}; at most {MAX_STEP_TICKS} are allowed in a call"))
    if faults:
        raise bad_request(*faults)
    paused = request.paused if request.HasField("paused") else None
    return Command(paused, speed, seek_ns, request.step_ticks)


def _seek_ns(request: pb.ControlReplayRequest, state: ReplayPosition, faults: list[Violation]) -> int | None:
    match field := request.WhichOneof("seek"):
        case "seek_s" if abs(request.seek_s) < _MOST_SECONDS:
            seek_ns = state.start_ns + round(request.seek_s * 1e9)
        case "seek_ns":
            seek_ns = request.seek_ns
        case None:
            return None
        case _:
            faults.append((field, f"is {request.seek_s}; give seconds from the start of the log"))
            return None
    if not state.from_ns <= seek_ns <= state.to_ns:
        first_s, last_s, found_s = ((t_ns - state.start_ns) / 1e9 for t_ns in (state.from_ns, state.to_ns, seek_ns))
        faults.append((field, f"is {found_s:.3f} s from the start; {first_s:.3f} to {last_s:.3f} s are replayed"))
    return seek_ns


def _pictures(images: Sequence[Image], faults: list[Violation]) -> list[NDArray[np.uint8]]:
    """Decode pictures one after the other; none when they are too large together."""
    pixels = sum(map(_pixels, images))
    if pixels > MAX_EMBED_PIXELS:
        allowed = f"at most {MAX_EMBED_PIXELS / 1e6:.0f} are allowed in a call"
        faults.append(("images", f"are {pixels / 1e6:.1f} megapixels together; {allowed}"))
        return []
    decoded: list[NDArray[np.uint8]] = []
    for i, image in enumerate(images):
        try:
            decoded.append(decode_colour(image))
        except BadData as error:
            faults.append((f"images[{i}]", str(error)))
    return decoded


def _pixels(image: Image) -> int:
    """By the file's own header. A picture without a sound one is a fault of its own once it is to be decoded."""
    width, height = 0, 0
    with contextlib.suppress(BadData):
        match image.encoding:
            case Image.ENCODING_JPEG:
                width, height = image_file.jpeg_size(image.data)
            case Image.ENCODING_PNG:
                width, height = image_file.png_size(image.data)
            case Image.ENCODING_RGB8:
                width, height = image.width, image.height
    return width * height


def _clip(block: AudioBlock) -> Sound:
    rows, rate_hz = decode_audio(block)
    if not np.isfinite(rows).all():
        raise BadData("audio holds values that are not finite")
    if len(rows) > MAX_CLIP_S * rate_hz:
        raise BadData(f"audio of {len(rows) / rate_hz:.1f} s is longer than {MAX_CLIP_S:.0f} s; send it in parts")
    return rows, rate_hz


def _modality_faults(modalities: Iterable[int]) -> list[Violation]:
    unknown = [modality for modality in modalities if modality not in MODALITY_NAMES]
    return [("modalities", f"{m} is not a modality of a sensor; they are {', '.join(MODALITIES)}") for m in unknown[:1]]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
