"""A layout of Foxglove, and of Lichtblick, for the sensors and queries of a run. Pure.

Source of the keys: an exported layout of Foxglove, and the panels of https://github.com/lichtblick-suite/lichtblick.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.log.format import EVENTS_TOPIC, SENSORS_TOPIC, RunFacts
from agent.log.viewers import topics
from agent.log.viewers.mounting import mountings
from drivers.driver import MODALITIES

MOST_PICTURES = 4
MOST_SERIES = 20
"""Lines in one plot, beyond which nobody tells their colours apart."""
_PLAIN_TOPIC = re.compile(r"(/[A-Za-z0-9_-]+)+")
_ACCEL = ("ax_mps2", "ay_mps2", "az_mps2")
_GYRO = ("gx_rps", "gy_rps", "gz_rps")

Tree = dict[str, Any] | str
"""Panels side by side or one above the other, or the id of one."""


def layout_of(facts: RunFacts, texts: Mapping[str, str]) -> str:
    """Return the layout of a run as JSON, to be imported into a viewer; `texts` are its queries by id.

    Left are the pictures with the boxes of audio sources, right the plots of IMUs and scores; below are the log and the
    last report on a stream.
    """
    panels: dict[str, dict[str, Any]] = {}

    def add(kind: str, name: str, title: str, config: Mapping[str, Any]) -> str:
        panel = f"{kind}!{name}"
        panels[panel] = {"foxglovePanelTitle": title, "lichtblickPanelTitle": title, **config}
        return panel

    cameras = [name for name, sensor in facts.sensors.items() if sensor.modality == "vision"][:MOST_PICTURES]
    imus = [name for name, sensor in facts.sensors.items() if sensor.modality == "imu"]
    pictures = [add("Image", f"picture{i}", name, _image(facts, name)) for i, name in enumerate(cameras)]
    plots = []
    for i, name in enumerate(imus[:1]):
        plots.append(add("Plot", f"accel{i}", f"{name}: acceleration, m/s²", _plot(_of_rows(name, _ACCEL))))
        plots.append(add("Plot", f"gyro{i}", f"{name}: rotation, rad/s", _plot(_of_rows(name, _GYRO))))
    if scored := _of_scores(facts, texts):
        plots.append(add("Plot", "scores", "scores", {**_plot(scored), "minYValue": 0, "maxYValue": 1}))
    log = {"topicToRender": topics.LOG, "minLogLevel": 1, "searchTerms": []}
    last = {"topicPath": f"{EVENTS_TOPIC}.health", "diffEnabled": False, "expansion": "all"}
    below = [
        add("RosOut", "log", "alerts and states", log),
        add("RawMessages", "status", "last report on a stream", last),
    ]
    columns = [_split(column, "column") for column in (pictures, plots) if column]
    above = [_split(columns, "row")] if columns else []
    tree = {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split([*above, _split(below, "row")], "column", 70),
    }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def path_of(topic: str, field: str) -> str:
    """Return a field of a topic as viewers' message paths have it; a topic with other characters is quoted."""
    return f"{topic}.{field}" if _PLAIN_TOPIC.fullmatch(topic) else f'"{topic}".{field}'


def _split(parts: Sequence[Tree], direction: str, percentage: float | None = None) -> Tree:
    """Panels that share a row or a column: by default each takes the same part of it."""
    first, *rest = parts
    if not rest:
        return first
    share = 100 / len(parts) if percentage is None else percentage
    return {
        "direction": direction,
        "first": first,
        "second": _split(rest, direction),
        "splitPercentage": round(share, 1),
    }


def _image(facts: RunFacts, camera: str) -> dict[str, Any]:
    calibrated = mountings(facts)[camera].hfov_deg is not None
    mode: dict[str, Any] = {
        "imageTopic": SENSORS_TOPIC + camera,
        "annotations": {topics.sources(camera): {"visible": True}},
        "synchronize": False,
    }
    if calibrated:
        mode["calibrationTopic"] = topics.calibration(camera)
    return {"imageMode": mode}


def _of_rows(imu: str, fields: Sequence[str]) -> list[tuple[str, str]]:
    return [(field, path_of(topics.rows(imu), field)) for field in fields]


def _of_scores(facts: RunFacts, texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """The scores of each query by what is seen and heard; of a run with neither, by all it has."""
    present = [name for name in MODALITIES if name in {sensor.modality for sensor in facts.sensors.values()}]
    shown = [name for name in present if name in ("vision", "audio")] or present
    series = [
        (f"{text}: {modality}", path_of(topics.scores(query_id), modality))
        for query_id, text in texts.items()
        for modality in shown
    ]
    return series[:MOST_SERIES]


def _plot(series: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "paths": [
            {"value": path, "label": label, "enabled": True, "timestampMethod": "receiveTime"} for label, path in series
        ],
        "xAxisVal": "timestamp",
        "isSynced": True,
        "showLegend": True,
        "legendDisplay": "floating",
        "showPlotValuesInLegend": False,
        "showXAxisLabels": True,
        "showYAxisLabels": True,
        "sidebarDimension": 240,
    }
