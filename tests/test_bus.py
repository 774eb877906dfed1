from __future__ import annotations

import logging
import threading
from itertools import count

import numpy as np
import pytest

import agent.events.bus
from agent.events.bus import Bus, Published, Resume, Subscription
from agent.events.filters import EventFilter
from agent.faults import Faults
from agent.vectors import vector_message
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_VISION

VECTOR = vector_message(np.full(16, 0.25, np.float32))


def embedding(tick: int = 0) -> pb.Event:
    windows = [pb.WindowEmbedding(sensor="eye", modality=MODALITY_VISION, present=True, vector=VECTOR)]
    return pb.Event(capture_ns=tick, embedding=pb.Embedding(tick=tick, windows=windows, fused=VECTOR))


def alert(number: int = 1) -> pb.Event:
    return pb.Event(alert=pb.AlertTransition(query_id="dog", alert_id=number))


def bus(**sizes: int) -> Bus:
    clock = count(1000)
    return Bus("run", lambda: next(clock), **sizes)


def subscribe(bus: Bus, request: pb.SubscribeRequest | None = None, **options: object) -> Subscription:
    return bus.subscribe(EventFilter(request or pb.SubscribeRequest()), lambda: None, **options)  # type: ignore[arg-type]


def taken(subscription: Subscription) -> list[pb.Event]:
    events = []
    while (data := subscription.take()) is not None:
        events.append(pb.Event.FromString(data))
    return events


def test_events_are_numbered_and_stamped() -> None:
    made = bus()
    subscription = subscribe(made)
    assert [made.publish(embedding(7)), made.publish(alert())] == [1, 2]
    first, second = taken(subscription)
    assert (first.run_id, first.seq, first.capture_ns, first.publish_ns) == ("run", 1, 7, 1000)
    assert (second.seq, second.alert.query_id) == (2, "dog")
    assert made.last_seq == 2


def test_a_message_is_serialised_once_for_equal_views() -> None:
    made = bus()
    plain = [subscribe(made) for _ in range(3)]
    full = [subscribe(made, pb.SubscribeRequest(vectors=True)) for _ in range(2)]
    made.publish(embedding())
    plain_bytes = [subscription.take() for subscription in plain]
    full_bytes = [subscription.take() for subscription in full]
    assert all(data is plain_bytes[0] for data in plain_bytes)
    assert full_bytes[0] is full_bytes[1]
    assert len(full_bytes[0] or b"") > len(plain_bytes[0] or b"") + 2 * len(VECTOR.data)


def test_the_bytes_of_old_events_are_not_kept() -> None:
    made = bus()
    for tick in range(100):
        made.publish(embedding(tick))
    first, second = (subscribe(made, resume=Resume("run", 0)) for _ in range(2))
    pairs = [(first.take(), second.take()) for _ in range(100)]
    assert all(a == b for a, b in pairs)
    assert pairs[0][0] is not pairs[0][1]
    assert pairs[-1][0] is pairs[-1][1]


def test_an_event_is_measured_before_the_bus_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bus()
    locked: list[bool] = []

    class Measured(Published):
        def __init__(self, event: pb.Event) -> None:
            locked.append(made._lock.locked())
            super().__init__(event)

    monkeypatch.setattr(agent.events.bus, "Published", Measured)
    made.publish(embedding())
    assert locked == [False]


def test_wake_is_coalesced_until_something_is_taken() -> None:
    made = bus()
    woken: list[int] = []
    subscription = made.subscribe(EventFilter(pb.SubscribeRequest()), lambda: woken.append(1))
    for _ in range(5):
        made.publish(embedding())
    assert len(woken) == 1
    subscription.take()
    made.publish(embedding())
    assert len(woken) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_counted_and_logged_once(value: float, caplog: pytest.LogCaptureFixture) -> None:
    made = bus()
    subscription = subscribe(made)
    bad_vector, bad_score = embedding(), embedding()
    bad_vector.embedding.windows[0].vector.CopyFrom(vector_message(np.array([0.1, value], np.float32)))
    bad_score.embedding.scores.add(score=value)
    with caplog.at_level(logging.WARNING):
        for event in (bad_vector, bad_vector, bad_score):
            assert made.publish(event) == 0
    assert made.refused == {"embedding.windows.vector.data": 2, "embedding.scores.score": 1}
    assert len(caplog.records) == 2
    assert taken(subscription) == []
    assert made.publish(embedding()) == 1


