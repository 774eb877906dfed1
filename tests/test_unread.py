from __future__ import annotations

import pytest

from agent.server.unread import Unread


def test_what_is_read_makes_room() -> None:
    unread = Unread(2)
    unread.sent(5)
    assert not unread.full
    unread.sent(9)
    assert unread.full
    assert not unread.read(4)
    assert unread.read(5)
    assert not unread.full
    assert unread.read(9)
    assert len(unread) == 0


def test_what_was_not_sent_cannot_be_read() -> None:
    unread = Unread(2)
    unread.sent(5)
    with pytest.raises(ValueError, match="is 6, but the newest event that was sent is 5"):
        unread.read(6)


def test_a_gap_is_followed_by_what_it_led_to() -> None:
    unread = Unread(2)
    unread.sent(1)
    unread.sent(3, is_gap=True)
    assert not unread.full
    unread.sent(4, is_gap=True)
    assert len(unread) == 3
    assert unread.read(1)
    assert not unread.full
    unread.sent(5)
    assert unread.full
