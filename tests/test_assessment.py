"""The comparison with the truth: an agent that knows everything is right, one that errs is told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.lab.assessment import Verdict, assess, certainly_in_view
from protos import perception_pb2 as pb
from protos import sensors_pb2
from world.kinds import SOUNDING
from world.scene import Scene, SceneOptions
from world.truth import ThingTruth

START_NS = 1_000_000_000_000
SECONDS = 45
SEEN, HEARD = sensors_pb2.MODALITY_VISION, sensors_pb2.MODALITY_AUDIO


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneOptions(3, 240, 240, hfov_deg=60))


@pytest.fixture(scope="module")
def kinds(scene: Scene) -> dict[str, str]:
    return {t.kind.name: t.kind.name for t in scene.things if t.kind.name in SOUNDING}


def events_of(
    scene: Scene,
    kinds: dict[str, str],
    seen: Callable[[Scene, str, float], bool],
    heard: Callable[[Scene, str, float], bool],
    turn_deg: float = 0.0,
) -> list[pb.Event]:
    """What an agent says that sees and hears as the functions tell, and points `turn_deg` beside the source."""
    events: list[pb.Event] = []

    def publish(t_s: float, **body: object) -> None:
        event = pb.Event(seq=len(events) + 1, capture_ns=START_NS + round(t_s * 1e9), **body)  # type: ignore[arg-type]
        events.append(event)

    on: dict[str, tuple[int, ...]] = dict.fromkeys(kinds, ())
    for tick in range(1, 2 * SECONDS):
        t_s = tick / 2
        publish(t_s, embedding=pb.Embedding(tick=tick))
        for kind in kinds:
            now = tuple(m for m, sense in ((SEEN, seen), (HEARD, heard)) if sense(scene, kind, t_s))
            if now != on[kind]:
                phase = pb.ALERT_PHASE_END if not now else pb.ALERT_PHASE_UPDATE if on[kind] else pb.ALERT_PHASE_BEGIN
                publish(t_s, alert=pb.AlertTransition(query_id=kind, phase=phase, modalities=now or on[kind]))
                on[kind] = now
        sounding = [thing for thing in scene.truth(t_s).things if thing.sounding]
        if len(sounding) == 1:
            publish(t_s, audio_source=source_of(sounding[0], turn_deg))
    return events


def source_of(thing: ThingTruth, turn_deg: float) -> pb.AudioSource:
    source = pb.AudioSource(direction=pb.Direction(azimuth_deg=thing.azimuth_deg + turn_deg, confidence=1))
    if thing.box is not None:
        x0, y0, x1, y1 = thing.box
        source.state, source.peak_x, source.peak_y = pb.SOURCE_STATE_IN_VIEW, (x0 + x1) / 2, (y0 + y1) / 2
    return source


def truly_seen(scene: Scene, kind: str, t_s: float) -> bool:
    thing = scene.truth(t_s).thing(kind)
    return thing is not None and certainly_in_view(thing, 240 * 240) is Verdict.YES


def truly_heard(scene: Scene, kind: str, t_s: float) -> bool:
    return t_s >= 2 and scene.sounded_between(t_s - 2, t_s).get(kind, 0) >= 1


def never(scene: Scene, kind: str, t_s: float) -> bool:  # noqa: ARG001
    return False


def always(scene: Scene, kind: str, t_s: float) -> bool:  # noqa: ARG001
    return True


def test_an_agent_that_knows_the_truth_is_right(scene: Scene, kinds: dict[str, str]) -> None:
    result = assess(scene, START_NS, events_of(scene, kinds, truly_seen, truly_heard), kinds)
    for counts in result.alerts.values():
        assert counts.found >= 2
        assert counts.f1 == counts.f1_ticks == 1.0
    assert result.seen_but_only_heard == 0
    assert len(result.direction_errors_deg) > 10
    assert result.directions_right > 0.9  # it is said of the tick; the robot may have turned meanwhile
    assert result.peaks_right == 1.0


def test_an_agent_that_never_says_anything_misses_everything(scene: Scene, kinds: dict[str, str]) -> None:
    result = assess(scene, START_NS, events_of(scene, kinds, never, never), kinds)
    for counts in result.alerts.values():
        assert (counts.found, counts.false, counts.ticks_false) == (0, 0, 0)
        assert counts.f1 == 0.0


def test_an_agent_that_always_says_it_sees_is_wrong_at_every_other_tick(scene: Scene, kinds: dict[str, str]) -> None:
    result = assess(scene, START_NS, events_of(scene, kinds, always, truly_heard), kinds)
    assert result.alerts["seen"].ticks_false > 2 * result.alerts["seen"].ticks_right
    assert result.alerts["heard"].f1 == 1.0


def test_what_is_heard_and_reported_as_seen_is_counted(scene: Scene, kinds: dict[str, str]) -> None:
    result = assess(scene, START_NS, events_of(scene, kinds, truly_heard, truly_heard), kinds)
    assert result.heard_out_of_view > 0
    assert result.seen_but_only_heard > 0
    assert result.alerts["seen"].ticks_false > 0


def test_a_direction_beside_the_source_is_wrong(scene: Scene, kinds: dict[str, str]) -> None:
    result = assess(scene, START_NS, events_of(scene, kinds, truly_seen, truly_heard, turn_deg=25), kinds)
    assert result.directions_right < 0.1


def test_scenes_add_up(scene: Scene, kinds: dict[str, str]) -> None:
    events = events_of(scene, kinds, truly_seen, truly_heard)
    one, both = assess(scene, START_NS, events, kinds), assess(scene, START_NS, events, kinds)
    both.add(one)
    assert both.alerts["heard"].found == 2 * one.alerts["heard"].found
    assert both.peaks_total == 2 * one.peaks_total
