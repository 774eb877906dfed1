"""What a live run leaves in its log: the model, once it is loaded, and the events that subscribers got, no others."""

from __future__ import annotations

from pathlib import Path

import torch
from made_up import SIZES

from agent.config.parse import parse
from agent.log.format import EVENTS_TOPIC
from agent.log.timeline import Timeline
from agent.run import build
from models.files import checkpoint
from models.imagebind import ImageBind
from protos import perception_pb2 as pb


def test_it_names_the_model_that_was_loaded_after_it_began_and_holds_no_event_that_was_refused(tmp_path: Path) -> None:
    weights, log = tmp_path / "made_up.safetensors", tmp_path / "run.mcap"
    torch.manual_seed(2)
    checkpoint.save(ImageBind(SIZES), weights, {"trained_on": "nothing"})
    # Nothing pushes to it: no process is started, and no tick has anything to embed.
    sensors = {"depth": {"type": "remote", "modality": "depth", "rate_hz": 5, "width": 32, "height": 24}}
    config = parse({"sensors": sensors, "model": {"weights": str(weights), "device": "cpu"}})
    run = build.live(config, log_to=log)
    try:
        run.start()
        name = run.load_model().name
        for similarity in (0.25, float("nan"), 0.5):
            source = pb.AudioSource(microphone="array", similarity=similarity)
            run.publish(pb.Event(capture_ns=run.clock.now_ns(), audio_source=source))
        assert run.bus.refused.total() == 1
    finally:
        run.stop()
    timeline = Timeline([log])
    assert timeline.model() == name
    assert name.startswith("made_up ")
    events = [pb.Event.FromString(e.message.data) for e in timeline.read() if e.topic == EVENTS_TOPIC]
    assert [e.audio_source.similarity for e in events if e.HasField("audio_source")] == [0.25, 0.5]
    assert all(event.seq for event in events), "an event without a number is one that nobody got"
