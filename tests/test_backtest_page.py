"""The page of a backtest: whole by itself, safe whatever a log holds, small, readable on a phone and without light."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_page import Element, Page
from numpy.typing import NDArray

from agent.backtest.page.media import media
from agent.backtest.page.score_chart import COLUMNS
from agent.backtest.page.sections import MOST_CHARTS
from agent.backtest.page.write import page
from agent.backtest.report import Report
from agent.backtest.thresholds import Mark
from agent.query import Query
from benchmarks.backtest_page import LOG, elements_of, made_up, scores_with, with_media

S = 1_000_000_000
DOM = Path(__file__).parent / "page_in_node.js"
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\"'`--><svg/onload=alert(1)>{{7*7}}${1}"
FILE = '"><b onclick=x>&lt;\u202e\x1b[31m\udcff.mcap'


def marks(*spans: tuple[float, float]) -> list[Mark]:
    return [Mark(round(begin * S), round(end * S)) for begin, end in spans]


@pytest.fixture(scope="module")
def report() -> Report:
    """Ten alarms in 200 ticks of 0.5 s, one of which reaches just 0.94; two of four marked times have none."""
    query = Query("dog", "a dog barking", ("vision", "audio"), 0.6)
    scores = scores_with(10, 200)
    scores[scores > 0.94] = np.float32(0.94)
    assert np.count_nonzero(scores == np.float32(0.94)) == 2
    return made_up([scores], query, marks((0, 1), (4, 6), (50, 60), (61, 61.5)))


@pytest.fixture(scope="module")
def seen(report: Report) -> Page:
    return Page(page(with_media(report), 7))


def test_whatever_a_log_holds_stays_text(tmp_path: Path) -> None:
    log = tmp_path / FILE
    shutil.copy(LOG, log)
    made = made_up([scores_with(3, 60)] * 2, Query("x", HOSTILE, threshold_on=0.6), log=log, model=HOSTILE)
    made = replace(made, queries=[replace(made.queries[0], warnings=[HOSTILE]), made.queries[0]])
    shown = Page(page(made, 3))
    assert len(shown.programs()) == 1
    assert not shown.all("b") + shown.all("img")[6:]
    assert HOSTILE in [element.text for element in shown.all("bdi")]
    text = shown.text()
    assert text.count(HOSTILE) == 2 + 2 + 2 + 1 + 1, "in the title, the list and the headings; the model; a warning"
    # Controls, marks of direction and bytes that are no text are written out.
    assert f'{tmp_path}/"><b onclick=x>&lt;\\u202e\\x1b[31m\\udcff.mcap' in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", text)


def test_no_markup_is_shown_as_text(seen: Page) -> None:
    shown = [element for element in seen.root.iter() if element.tag not in ("script", "style")]
    assert not [text for element in shown for text in (element.text, element.tail) if text and re.search("[<>]", text)]
    assert "1.7 minutes in all" in seen.text()


def test_only_the_pages_own_script_and_style_may_run(seen: Page) -> None:
    (policy,) = [m.get("content") or "" for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    (script,) = seen.programs()
    for rule, text in (("script-src", script.text or ""), ("style-src", seen.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")


def test_every_alarm_and_marked_time_is_drawn_where_it_is(report: Report, seen: Page) -> None:
    """As shares of the width from the first tick to the last one."""
    chart = seen.all("svg", "chart")[0]
    (query,) = report.queries
    times_ns = report.recordings[0].times_ns.tolist()

    def spans(class_: str) -> NDArray[np.float64]:
        return np.array([[share(bar, "x"), share(bar, "width")] for bar in seen.all("rect", class_, chart)])

    def at(t_ns: int) -> float:
        return min(max((t_ns - times_ns[0]) / (times_ns[-1] - times_ns[0]), 0), 1)

    def wanted(begin_ns: int, end_ns: int) -> tuple[float, float]:
        return at(begin_ns), max(at(end_ns) - at(begin_ns), 0.0005)

    for class_, marked in (("hit", True), ("false", False)):
        drawn = np.array([wanted(f.hit.begin_ns, f.hit.end_ns) for f in query.found if f.marked is marked])
        assert len(drawn) >= 2
        assert spans(class_) == pytest.approx(drawn, abs=2e-5)
    outcomes = [(wanted(o.mark.from_ns, o.mark.to_ns), o.found) for o in query.outcomes]
    assert spans("mark") == pytest.approx(np.array([span for span, _ in outcomes]), abs=2e-5)
    assert spans("missed") == pytest.approx(np.array([span for span, found in outcomes if not found]), abs=2e-5)
    assert [found for _, found in outcomes] == [True, False, True, False]
    assert len(spans("shade")) == len(query.found)


def test_the_marked_times_are_told_with_their_best_scores(report: Report, seen: Page) -> None:
    (query,) = report.queries
    lines = ["".join(item.itertext()) for item in seen.all("li")]
    for outcome, span in zip(query.outcomes, ("0:00.0 to 0:01.0", "0:04.0 to 0:06.0"), strict=False):
        assert outcome.best is not None
        told = "found" if outcome.found else "missed"
        sense = {"vision": "seen", "audio": "heard"}[outcome.best[1]]
        assert f"{span}: {told}, best score {sense} {outcome.best[0]:.3f}" in lines


def test_each_modality_of_the_query_has_a_lane_with_the_threshold(report: Report, seen: Page) -> None:
    chart = seen.all("svg", "chart")[0]
    names = [text.text for text in seen.all("text", "name", chart)]
    assert names == ["seen", "heard", "time from the start of the recording"]
    for line, lane in zip(seen.all("line", "level", chart), seen.all("svg", "plot", chart), strict=True):
        top, height = float(lane.get("y") or "nan"), float(lane.get("height") or "nan")
        assert float(line.get("y1") or "nan") == pytest.approx(top + 0.4 * height, abs=0.05)
        highest = max(scores_in(lane))
        at = 0 if lane is seen.all("svg", "plot", chart)[0] else 1
        assert highest == pytest.approx(float(report.queries[0].scores[0][:, at].max()), abs=6e-4)


def test_alarms_are_listed_best_first_with_their_pictures(report: Report, seen: Page) -> None:
    cards = seen.all("li", "moment")
    best = with_media(report).queries[0].best[:7]
    assert [float(card.get("data-peak") or "nan") for card in cards] == [found.hit.peak[0] for found in best]
    assert [bool(seen.all("strong", "hit-word", card)) for card in cards] == [found.marked for found in best]
    for card, found in zip(cards, best, strict=True):
        after_s = (found.peak_ns - report.recordings[0].timeline.start_ns) / 1e9
        told = re.search(r"best at 0:(\d\d\.\d); lasted 0\.5 s", "".join(card.itertext()))
        assert told is not None
        assert float(told[1]) == pytest.approx(after_s, abs=0.06)
    assert "The 7 best of 10." in seen.text()
    assert len(seen.all("img")) == len(seen.all("audio")) == 7
    for image in seen.all("img"):
        assert re.fullmatch(r"Camera picture, 0\.\d\d s before the tick of the best score", image.get("alt") or "")
    assert all(audio.get("aria-label") and audio.get("preload") == "none" for audio in seen.all("audio"))
    linked = {link.get("href") for link in seen.all("a") if link.get("href", "").startswith("#q1-m")}
    assert linked == {f"#q1-m{rank}" for rank in range(1, 8)}


def test_media_beyond_their_room_are_left_out_the_worst_first(report: Report) -> None:
    found = with_media(report).queries[0].best
    everything = media([found])
    assert list(everything) == found
    sizes = [len(shown.picture_uri or "") for shown in everything.values()]
    first = media([found[:5], found[5:]], pictures_bytes=sizes[0] + sizes[5] + 10, sounds_bytes=0)
    pictured = [one for one, shown in first.items() if shown.picture_uri]
    assert pictured == [found[0], found[5]], "the best of each query"
    assert not [shown for shown in first.values() if shown.sound_uri]
    assert len(first) == 3, "nothing is looked up once there is no room"


def test_a_thousand_alarms_make_a_small_page() -> None:
    query = Query("dog", "a dog barking", ("audio",), 0.6, cooldown_s=0)
    report = made_up([scores_with(1000, 3200)], query)
    assert len(report.queries[0].found) == 1000
    text = page(report, 1000)
    assert len(Page(text).all("li", "moment")) == 1000
    assert elements_of(text) < 12_000
    assert len(text) < 1_000_000


def test_many_recordings_are_drawn_as_far_as_they_say_most() -> None:
    heights = [0.1, *np.linspace(0.2, 0.9, MOST_CHARTS), 0.15]
    values = [np.full((40, 5), height, np.float32) for height in heights]
    shown = Page(page(made_up(values, Query("dog", "a dog", threshold_on=0.95)), 5))
    drawn = [chart.get("aria-labelledby") for chart in shown.all("svg", "chart")]
    assert drawn == [*(f"q1-r{row}-title" for row in range(2, MOST_CHARTS + 2)), "q1-thresholds-title"]
    assert f"{MOST_CHARTS} of {MOST_CHARTS + 2} recordings are drawn, those with the highest scores." in shown.text()


def test_a_recording_with_a_marked_time_is_drawn_before_those_with_high_scores() -> None:
    values = [np.full((40, 5), 0.5, np.float32)] * MOST_CHARTS + [np.full((40, 5), 0.1, np.float32)]
    made = made_up(values, Query("dog", "a dog", threshold_on=0.95), marks((400, 402)))
    last = made.recordings[-1]
    later = replace(last, times_ns=last.times_ns + 395 * S)
    shown = Page(page(replace(made, recordings=[*made.recordings[:-1], later]), 5))
    assert f"q1-r{MOST_CHARTS + 1}-title" in [chart.get("aria-labelledby") for chart in shown.all("svg", "chart")]


def test_a_night_is_drawn_in_few_points_with_its_only_peak() -> None:
    values = np.full((5000, 5), 0.02, np.float32)
    values[2345, 0] = 0.55
    shown = Page(page(made_up([values], Query("dog", "a dog", ("vision",), 0.999)), 5))
    lane = shown.all("svg", "plot")[0]
    scores = scores_in(lane)
    assert len(scores) <= 2 * COLUMNS
    assert max(scores) == pytest.approx(0.55, abs=6e-4)


@pytest.mark.parametrize("hours", [0.01, 0.5, 9.7])
def test_labels_of_charts_do_not_touch_on_a_phone(hours: float) -> None:
    """At 360 px: 12 px beside the page, 60 px left of a chart and 28 px right of it."""
    report = made_up([scores_with(4, 60)], Query("dog", "a dog", threshold_on=0.123456), marks((0, 2)))
    (recording,), (query,) = report.recordings, report.queries
    times_ns = recording.times_ns[0] + np.linspace(0, hours * 3600 * S, 60).astype(np.int64)
    suggested = replace(query, keeps=query.points[-9])
    spread = replace(report, recordings=[replace(recording, times_ns=times_ns)], queries=[suggested])
    shown = Page(page(spread, 5))
    assert re.search(r"\.chart text \{ font: 12px ", shown.style)
    assert re.search(r"\.plots \{ padding: 0 1\.75rem 0 3\.75rem \}", shown.style)
    width = 360 - 2 * 16 - 28 - 60
    for chart in shown.all("svg", "chart"):
        height = float(chart.get("height") or "nan")
        boxes = [box(text, width) for text in shown.all("text", within=chart)]
        assert len(boxes) > 10
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert -60 - 16 <= left < right <= width + 28 + 16
            assert -8 <= top < bottom <= height + 4
            for l2, t2, r2, b2 in boxes[:i]:
                assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top


def test_nothing_is_wider_than_a_phone(seen: Page) -> None:
    assert "width=device-width" in {m.get("name"): m.get("content") or "" for m in seen.all("meta")}["viewport"]
    sizes = re.findall(r"(?<!max-)width: ([\d.]+)(px|rem|em)|minmax\((?!min)", seen.style)
    assert not [size for size in sizes if size[0] and float(size[0]) * (1 if size[1] == "px" else 16) > 328]
    assert re.search(r"overflow-wrap: anywhere", seen.style)
    assert re.search(r"\.moment img \{[^}]*max-width: 100%; height: auto", seen.style), "pictures keep their ratio"


@pytest.mark.parametrize("number", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_have_enough_contrast(seen: Page, number: int) -> None:
    """WCAG 2.2: 4.5 for text, 3 for what a chart draws."""
    themes = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{([^}]*)\}", seen.style)
    ]
    assert len(themes) == 3
    colours = themes[number]
    assert colours.keys() == themes[0].keys()
    for text in ("ink", "quiet", "link", "hit", "false", "suggested"):
        for behind in ("paper", "card"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for drawn in ("curve", "threshold", "alarm", "mark"):
        assert contrast(colours[drawn], colours["paper"]) >= 3, drawn
    assert "@media (prefers-color-scheme: dark)" in seen.style


def test_charts_are_told_in_words(report: Report, seen: Page) -> None:
    (found, *_) = report.queries[0].best
    for chart in seen.all("svg", "chart"):
        title, says = seen.all("title", within=chart)[0], seen.all("desc", within=chart)[0]
        assert (chart.get("aria-labelledby"), chart.get("aria-describedby")) == (title.get("id"), says.get("id"))
    says = seen.all("desc")[0].text or ""
    assert f"alarms: 10, of which false: {sum(not f.marked for f in report.queries[0].found)}" in says
    assert f"heard {found.hit.peak[0]:.3f} at " in says


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_slider_counts_as_the_agent_does(report: Report, seen: Page) -> None:
    """The page's script in node, on the page's own elements: every threshold is tried."""
    (query,) = report.queries
    (script,) = seen.programs()
    given = json.dumps({"tree": tree(seen.root), "script": script.text})
    done = subprocess.run(["node", DOM], input=given, capture_output=True, text=True, timeout=60, check=True)
    states = json.loads(done.stdout)
    assert len(states) == len(query.points) > 100
    for state, point in zip(states, query.points, strict=True):
        threshold = np.float32(point.threshold)
        counts = re.fullmatch(
            r"threshold (\S+): alarms (\d+), (\S+) an hour; false (\d+); marked times found (\d+) of 4", state["says"]
        )
        assert counts is not None
        assert float(counts[1]) == point.threshold
        assert [int(counts[i]) for i in (2, 4, 5)] == [point.fired, point.false, point.found]
        assert float(counts[3]) == pytest.approx(point.fired / report.hours, rel=6e-3)
        assert state["under"] == [bool(threshold > found.hit.peak[0]) for found in query.best[:7]]
        assert state["levels"] == pytest.approx([1 - point.threshold] * 2)
        assert state["uprights"] == pytest.approx([100 * point.threshold] * 2)
    assert not states[0]["hidden"]


def test_without_the_script_the_slider_is_hidden(seen: Page) -> None:
    (tool,) = seen.all("div", "tool")
    assert tool.get("hidden") is not None
    assert re.search(r"^\[hidden\] \{ display: none \}$", seen.style, re.M)


def test_a_log_without_pictures_and_sounds_has_a_page() -> None:
    log = LOG.with_name("events.mcap")
    made = made_up([scores_with(2, 30)], Query("dog", "a dog", threshold_on=0.6), log=log)
    shown = Page(page(made, 2))
    assert len(shown.all("li", "moment")) == 2
    assert not shown.all("img") + shown.all("audio")


def test_a_query_whose_modality_had_no_window_has_a_page() -> None:
    values = np.full((30, 5), np.nan, np.float32)
    values[:, 0] = 0.9
    shown = Page(page(made_up([values], Query("dog", "a dog", ("audio",), 0.6), marks((1, 2))), 2))
    assert "at 30 of 30 ticks there was no window of audio: nothing could fire" in shown.text()
    assert "0:01.0 to 0:02.0: missed, no score" in shown.text()
    assert "Nothing fired." in shown.text()
    assert "best scores: none" in (shown.all("desc")[0].text or "")


def test_an_alarm_that_was_on_at_the_end_is_told_so() -> None:
    values = np.zeros((30, 5), np.float32)
    values[27:] = 0.9
    shown = Page(page(made_up([values], Query("dog", "a dog", ("audio",), 0.6)), 2))
    assert "lasted 0.5 s, and was still on when the log ended" in shown.text()


def share(element: Element, name: str) -> float:
    value = element.get(name) or ""
    assert value.endswith("%")
    return float(value[:-1]) / 100


def scores_in(lane: Element) -> list[float]:
    """Of the path of a lane."""
    (path,) = [child.get("d") or "" for child in lane]
    return [1 - float(y) / 100 for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]


def box(text: Element, width: float) -> tuple[float, float, float, float]:
    """Where a text stands, in pixels; 0.6 em a character is a wide font."""
    x, y = text.get("x") or "", float(text.get("y") or "nan")
    at = float(x[:-1]) / 100 * width if x.endswith("%") else float(x)
    long = 7.2 * len(text.text or "")
    left = at - {"start": 0.0, "middle": long / 2, "end": long}[text.get("text-anchor") or "start"]
    return left, y - 9, left + long, y + 2


def contrast(a: str, b: str) -> float:
    """Contrast of two colours by WCAG 2.2."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def tree(element: Element) -> dict[str, Any]:
    """Plain values of an element, for `page_in_node.js`."""
    return {
        "tag": element.tag.rpartition("}")[2],
        "attributes": dict(element.items()),
        "text": element.text or "",
        "children": [tree(child) for child in element],
    }