def test_the_gap_counts_exactly_what_was_dropped() -> None:
    made = bus()
    subscription = subscribe(made, pb.SubscribeRequest(kinds=[pb.EVENT_KIND_EMBEDDING]), max_others=5)
    for tick in range(20):
        made.publish(embedding(tick))
        made.publish(alert())
    gap, *rest = taken(subscription)
    assert (gap.gap.first_seq, gap.gap.last_seq, gap.gap.events) == (1, 29, 15)
    assert (gap.seq, gap.run_id, gap.gap.reason) == (29, "run", "slow subscriber")
    assert [event.embedding.tick for event in rest] == [15, 16, 17, 18, 19]
    assert subscription.dropped == 15


def test_alerts_that_are_not_read_end_the_subscription() -> None:
    made = bus()
    stalled, other = subscribe(made, max_alerts=3), subscribe(made)
    for number in range(4):
        made.publish(alert(number))
    assert stalled.ended == "alerts were not read"
    assert taken(stalled) == []
    assert [event.alert.alert_id for event in taken(other)] == [0, 1, 2, 3]
    assert not other.ended


class FailingFilter(EventFilter):
    """Fails at every alert."""

    def admits(self, event: pb.Event) -> bool:
        if event.WhichOneof("event") == "alert":
            raise RuntimeError("the filter fails on purpose")
        return super().admits(event)


def failing_wake() -> None:
    raise RuntimeError("waking fails on purpose")


def test_a_fault_in_one_subscription_costs_that_one(caplog: pytest.LogCaptureFixture) -> None:
    made = bus()
    filtered = made.subscribe(FailingFilter(pb.SubscribeRequest()), lambda: None)
    unwoken = made.subscribe(EventFilter(pb.SubscribeRequest(kinds=[pb.EVENT_KIND_ALERT])), failing_wake)
    sound = subscribe(made)
    assert [made.publish(event) for event in (embedding(), alert(1), alert(2), embedding())] == [1, 2, 3, 4]
    assert [event.seq for event in taken(sound)] == [1, 2, 3, 4]
    for failed in (filtered, unwoken):
        assert failed.ended == "a fault of the agent's own, of which its log says more"
        assert taken(failed) == []
    assert made.faults.counts() == {"subscribers": 2}
    assert len(caplog.records) == 2


def test_what_waited_too_long_is_reported() -> None:
    now_s = 0
    made = Bus("run", lambda: now_s * 10**9)
    for now_s in range(6):
        made.publish(embedding(now_s))
    resumed = subscribe(made, resume=Resume("run", 0), max_age_ns=2 * 10**9)
    gap, *rest = taken(resumed)
    assert (gap.gap.first_seq, gap.gap.last_seq, gap.gap.events, gap.gap.reason) == (1, 3, 3, "too old")
    assert [event.seq for event in rest] == [4, 5, 6]


def test_resume_gives_exactly_what_was_missed() -> None:
    made = bus()
    for tick in range(10):
        made.publish(embedding(tick))
        made.publish(alert(tick))
    request = pb.SubscribeRequest(kinds=[pb.EVENT_KIND_ALERT])
    subscription = subscribe(made, request, resume=Resume("run", 15), max_alerts=1)
    made.publish(alert(99))
    assert [event.seq for event in taken(subscription)] == [16, 18, 20, 21]
    assert taken(subscribe(made, resume=Resume("run", made.last_seq))) == []


def test_resume_goes_on_with_the_alerts_that_were_seen_to_begin() -> None:
    made = bus()
    begin = {"phase": pb.ALERT_PHASE_BEGIN, "modalities": [MODALITY_VISION]}
    update = {"phase": pb.ALERT_PHASE_UPDATE, "modalities": [MODALITY_AUDIO]}
    for number, fields in ((1, begin), (1, update), (2, update)):
        made.publish(pb.Event(alert=pb.AlertTransition(query_id="dog", alert_id=number, **fields)))  # type: ignore[arg-type]
    request = pb.SubscribeRequest(modalities=[MODALITY_VISION])
    assert [event.seq for event in taken(subscribe(made, request, resume=Resume("run", 1)))] == [2]


def test_resume_tells_what_is_no_longer_held() -> None:
    made = bus(history_events=4)
    for tick in range(10):
        made.publish(embedding(tick))
    gap, *rest = taken(subscribe(made, resume=Resume("run", 2)))
    assert (gap.gap.first_seq, gap.gap.last_seq, gap.gap.events, gap.gap.reason) == (3, 6, 0, "no longer held")
    assert gap.seq == 6
    assert [event.seq for event in rest] == [7, 8, 9, 10]


