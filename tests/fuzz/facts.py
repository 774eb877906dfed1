"""What a log says of its run: the texts of its record, apart by the byte 0x1F, in the order of the first seed."""

from __future__ import annotations

from agent.config.faults import ConfigError
from agent.config.parse import parse
from agent.log.format import LoggedSensor, RunFacts
from fuzz.judging import check_told

APART = "\x1f"
TOKENS = (
    b"1" + b"0" * 40,
    b"-1",
    b"1e999",
    b"NaN",
    b"[" * 2000,
    b'{"a":' * 500,
    b"null",
    b'"',
    b"true",
    b"1e-300",
    b"\\ud800",
)
_FACTS = RunFacts(
    "a1b2c3",
    10**18,
    -5,
    {"imu": LoggedSensor("imu", 100.0), "depth": LoggedSensor("depth", 10.0, 0.001)},
    {"sensors": {"imu": {"type": "synthetic_imu"}}, "queries": [{"text": "a dog"}]},
    {"sensebind": "0.1.0"},
)
_KEYS = tuple(_FACTS.to_record())


def one(data: bytes) -> None:
    """Read them, and the configuration in them."""
    texts = data.decode("utf-8", "replace").split(APART)
    try:
        facts = RunFacts.from_record(dict(zip(_KEYS, texts, strict=False)))
    except ValueError:
        return
    assert facts.to_record()
    try:
        parse(facts.config)
    except ConfigError as error:
        check_told(error)


def seeds() -> list[bytes]:
    """As they are written."""
    return [APART.join(_FACTS.to_record().values()).encode()]
