"""Perception: from a tick's vectors to scores, alerts and the audio source.

Lives on one thread: queries are added and removed between ticks, so nothing here needs a lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.embedding.reduction import LEFT_OUT
from agent.faults import Faults
from agent.microphone_array import voiced_band_hz
from agent.perceiving.alerts.acceptance import accepted
from agent.perceiving.alerts.book import AlertBook, Transition, hold_s_of
from agent.perceiving.alerts.curves import curves_of, usable
from agent.perceiving.alerts.prompts import (
    BACKGROUND,
    QUIET,
    THINGS,
    asks_for_quiet,
    by_modality,
    embed_prompts,
    in_templates,
    rivals,
)
from agent.perceiving.alerts.scoring import Margins, Scorer
from agent.perceiving.alerts.table import Column, QueryTable
from agent.perceiving.findings import Finding, QueryFailed, ScoredTick
from agent.perceiving.limits import UNKNOWN, WeightLimits
from agent.perceiving.localization.doa import DirectionFinder
from agent.perceiving.localization.source import SourceFinder
from agent.perceiving.steadiness import meaningless, silent
from agent.query import Query, QueryError, StandingQuery
from agent.scores import Scores
from agent.vectors import Vectors
from drivers.driver import Modality
from models.files.calibration import Calibration
from models.vocabulary import Reading

if TYPE_CHECKING:
    from agent.config.parse import Config
    from agent.embedding.model import Embedded


log = logging.getLogger(__name__)

T = TypeVar("T")


class QueryTexts(Protocol):
    """Part of the model that perception asks about a query."""

    def embed_texts(self, texts: Sequence[str], modality: Modality) -> Vectors:
        """Unit vectors float32 [n, D] of texts, for cosines with a modality's windows."""
        ...

    def read(self, text: str) -> Reading:
        """Read a text in the words that the model was trained on."""
        ...


class TextModel(QueryTexts, Protocol):
    """Part of the model that perception asks when it is made."""

    @property
    def calibration(self) -> Calibration | None:
        """Of the weights; None without one."""
        ...

    def logit_scales(self, overrides: Mapping[Modality, float]) -> Mapping[Modality, float]:
        """The factor on cosines of each modality."""
        ...


