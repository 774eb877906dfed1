"""Size of the page of a backtest: a made-up night of scores, with a thousand moments.

    python -m benchmarks.backtest_page [--hours 8] [--moments 1000] [--recordings 1]

The agent's book runs over the scores. Pictures and sounds come from the golden log, its seconds in turn, until the page
has no more room for them.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.backtest.page.write import page
from agent.backtest.report import Report
from agent.backtest.run import query_report
from agent.backtest.scoring import Scored, config_for
from agent.backtest.thresholds import Mark
from agent.log.timeline import Timeline
from agent.query import Query
from drivers.driver import MODALITIES

LOG = Path(__file__).parents[1] / "tests" / "data" / "golden" / "log.mcap"
TICKS_OF_MOMENT = 8
"""An alarm of two ticks, then the cool-down of 2 s."""


def scores_with(moments: int, ticks: int, seed: int = 0) -> NDArray[np.float32]:
    """Return noise [ticks, M] with so many alarms at a threshold of 0.6, evenly spread, of different heights."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 0.3, (ticks, len(MODALITIES))).astype(np.float32)
    begins = np.linspace(0, ticks - TICKS_OF_MOMENT, moments).astype(int)
    heights = rng.uniform(0.65, 1.0, moments).astype(np.float32)
    values[begins, 1] = values[begins + 1, 1] = heights
    return values


def made_up(
    values: Sequence[NDArray[np.float32]],
    query: Query,
    marks: Sequence[Mark] = (),
    log: Path = LOG,
    model: str = "made up",
) -> Report:
    """Return the report of one query over recordings with these scores [T, M], which begin with the log.

    Marks are in ns from the start of the log.
    """
    timeline = Timeline([log])
    config = config_for(timeline, None)
    scored = [
        Scored(
            timeline,
            config,
            model,
            timeline.start_ns + config.hop_ns * np.arange(1, len(scores) + 1, dtype=np.int64),
            scores[:, None],
            {query.id: ()},
            {},
        )
        for scores in values
    ]
    hours = sum(one.hours for one in scored)
    shifted = [Mark(mark.from_ns + timeline.start_ns, mark.to_ns + timeline.start_ns, mark.query) for mark in marks]
    reports = [query_report(scored, 0, query, shifted, hours, None)]
    return Report(model, scored, reports, False, len(marks), None)


def with_media(report: Report) -> Report:
    """Return the report with its best ticks moved into the first seconds of the log, which has pictures and sounds."""
    begin_ns, end_ns = (round((report.recordings[0].timeline.start_ns / 1e9 + s) * 1e9) for s in (5, 9))
    (query,) = report.queries
    found = [
        replace(one, peak_ns=begin_ns + number * 137_000_000 % (end_ns - begin_ns))
        for number, one in enumerate(query.found)
    ]
    return replace(report, queries=[replace(query, found=found)])


def elements_of(text: str) -> int:
    """Return the number of elements of a page."""
    return len(re.findall(r"<[a-z]", text))


def main() -> None:
    """Print the size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--moments", type=int, default=1000)
    parser.add_argument("--recordings", type=int, default=1)
    arguments = parser.parse_args()
    ticks = round(arguments.hours * 7200 / arguments.recordings)
    scores = [
        scores_with(arguments.moments // arguments.recordings, ticks, seed) for seed in range(arguments.recordings)
    ]
    begin_s = time.perf_counter()
    report = made_up(scores, Query("dog", "a dog barking", threshold_on=0.6))
    counted_s = time.perf_counter()
    text = page(with_media(report), arguments.moments)
    written_s = time.perf_counter()
    media_bytes = sum(len(found) for found in re.findall(r"data:[a-z]+/[^\"]*", text))
    print(
        f"{report.hours:.1f} h, {ticks * arguments.recordings} ticks, {len(report.queries[0].found)} alarms: "
        f"{len(text) / 1e6:.1f} MB, of which media {media_bytes / 1e6:.1f} MB; {elements_of(text)} elements; "
        f"counted in {counted_s - begin_s:.1f} s, written in {written_s - counted_s:.1f} s"
    )


if __name__ == "__main__":
    main()
