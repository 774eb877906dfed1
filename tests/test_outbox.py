from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.events.outbox import Lost, Outbox


@dataclass(frozen=True)
class Item:
    seq: int
    is_alert: bool = False


def taken(outbox: Outbox[Item]) -> list[Item | Lost]:
    items = []
    while (item := outbox.take()) is not None:
        items.append(item)
    return items


def test_in_order() -> None:
    outbox: Outbox[Item] = Outbox(4, 4)
    items = [Item(1), Item(2, True), Item(5), Item(6, True)]
    for item in items:
        outbox.put(item)
    assert taken(outbox) == items


def test_the_oldest_are_dropped_and_reported_once_before_the_next() -> None:
    outbox: Outbox[Item] = Outbox(4, 2)
    for seq in (1, 3, 4, 8, 9):
        outbox.put(Item(seq))
    assert taken(outbox) == [Lost(1, 4, 3, "slow subscriber"), Item(8), Item(9)]
    assert outbox.dropped == 3
    outbox.put(Item(10))
    assert taken(outbox) == [Item(10)]


def test_an_alert_keeps_its_place_between_losses() -> None:
    outbox: Outbox[Item] = Outbox(4, 1)
    for item in (Item(1), Item(2), Item(3, True), Item(4), Item(5), Item(6)):
        outbox.put(item)
    assert taken(outbox) == [
        Lost(1, 2, 2, "slow subscriber"),
        Item(3, True),
        Lost(4, 5, 2, "slow subscriber"),
        Item(6),
    ]


def test_an_alert_that_does_not_fit_overflows() -> None:
    outbox: Outbox[Item] = Outbox(2, 2)
    for seq in range(1, 4):
        assert not outbox.overflowed
        outbox.put(Item(seq, True))
    assert outbox.overflowed
    outbox.put(Item(4))
    assert taken(outbox) == []


def test_a_backlog_is_not_bounded_by_the_queues() -> None:
    backlog = [Lost(1, 3, 0, "no longer held"), *(Item(seq) for seq in range(4, 20))]
    outbox: Outbox[Item] = Outbox(1, 1, backlog)
    outbox.put(Item(20))
    assert taken(outbox) == [*backlog, Item(20)]


def test_what_is_too_old_is_reported_in_its_place() -> None:
    outbox: Outbox[Item] = Outbox(4, 4)
    for item in (Item(1), Item(2), Item(3, True), Item(4), Item(5)):
        outbox.put(item)
    assert outbox.take(lambda item: item.seq < 5) == Lost(1, 2, 2, "too old")
    assert taken(outbox) == [Item(3, True), Lost(4, 4, 1, "too old"), Item(5)]
    assert outbox.dropped == 3
    assert not outbox


def test_a_backlog_that_is_too_old_is_reported_and_its_alerts_come() -> None:
    gap = Lost(1, 3, 0, "no longer held")
    outbox: Outbox[Item] = Outbox(1, 1, [gap, Item(4), Item(5), Item(6, True), Item(7), Item(8)])
    expected = [gap, Lost(4, 5, 2, "too old"), Item(6, True), Lost(7, 7, 1, "too old"), Item(8), None]
    assert [outbox.take(lambda item: item.seq < 8) for _ in expected] == expected


@given(
    st.lists(st.sampled_from(["put", "alert", "take", "take recent"]), max_size=80),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_nothing_is_lost_silently(actions: list[str], max_others: int, resumed: int) -> None:
    """Whatever the interleaving: seqs rise, and every seq is received once or counted in a Lost that covers it."""
    outbox: Outbox[Item] = Outbox(1000, max_others, [Item(number + 1) for number in range(resumed)])
    received: list[Item | Lost] = []
    seq = resumed
    for action in actions:
        if action.startswith("take"):
            oldest = seq - 2 if action == "take recent" else 0
            if (item := outbox.take(lambda item, oldest=oldest: item.seq < oldest)) is not None:  # type: ignore[misc]
                received.append(item)
        else:
            seq += 1
            outbox.put(Item(seq, action == "alert"))
    rest = taken(outbox)
    received += rest
    at = 0
    for item in received:
        if isinstance(item, Lost):
            assert item.first_seq == at + 1
            assert item.events == item.last_seq - item.first_seq + 1
            at = item.last_seq
        else:
            assert item.seq == at + 1
            at = item.seq
    assert at == seq
    assert not any(isinstance(a, Lost) and isinstance(b, Lost) and a.reason == b.reason for a, b in pairwise(rest))