def test_resume_in_another_run_starts_over() -> None:
    made = bus()
    made.publish(embedding())
    gap, first = taken(subscribe(made, resume=Resume("an older run", 1234)))
    assert (gap.gap.reason, gap.run_id, gap.seq) == ("another run", "run", 0)
    assert first.seq == 1


def test_history_is_bounded_in_bytes() -> None:
    size = embedding(1).ByteSize() + 48
    made = bus(history_bytes=10 * size)
    for tick in range(100):
        made.publish(embedding(tick))
    gap, *rest = taken(subscribe(made, resume=Resume("run", 0)))
    assert 10 <= len(rest) <= 15
    assert gap.gap.last_seq + 1 == rest[0].seq
    assert rest[-1].seq == 100


def test_a_closed_subscription_costs_nothing() -> None:
    made = bus()
    subscription = subscribe(made)
    assert made.subscribers == 1
    subscription.close()
    subscription.close()
    made.publish(embedding())
    assert made.subscribers == 0
    assert subscription.take() is None


def test_an_ended_subscription_can_be_read_to_its_end() -> None:
    made = bus()
    subscription = subscribe(made)
    made.publish(embedding())
    subscription.end("agent is stopping")
    made.publish(embedding())
    assert [event.seq for event in taken(subscription)] == [1]
    assert subscription.ended == "agent is stopping"


def test_many_publishers_one_order() -> None:
    made = bus()
    some = threading.Event()
    subscription = made.subscribe(EventFilter(pb.SubscribeRequest()), some.set, max_others=10_000)
    threads = [threading.Thread(target=lambda: [made.publish(embedding(i)) for i in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    seqs: list[int] = []
    while len(seqs) < 800:
        assert some.wait(10)
        some.clear()
        seqs += [event.seq for event in taken(subscription)]
    for thread in threads:
        thread.join()
    assert seqs == list(range(1, 801))


def test_listeners_are_handed_every_event_itself_in_order_until_they_end() -> None:
    bus = Bus("run", lambda: 7)
    first, second = list[pb.Event](), list[pb.Event]()
    end_first = bus.listen(first.append)
    bus.listen(second.append)
    event = pb.Event(alert=pb.AlertTransition(query_id="dog"))
    bus.publish(event)
    end_first()
    bus.publish(pb.Event(health=pb.StreamHealth(sensor="eye")))
    assert first == [event]
    assert first[0] is event
    assert [told.seq for told in second] == [1, 2]
    assert second[0].publish_ns == 7


def test_what_is_refused_reaches_no_listener_and_a_listener_that_fails_costs_itself() -> None:
    faults = Faults()
    bus = Bus("run", lambda: 0, faults=faults)
    told: list[pb.Event] = []

    def fail(_: pb.Event) -> None:
        raise ValueError("no room")

    bus.listen(fail)
    bus.listen(told.append)
    assert bus.publish(pb.Event(embedding=pb.Embedding(inference_ms=float("nan")))) == 0
    assert bus.publish(pb.Event(embedding=pb.Embedding(inference_ms=2.0))) == 1
    assert [event.embedding.inference_ms for event in told] == [2.0]
    assert faults.counts() == {"listeners": 1}


def test_an_event_that_a_listener_publishes_reaches_all_after_the_one_that_it_was_told_of() -> None:
    bus = Bus("run", lambda: 0)
    told: list[int] = []

    def answer(event: pb.Event) -> None:
        if event.HasField("alert"):
            bus.publish(pb.Event(health=pb.StreamHealth(sensor="eye")))

    bus.listen(answer)
    subscription = bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None)
    bus.listen(lambda event: told.append(event.seq))
    bus.publish(pb.Event(alert=pb.AlertTransition(query_id="dog")))
    taken = list(iter(subscription.take_event, None))
    assert [event.WhichOneof("event") for event in taken] == ["alert", "health"]
    assert told == [1, 2]


def test_events_are_taken_as_a_subscriber_sees_them_without_being_parsed_again() -> None:
    bus = Bus("run", lambda: 0)
    whole = bus.subscribe(EventFilter(pb.SubscribeRequest(vectors=True)), lambda: None)
    trimmed = bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None)
    event = pb.Event(embedding=pb.Embedding(tick=3, fused=pb.Vector(dtype=pb.Vector.DTYPE_FLOAT16, data=b"\0<")))
    bus.publish(event)
    assert whole.take_event() is event
    shown = trimmed.take_event()
    assert shown is not None
    assert (shown.embedding.tick, shown.embedding.HasField("fused")) == (3, False)
    assert event.embedding.HasField("fused")
    assert trimmed.take_event() is None
