"""The model of a live agent: what the machine cannot do in time is left out of its ticks."""

from __future__ import annotations

from collections.abc import Sequence

from agent.embedding.model import Embedded, Model
from agent.embedding.reduction import LEFT_OUT, ladder, reduced
from agent.embedding.relief import Relief, Took
from agent.streams import Streams
from agent.windows.window import Tick
from common.window_lengths import AUDIO_WINDOW_S
from drivers.driver import Clock
from models.extent import AUDIO_SLACK_S


class Relieved:
    """Embeds ticks by the step that its `relief` is on. To be used by the worker's thread; others may read `relief`.

    The next stage tells with `followed` how long what follows from a tick took. `clock` is the one that ticks are
    stamped by. Without `leave_out` ticks stay whole, and overload is told only.
    """

    def __init__(self, model: Model, streams: Streams, hop_ns: int, clock: Clock, *, leave_out: bool = True) -> None:
        self._model, self._clock, self._leave_out = model, clock, leave_out
        modalities = {stream.modality for stream in streams.values()}
        longest_s = AUDIO_WINDOW_S + AUDIO_SLACK_S
        long_audio = any(s.modality == "audio" and s.window_s > longest_s for s in streams.values())
        steps = ladder(modalities, long_audio=long_audio)
        self.relief = Relief(steps if leave_out else steps[:1], hop_ns / 1e9)
        self._count = 0
        self._followed_s = 0.0

    def embed(self, ticks: Sequence[Tick]) -> list[Embedded]:
        """As `Model.embed`, within the budget that there is."""
        began_ns = self._clock.now_ns()
        step = self.relief.step
        kept = [reduced(tick, step, self._count + i) for i, tick in enumerate(ticks)]
        self._count += len(ticks)
        budget = self.relief.budget((began_ns - ticks[0].t_ns) / 1e9) if self._leave_out else None
        results = self._model.embed(kept, budget)
        total_s = (self._clock.now_ns() - began_ns) / 1e9 / len(ticks)
        for embedded in results:
            self._note(embedded, total_s)
        return results

    def followed(self, took_s: float) -> None:
        """Note the time that the work after a tick took. May be called from another thread."""
        self._followed_s = took_s

    def _note(self, embedded: Embedded, total_s: float) -> None:
        now_ns, tick = self._clock.now_ns(), embedded.tick
        given = {w.modality for w in tick.windows.values() if not w.missing or w.missing == LEFT_OUT}
        took = Took(
            {modality: cost_ms / 1e3 for modality, cost_ms in embedded.costs_ms.items()},
            # Beside each other, the slower of the two decides how many ticks are possible.
            max(total_s, self._followed_s),
            (tick.settled_ns - tick.t_ns) / 1e9,
            frozenset(w.modality for w in tick.windows.values()) - given,
            embedded.declined,
        )
        self.relief.note(now_ns / 1e9, took)
