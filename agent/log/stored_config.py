"""The stored configuration of a log, as far as a replay may use it.

Logs are exchanged: their addresses, folders, files and devices belong to another computer, or are a stranger's wish.
A replay uses only the keys that turn samples into windows, scores and alerts, which WHAT_COUNTS names; it ignores
all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.config.faults import ConfigError
from agent.config.parse import Config, parse
from agent.config.settings import SensorSettings, StreamOptions
from agent.log.timeline import Timeline
from common.printable import brief
from models.files.description import CheckpointError
from models.files.store import Store, key_of

WHAT_COUNTS = ("windows", "queries", "background_prompts", "alerts", "localization")
"""Sections that count as they are; of `model` and `sensors` only parts do."""
_OF_MODEL = ("weights", "device", "dtype")
"""Keys that results depend on. A compiler runs only when the user asks for it."""
_OF_SENSORS = (SensorSettings.model_fields.keys() | StreamOptions.model_fields.keys()) - {"logged"}


def replayed(tree: Mapping[str, Any], *, model: bool = True) -> dict[str, Any]:
    """Return the part of a stored configuration that a replay uses; without `model`, nothing of the model. Pure.

    Weights are left as they are named: whether that is a name has to be asked before they are opened.
    """
    found = {key: tree[key] for key in WHAT_COUNTS if key in tree}
    queries = found.get("queries")
    if isinstance(queries, list):
        # Clips would be written into a folder of the log's choice.
        found["queries"] = [
            {k: v for k, v in query.items() if k != "clip"} if isinstance(query, dict) else query for query in queries
        ]
    stored = tree.get("model")
    if model and stored is not None:
        found["model"] = {k: v for k, v in stored.items() if k in _OF_MODEL} if isinstance(stored, dict) else stored
    sensors = tree.get("sensors")
    found["sensors"] = {
        name: {k: v for k, v in sensor.items() if k in _OF_SENSORS} if isinstance(sensor, dict) else sensor
        for name, sensor in (sensors.items() if isinstance(sensors, dict) else ())
    }
    return found


def stored_config(timeline: Timeline, model: Mapping[str, Any] | None = None) -> Config:
    """The configuration by which a recording is replayed when none is given; `model` goes before what it says there.

    Raises ConfigError, also for weights that are a file: a log does not get to choose what is opened.
    """
    config = judged(timeline, model)
    _check_weights(config)
    return config


def judged(timeline: Timeline, model: Mapping[str, Any] | None = None) -> Config:
    """Check the configuration as `stored_config` does, at once: it does not ask whether the weights exist. Raises
    ConfigError.
    """
    tree = replayed(timeline.facts.config)
    if model and isinstance(tree.get("model", {}), dict):
        tree["model"] = {**tree.get("model", {}), **model}
    config = parse(tree, str(timeline), devices=False)
    # They were taken when the log was recorded, maybe by an agent that refused none.
    return replace(config, queries=tuple(replace(query, force=True) for query in config.queries))


def _check_weights(config: Config) -> None:
    weights = config.model.weights
    try:
        Store().folder(key_of(weights))
    except CheckpointError:
        raise ConfigError(
            f"{config.name}: its configuration asks for the weights {brief(weights)}, which "
            "`sensebind weights list` does not show; files that a log names are not opened: give a --config that names "
            "the weights"
        ) from None