class Perception:
    """Scores every tick against the queries and finds the audio source."""

    def __init__(
        self, model: TextModel, config: Config, faults: Faults | None = None, limits: WeightLimits = UNKNOWN
    ) -> None:
        """A fault of one query, or of the search for the source, is counted in `faults` and costs nothing else.

        `limits` are those of the model's weights.
        """
        self._faults = faults or Faults()
        self._limits = limits
        logit_scales = model.logit_scales(config.alerts.logit_scales)
        self._background = config.background_prompts or BACKGROUND
        self._background_vectors = by_modality(lambda modality: _embed(model, self._background, modality))
        self._table = QueryTable()
        self._calibration = usable(model.calibration, self._background, logit_scales)
        self._scorer = Scorer(
            self._table,
            self._background_vectors,
            logit_scales,
            dense=config.alerts.dense,
            calibrated=self._calibration is not None,
        )
        self._book = AlertBook(self._table, hold_s=hold_s_of(config.hop_ns))
        self._asks_for_quiet: Column[np.bool_] = self._table.column(np.bool_)
        self._clips_saved = config.clips.folder is not None
        self._new_source_finder = _source_finders(model, config, logit_scales["audio"], limits)
        self._source_finder = self._new_source_finder()

    def texts_of(self, reading: Reading) -> Mapping[Modality, list[str]]:
        """The texts that stand for a query, for one modality of each space; may be called from any thread."""
        return {modality: in_templates([reading.text]) for modality in self._spaces().values()}

    def add(self, query: Query, model: QueryTexts) -> StandingQuery:
        """Watch for a query from the next tick on. Raises QueryError."""
        if query.clip and not self._clips_saved:
            raise QueryError("clip", "no clips are saved here; give clips.folder in the agent's configuration")
        reading = model.read(query.text)
        standing = accepted(query, reading)
        vectors = self._for_each_space(lambda modality: _embed(model, [reading.text], modality)[0])
        try:
            held_against = self._for_each_space(
                lambda m: rivals(reading.text, vectors[m], self._background, self._background_vectors[m])
            )
        except ValueError as error:
            raise QueryError("text", str(error)) from None
        row = self._book.add(standing)
        try:
            curves = None if self._calibration is None else curves_of(self._calibration, vectors["vision"])
            self._scorer.set(row, vectors, held_against, curves)
            self._asks_for_quiet.rows[row] = asks_for_quiet(reading.text)
        except BaseException:
            self._book.remove(query.id)
            raise
        return standing

    def remove(self, query_id: str) -> tuple[StandingQuery, Sequence[Transition]]:
        """Watch for it no more; with the end of its alert when one is on. Raises KeyError when it is unknown."""
        return self._book.remove(query_id)

    def queries(self) -> Sequence[StandingQuery]:
        """All queries, oldest first; safe to call from any thread."""
        return self._table.standing()

    def start_anew(self) -> Sequence[Transition]:
        """Perceive what follows as if nothing had been, with the same queries; the ends of the alerts that are on.

        Time may step back. The numbers of alerts go on.
        """
        self._source_finder = self._new_source_finder()
        return self._book.start_anew()

    def perceive(self, embedded: Embedded) -> Iterator[Finding]:
        """Yield the findings of a tick, each as soon as it is known: the audio source takes longest."""
        failed: dict[str, str] = {}
        with self._faults.guard("steadiness of sound"):
            embedded = replace(embedded, meaningless=self._meaningless(embedded))
        scores = self._score(embedded, failed) if len(self._table) else None
        yield ScoredTick(embedded, scores)
        if scores is not None:
            yield from self._follow(embedded, scores, failed)
        for query_id, reason in failed.items():
            yield from self._take_out(query_id, reason, embedded.tick.t_ns)
        source = None
        with self._faults.guard("audio source"):
            source = self._source_finder.find(embedded) if self._source_finder else None
        if source is not None:
            yield source

    def margins(self, embedded: Embedded) -> Margins:
        """Return the margins of a tick, of the queries in order: what a calibration is made of."""
        return self._scorer.margins(*_by_modality(embedded))

    def _meaningless(self, embedded: Embedded) -> dict[str, str]:
        """Return the sensors whose sound means nothing to the model, with the reason."""
        reasons = dict(embedded.meaningless)
        for sensor in embedded.vectors:
            window = embedded.tick.windows[sensor]
            if window.modality == "audio" and window.data is not None:
                known = self._limits.steady_means_something
                reasons[sensor] = (silent if known else meaningless)(window.data, window.rate_hz)
        return {sensor: reason for sensor, reason in reasons.items() if reason}

    def _score(self, embedded: Embedded, failed: dict[str, str]) -> Scores | None:
        """The scores of all queries; without those that cannot be scored, which are added to `failed` with the reason.

        None when it cannot be found out which these are. Sound without meaning scores 0, but for queries that ask for
        quiet or noise.
        """
        scores = self._all_scores(*_by_modality(embedded), failed)
        heard = embedded.vectors.keys() - embedded.meaningless.keys()
        if scores is None or any(embedded.tick.windows[sensor].modality == "audio" for sensor in heard):
            return scores
        return scores.without("audio", ~self._asks_for_quiet.rows)

    def _all_scores(
        self, vectors: Mapping[Modality, Vectors], patches: Vectors | None, failed: dict[str, str]
    ) -> Scores | None:
        scores = _finite_scores(self._scorer, vectors, patches)
        if isinstance(scores, Scores):
            return scores
        whole: list[int] = []
        for row, query_id in enumerate(self._table.ids):
            error = _finite_scores(self._scorer, vectors, patches, np.array([row]))
            if isinstance(error, Scores):
                whole.append(row)
            else:
                self._note(query_id, error, failed)
        if not failed:
            self._faults.count("scoring", scores)
            return None
        again = _finite_scores(self._scorer, vectors, patches, np.array(whole, np.intp))
        return again if isinstance(again, Scores) else None

    def _follow(self, embedded: Embedded, scores: Scores, failed: dict[str, str]) -> Sequence[Transition]:
        """Return the changes of the alerts; queries that cannot be followed are added to `failed`."""

        def note(query_id: str, error: Exception) -> None:
            self._note(query_id, error, failed)

        with self._faults.guard("alerts"):
            return self._book.step(embedded.tick.t_ns, scores, left_out=_left_out(embedded), on_fault=note)
        return []

    def _note(self, query_id: str, error: Exception, failed: dict[str, str]) -> None:
        self._faults.count(f"query {query_id}", error)
        failed[query_id] = f"it failed: {error or type(error).__name__}"

    def _take_out(self, query_id: str, reason: str, t_ns: int) -> Iterator[Finding]:
        """Watch no more for a query that fails, and tell so."""
        standing, ended = self.remove(query_id)
        log.error("query %s %r is removed: %s; add it anew, or report this", query_id, standing.query.text, reason)
        yield from ended
        yield QueryFailed(standing, t_ns)

    def _for_each_space(self, make: Callable[[Modality], T]) -> dict[Modality, T]:
        """Make something for a modality of each space, and give it to all that share it.

        Modalities for which the background prompts have equal vectors have equal ones of every text.
        """
        made = {space: make(modality) for space, modality in self._spaces().items()}
        return {modality: made[id(background)] for modality, background in self._background_vectors.items()}

    def _spaces(self) -> Mapping[int, Modality]:
        """A modality of each space, by the identity of its background vectors."""
        spaces: dict[int, Modality] = {}
        for modality, background in self._background_vectors.items():
            spaces.setdefault(id(background), modality)
        return spaces


