"""Findings of perception in a tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.perceiving.alerts.book import Transition
from agent.perceiving.localization.source import AudioSource
from agent.query import StandingQuery

if TYPE_CHECKING:
    from agent.embedding.model import Embedded
    from agent.scores import Scores

__all__ = ["AudioSource", "Finding", "QueryFailed", "ScoredTick", "Transition"]


@dataclass(frozen=True, slots=True)
class ScoredTick:
    """A tick's vectors, and its scores where queries stand and can be scored."""

    embedded: Embedded
    scores: Scores | None


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """A query that is watched for no more, since following it failed."""

    standing: StandingQuery
    t_ns: int


Finding = ScoredTick | Transition | QueryFailed | AudioSource
