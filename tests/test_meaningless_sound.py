"""Steady noise, hum and tones raise no alert and are not looked for in a picture; what they say is said in events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.config.parse import parse
from agent.config.settings import ModelSettings
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.embedding.weights import load_embedder
from agent.events.messages import found
from agent.lab.limits import steady_sound, tick_of
from agent.log.replay.ticks import RecordedEmbedder, recorded_tick
from agent.perceiving.limits import UNKNOWN, WeightLimits, read_limits
from agent.perceiving.perception import Perception
from agent.query import Query
from agent.scores import scores_of
from agent.windows.window import Tick, Window
from models.files import store
from protos import perception_pb2 as pb
from world.kinds import KINDS, SOUNDING
from world.scene import Scene, SceneOptions
from world.sounds import synthesise

S = 1_000_000_000
RATE_HZ = 16_000
THINGS = {kind: Query(kind, str(KINDS[kind].sound), ("audio",), threshold_on=0.35) for kind in SOUNDING}
QUIET = Query("quiet", "white noise", ("audio",))


@pytest.fixture(scope="module")
def model() -> Embedder:
    return load_embedder(ModelSettings(), {"audio", "vision"})[0]


@pytest.fixture(scope="module")
def limits() -> WeightLimits:
    weights = store.find("imagebind_nano")
    return read_limits(weights, load_embedder(ModelSettings(), set())[1].split()[-1])


def perception_of(model: Embedder, limits: WeightLimits, *queries: Query, microphones: int = 1) -> Perception:
    sensors = {"microphone": {"type": "synthetic_microphone"}, "camera": {"type": "synthetic_camera"}}
    sensors |= {f"other{i}": {"type": "synthetic_microphone"} for i in range(1, microphones)}
    keys = {} if microphones == 1 else {"localization": {"microphone": "microphone"}}
    perception = Perception(model, parse({"sensors": sensors, **keys}), limits=limits)
    for query in queries:
        perception.add(query, model)
    return perception


def heard(model: Embedder, *sounds: NDArray[np.float32], index: int = 8) -> Embedded:
    """A tick of microphones that hear these, 2 s each, and of a camera that sees a scene."""
    names = ["microphone", *(f"other{i}" for i in range(1, len(sounds)))]
    t_ns = index * S // 2
    windows = {
        name: Window(name, "audio", sound[-2 * RATE_HZ :, None], RATE_HZ, t_ns, "")
        for name, sound in zip(names, sounds, strict=True)
    }
    camera = tick_of(Scene(SceneOptions(1, 96, 96)), 5.0).windows["camera"]
    [embedded] = model.embed([Tick(index, t_ns, {**windows, "camera": camera}, t_ns)])
    return embedded


def events(perception: Perception, embedded: Embedded) -> Iterator[pb.Event]:
    return map(found, perception.perceive(embedded))


def steady(kind: str, seed: int = 0) -> NDArray[np.float32]:
    return steady_sound(kind, np.random.default_rng(seed))


def sounding(kind: str) -> NDArray[np.float32]:
    background = 0.003 * np.random.default_rng(1).standard_normal(2 * RATE_HZ)
    return (synthesise(kind, np.random.default_rng(0), 2.0) + background).astype(np.float32)


def audio_scores(events: Iterator[pb.Event]) -> dict[str, float]:
    (embedding,) = (event.embedding for event in events if event.HasField("embedding"))
    scores = scores_of(embedding)
    return {query_id: scores.of(query_id)["audio"] for query_id in scores.query_ids}


@pytest.mark.parametrize("kind", ["white noise", "pink noise", "tone", "hum"])
def test_steady_sound_scores_nothing_and_raises_no_alert(kind: str, model: Embedder, limits: WeightLimits) -> None:
    perception = perception_of(model, limits, *THINGS.values())
    for index in range(1, 4):
        told = list(events(perception, heard(model, steady(kind, seed=index), index=index)))
        assert set(audio_scores(iter(told)).values()) == {0.0}
        assert not [event for event in told if event.HasField("alert")]
        (embedding,) = (event.embedding for event in told if event.HasField("embedding"))
        assert {w.sensor: w.meaningless for w in embedding.windows} == {"microphone": "steady noise", "camera": ""}
        (source,) = (event.audio_source for event in told if event.HasField("audio_source"))
        assert source.state in (pb.SOURCE_STATE_NOTHING_HEARD, pb.SOURCE_STATE_NOT_IN_VIEW)
        assert source.reason == "steady noise"
        assert not source.HasField("in_view")


def test_without_limits_steady_sound_is_scored_like_any_other(model: Embedder) -> None:
    sounds = [steady(kind) for kind in ("white noise", "pink noise", "tone", "hum")]
    perception = perception_of(model, UNKNOWN, *THINGS.values())
    assert max(max(audio_scores(events(perception, heard(model, sound))).values()) for sound in sounds) > 0.2
    muted = heard(model, np.zeros(2 * RATE_HZ, np.float32))
    assert set(audio_scores(events(perception, muted)).values()) == {0.0}, "silence means nothing to any weights"


@pytest.mark.parametrize("kind", ["rain", "chainsaw", "helicopter", "sea_waves"])
def test_noisy_things_are_heard_as_before(kind: str, model: Embedder, limits: WeightLimits) -> None:
    tick = heard(model, sounding(kind))
    with_limits = audio_scores(events(perception_of(model, limits, *THINGS.values()), tick))
    assert with_limits == audio_scores(events(perception_of(model, UNKNOWN, *THINGS.values()), tick))
    assert max(with_limits, key=lambda query_id: with_limits[query_id]) == kind


def test_a_query_for_noise_itself_is_answered_by_it(model: Embedder, limits: WeightLimits) -> None:
    tick = heard(model, steady("white noise"))
    asked = audio_scores(events(perception_of(model, limits, THINGS["dog"], QUIET), tick))
    assert asked["quiet"] == audio_scores(events(perception_of(model, UNKNOWN, QUIET), tick))["quiet"] > 0
    assert asked["dog"] == 0


def test_another_microphone_that_hears_something_is_scored_alone(model: Embedder, limits: WeightLimits) -> None:
    both = perception_of(model, limits, *THINGS.values(), microphones=2)
    bark, alone = sounding("dog"), perception_of(model, limits, *THINGS.values())
    scores = audio_scores(events(both, heard(model, steady("tone"), bark)))
    assert scores == pytest.approx(audio_scores(events(alone, heard(model, bark))), abs=1e-5)


def test_a_replay_of_vectors_knows_what_meant_nothing(model: Embedder, limits: WeightLimits) -> None:
    perception = perception_of(model, limits, *THINGS.values())
    (event,) = (e for e in events(perception, heard(model, steady("tone"))) if e.HasField("embedding"))
    tick = recorded_tick(event, frozenset({"microphone", "camera"}))
    [again] = RecordedEmbedder.embed(model, [tick])  # type: ignore[arg-type]  # which needs nothing of a model
    assert set(audio_scores(events(perception, again)).values()) == {0.0}
    forgotten = replace(again, meaningless={})
    assert max(audio_scores(events(perception, forgotten)).values()) > 0