def _finite_scores(
    scorer: Scorer, vectors: Mapping[Modality, Vectors], patches: Vectors | None, rows: NDArray[np.intp] | None = None
) -> Scores | Exception:
    """The scores of all queries, or those of some rows, or what kept them from being made."""
    try:
        scores = scorer.score(vectors, patches, rows)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is one query's)
        return error
    return scores if np.isfinite(scores.values).all() else ArithmeticError("a score that is not finite")


def _left_out(embedded: Embedded) -> set[Modality]:
    """The modalities that no window has because the model was spared them."""
    windows = embedded.tick.windows
    spared = {windows[sensor].modality for sensor, reason in embedded.missing.items() if reason == LEFT_OUT}
    return spared - {windows[sensor].modality for sensor in embedded.vectors} if spared else spared


def _by_modality(embedded: Embedded) -> tuple[dict[Modality, Vectors], Vectors | None]:
    """The vectors of each modality, float32 [sensors, D], and the patches of all cameras, [cameras, 16, 16, D].

    Sound without meaning counts only where no other sensor hears anything.
    """
    rows: dict[Modality, list[Vectors]] = {}
    for sensor in sorted(embedded.vectors, key=embedded.meaningless.__contains__):
        modality = embedded.tick.windows[sensor].modality
        if sensor not in embedded.meaningless or modality not in rows:
            rows.setdefault(modality, []).append(embedded.vectors[sensor])
    patches = np.stack(list(embedded.patches.values())) if embedded.patches else None
    return {modality: np.stack(vectors) for modality, vectors in rows.items()}, patches


def _source_finders(
    model: TextModel, config: Config, audio_scale: float, limits: WeightLimits
) -> Callable[[], SourceFinder | None]:
    if config.microphone is None:
        return lambda: None
    microphone = config.sensors[config.microphone]
    camera = config.sensors[config.camera] if config.camera else None
    finder = None
    if microphone.mic_positions_m is not None and len(microphone.mic_positions_m) > 1:
        rate_hz = microphone.spec.stream.rate_hz
        positions_m = np.array(microphone.mic_positions_m)
        finder = DirectionFinder(positions_m, rate_hz, band_hz=voiced_band_hz(rate_hz))
    return partial(
        SourceFinder,
        config.microphone,
        config.camera,
        finder=finder,
        hfov_deg=camera.hfov_deg if camera else None,
        quiet=_embed(model, QUIET, "audio"),
        things=_embed(model, THINGS, "audio"),
        audio_scale=audio_scale,
        stretch_s=config.hop_ns / 1e9,
        limits=limits,
    )


def _embed(model: QueryTexts, texts: Sequence[str], modality: Modality) -> Vectors:
    return embed_prompts(texts, lambda filled: model.embed_texts(filled, modality))
