"""What follows from a tick's vectors: queries come and go whole, and every tick says what is known of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.config.parse import parse
from agent.embedding.model import Embedded
from agent.embedding.reduction import LEFT_OUT
from agent.events.messages import found
from agent.perceiving.alerts.scoring import Scorer
from agent.perceiving.perception import Perception
from agent.query import Query, QueryError
from agent.scores import Scores
from agent.windows.window import Tick, Window
from drivers.driver import MODALITIES, Modality
from models.vocabulary import Reading
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_VISION

D = 64
S = 1_000_000_000
HOP_NS = S // 2


def unit(text: str) -> NDArray[np.float32]:
    """A direction of its own for every set of words."""
    rng = np.random.default_rng(sum(text.encode()))
    vector = rng.normal(size=D)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class WordEmbedder:
    """Embeds a text as the thing it names, so that a query and a window about the same thing have one vector."""

    calibration = None

    def __init__(self) -> None:
        self.broken = False
        self.deaf = False
        """Whether a text has another vector for sound than for sight."""

    def embed_texts(self, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        if self.broken:
            raise ArithmeticError("a vector that is not finite")
        heard = " heard" if self.deaf and modality == "audio" else ""
        return np.stack([unit(("dog" if "dog" in text else text) + heard) for text in texts])

    def read(self, text: str) -> Reading:
        return Reading("a dog" if text == "a hound" else text, tuple(w for w in text.split() if w == "zebra"))

    def logit_scales(self, overrides: Mapping[Modality, float]) -> dict[Modality, float]:
        return {**dict.fromkeys(MODALITIES, 20.0), **overrides}


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def perception(embedder: WordEmbedder) -> Perception:
    config = parse({"sensors": {"camera": {"type": "synthetic_camera"}, "depth": {"type": "synthetic_depth"}}})
    return Perception(embedder, config)


def embedded(index: int, vector: NDArray[np.float32] | None) -> Embedded:
    picture: NDArray[Any] = np.zeros((2, 48, 64, 3), np.uint8)
    window = Window("camera", "vision", picture, 10.0, index * HOP_NS, "")
    tick = Tick(index, index * HOP_NS, {"camera": window}, index * HOP_NS)
    vectors = {} if vector is None else {"camera": vector}
    return Embedded(tick, vectors, {}, vector, 1.0, {} if vectors else {"camera": "unusable"})


def events_of(perception: Perception, embedded: Embedded) -> Iterator[pb.Event]:
    """What subscribers are told of a tick."""
    return map(found, perception.perceive(embedded))


def phases(said: Iterable[pb.Event]) -> list[str]:
    return [pb.AlertPhase.Name(e.alert.phase).removeprefix("ALERT_PHASE_") for e in said if e.HasField("alert")]


def test_a_query_is_told_of_what_it_asks_for(perception: Perception, embedder: WordEmbedder) -> None:
    perception.add(Query("dog", "a dog barking"), embedder)
    told = [phases(events_of(perception, embedded(i, unit("dog" if 4 <= i < 9 else "floor")))) for i in range(16)]
    flat = [phase for tick in told for phase in tick]
    assert flat == ["BEGIN", "END"]
    assert told.index(["BEGIN"]) in (4, 5)


def test_every_tick_is_an_embedding_with_the_scores_of_all_queries(
    perception: Perception, embedder: WordEmbedder
) -> None:
    perception.add(Query("dog", "a dog"), embedder)
    perception.add(Query("cat", "a cat"), embedder)
    first = next(events_of(perception, embedded(0, unit("dog"))))
    assert {(s.query_id, round(s.score)) for s in first.embedding.scores} == {("dog", 1), ("cat", 0)}
    (missing,) = events_of(perception, embedded(1, None))
    assert not missing.embedding.scores
    assert missing.embedding.windows[0].missing_reason == "unusable"


def test_a_text_may_have_another_vector_for_sound_than_for_sight(embedder: WordEmbedder) -> None:
    embedder.deaf = True
    config = parse({"sensors": {"camera": {"type": "synthetic_camera"}, "ear": {"type": "synthetic_microphone"}}})
    perception = Perception(embedder, config)
    perception.add(Query("dog", "a dog"), embedder)
    seen = embedded(0, unit("dog"))
    sound = Window("ear", "audio", np.full((8, 1), 0.1, np.float32), 16000.0, 0, "")
    windows = {**seen.tick.windows, "ear": sound}

    def scores(heard: str) -> dict[int, int]:
        both = Embedded(
            replace(seen.tick, windows=windows), {"camera": unit("dog"), "ear": unit(heard)}, {}, None, 1, {}
        )
        event = next(events_of(perception, both))
        return {score.modality: round(score.score) for score in event.embedding.scores}

    assert scores("dog heard") == {MODALITY_VISION: 1, MODALITY_AUDIO: 1}
    assert scores("dog") == {MODALITY_VISION: 1, MODALITY_AUDIO: 0}


def test_what_begins_anew_ends_its_alerts_keeps_its_queries_and_counts_on(
    perception: Perception, embedder: WordEmbedder
) -> None:
    perception.add(Query("dog", "a dog", min_duration_s=0.0), embedder)
    perception.add(Query("cat", "a cat", min_duration_s=0.0), embedder)
    (begin,) = (e.alert for e in events_of(perception, embedded(8, unit("dog"))) if e.HasField("alert"))
    (end,) = perception.start_anew()
    assert (end.query_id, end.phase, end.alert_id, end.t_ns) == ("dog", "end", begin.alert_id, 8 * HOP_NS)
    assert [standing.query.id for standing in perception.queries()] == ["dog", "cat"]
    (again,) = (e.alert for e in events_of(perception, embedded(2, unit("dog"))) if e.HasField("alert"))
    assert (again.phase, again.alert_id) == (pb.ALERT_PHASE_BEGIN, begin.alert_id + 1)


def test_a_query_that_cannot_be_embedded_leaves_nothing_behind(perception: Perception, embedder: WordEmbedder) -> None:
    embedder.broken = True
    with pytest.raises(ArithmeticError):
        perception.add(Query("dog", "a dog"), embedder)
    assert perception.queries() == ()
    embedder.broken = False
    perception.add(Query("dog", "a dog"), embedder)
    with pytest.raises(QueryError, match="in use"):
        perception.add(Query("dog", "another dog"), embedder)
    assert [standing.query.text for standing in perception.queries()] == ["a dog"]
    assert len(list(events_of(perception, embedded(0, unit("dog"))))) == 1


def test_a_query_of_words_that_the_model_never_met_is_refused_unless_it_is_forced(
    perception: Perception, embedder: WordEmbedder
) -> None:
    assert perception.add(Query("a", "a dog"), embedder).warnings == ()
    with pytest.raises(QueryError, match="never trained on 'zebra'") as refused:
        perception.add(Query("b", "a zebra"), embedder)
    assert refused.value.field == "text"
    assert [standing.query.id for standing in perception.queries()] == ["a"]
    assert "zebra" in perception.add(Query("b", "a zebra", force=True), embedder).warnings[0]


def test_a_query_is_scored_by_the_words_that_it_is_read_in(perception: Perception, embedder: WordEmbedder) -> None:
    standing = perception.add(Query("dog", "a hound"), embedder)
    assert (standing.query.text, standing.read_as, standing.warnings) == ("a hound", "a dog", ())
    (score,) = next(events_of(perception, embedded(0, unit("dog")))).embedding.scores
    assert score.score > 0.9


def test_the_embedding_does_not_wait_for_the_source(perception: Perception, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    class Search:
        def find(self, embedded: Embedded) -> None:
            searched.append(embedded.tick.index)

    monkeypatch.setattr(perception, "_source_finder", Search())
    said = events_of(perception, embedded(3, unit("dog")))
    assert next(said).HasField("embedding")
    assert searched == []
    assert list(said) == []
    assert searched == [3]


def test_removing_a_query_ends_its_alert(perception: Perception, embedder: WordEmbedder) -> None:
    perception.add(Query("dog", "a dog"), embedder)
    for i in range(4):
        said = phases(events_of(perception, embedded(i, unit("dog"))))
    assert said == []  # it began earlier
    standing, (end,) = perception.remove("dog")
    assert standing.query.id == "dog"
    assert end.phase == "end"
    assert perception.queries() == ()
    with pytest.raises(KeyError):
        perception.remove("dog")


def changes(said: Iterable[pb.Event]) -> list[str]:
    return [f"{e.query.query.id} {e.query.change}" for e in said if e.HasField("query")]


@pytest.mark.parametrize("fault", ["raises", "is not finite", "alert"])
def test_a_query_that_fails_costs_itself_alone(
    perception: Perception,
    embedder: WordEmbedder,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    perception.add(Query("dog", "a dog", min_duration_s=0.0), embedder)
    perception.add(Query("odd", "an odd dog", min_duration_s=0.0), embedder)
    list(events_of(perception, embedded(0, unit("floor"))))
    if fault == "alert":
        follow = perception._book._follow

        def fail(row: int, *rest: Any) -> Any:
            if perception._table.ids[row] == "odd":
                raise RuntimeError("the odd one")
            return follow(row, *rest)

        monkeypatch.setattr(perception._book, "_follow", fail)
    else:
        score = Scorer.score

        def odd(scorer: Scorer, *given: Any) -> Scores:
            scores = score(scorer, *given)
            if "odd" not in scores.query_ids:
                return scores
            if fault == "raises":
                raise RuntimeError("the odd one")
            scores.values[scores.query_ids.index("odd")] = np.nan
            return scores

        monkeypatch.setattr(Scorer, "score", odd)
    with caplog.at_level(logging.ERROR):
        said = list(events_of(perception, embedded(1, unit("dog"))))
    assert said[0].HasField("embedding")
    assert "dog" in {score.query_id for score in said[0].embedding.scores}
    assert phases(said) == ["BEGIN"]
    assert changes(said) == [f"odd {pb.QueryChange.CHANGE_REMOVED}"]
    assert [standing.query.id for standing in perception.queries()] == ["dog"]
    assert any("query odd 'an odd dog' is removed: it failed" in record.message for record in caplog.records)
    assert perception._faults.counts() == {"query odd": 1}
    assert changes(events_of(perception, embedded(2, unit("dog")))) == []


def test_scoring_that_fails_for_none_of_them_costs_the_scores_of_a_tick(
    perception: Perception, embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    perception.add(Query("dog", "a dog", min_duration_s=0.0), embedder)
    fails = iter([True])
    score = Scorer.score

    def once(scorer: Scorer, *given: Any) -> Scores:
        if next(fails, False):
            raise MemoryError
        return score(scorer, *given)

    monkeypatch.setattr(Scorer, "score", once)
    (event,) = events_of(perception, embedded(0, unit("dog")))
    assert not event.embedding.scores
    assert perception._faults.counts() == {"scoring": 1}
    assert phases(events_of(perception, embedded(1, unit("dog")))) == ["BEGIN"]


def test_localization_that_fails_costs_the_source_of_its_tick(
    perception: Perception, embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    perception.add(Query("dog", "a dog", min_duration_s=0.0), embedder)

    class Broken:
        def find(self, _: Embedded) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(perception, "_source_finder", Broken())
    said = list(events_of(perception, embedded(0, unit("dog"))))
    assert [e.WhichOneof("event") for e in said] == ["embedding", "alert"]
    assert perception._faults.counts() == {"audio source": 1}


def test_what_is_left_out_holds_its_alert(perception: Perception, embedder: WordEmbedder) -> None:
    perception.add(Query("dog", "a dog", min_duration_s=0.0), embedder)
    said: list[str] = []
    for i in range(17):
        seen = embedded(i, unit("dog") if i % 8 == 0 else None)
        if i % 8:
            seen.missing["camera"] = LEFT_OUT
        said += phases(events_of(perception, seen))
    assert said == ["BEGIN"]
