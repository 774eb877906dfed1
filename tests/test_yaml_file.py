from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.config.faults import ConfigError
from agent.config.parse import load
from agent.exchange.description import read_description
from agent.log.format import LogError
from common.yaml_file import MAX_BYTES, YamlError, parse_yaml, read_yaml


def aliases(levels: int, each: int) -> str:
    """A kilobyte that stands for each^levels values."""
    lines = [f"a0: &a0 [{','.join('x' * each)}]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * each)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text: 2026-13-01", ":1: not YAML: '2026-13-01' cannot be read as timestamp"),
        ("a: 1\nb: !!int ''", ":2: not YAML: '' cannot be read as int"),
        ("a: !!bool z", ":1: not YAML: 'z' cannot be read as bool"),
        ("a: !!float abc", ":1: not YAML: 'abc' cannot be read as float"),
        ("a: 0b_", ":1: not YAML: '0b_' cannot be read as int"),
        ("a: !!timestamp foo", ":1: not YAML: 'foo' cannot be read as timestamp"),
        ("a: " + "9" * 10_000, "9999... cannot be read as int"),
        ("a: " + "1:" * 50_000 + "1", ":1:1:... cannot be read as int"),
        ("[" * 500, ":1: not YAML: nested more than 32 levels deep"),
        ("[" * 100_000, ":1: not YAML: nested more than 32 levels deep"),
        ("{a: " * 40 + "}" * 40, ":1: not YAML: nested more than 32 levels deep"),
        (aliases(9, 8), ":5: not YAML: its aliases stand for more than 20000 values"),
        ("\n".join(f"a{n}: &a{n} [*a{n - 1}]" if n else "a0: &a0 [x]" for n in range(200)), "32 levels deep"),
        ("a: &a [*a]", ":1: not YAML: an alias of a value that contains it"),
        ("a: {<<: &a {b: *a}}", ":1: not YAML: an alias of a value that contains it"),
        ("queries:\n" + "- {text: a}\n" * 20_000, "holds more than 20000 values"),
        ("a: 1\na: 2", ":2: not YAML: 'a' is given twice"),
        ("a\0b", "not YAML: unacceptable character #x0000"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor for the tag"),
        ("? [a]\n: b", "found unhashable key"),
        ("a: \x1b[31m", "not YAML: unacceptable character #x001b"),
        ("'" + "a" * 500 + "': 1\n'" + "a" * 500 + "': 1", "aaa... is given twice"),
        ("# " + "a" * MAX_BYTES, "is longer than 256 KiB"),
    ],
)
def test_whatever_is_wrong_is_one_line_at_once(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recording.yaml"
    path.write_text(text)
    began = time.process_time()
    for read, error in ((read_yaml, YamlError), (load, ConfigError)):
        with pytest.raises(error) as raised:
            read(path)
        assert message in str(raised.value)
        assert str(raised.value).startswith(str(path))
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < len(str(path)) + 300
    with pytest.raises(LogError) as refused:
        read_description(tmp_path)
    assert message in str(refused.value)
    assert time.process_time() - began < 10


def test_plain_values_come_as_they_are() -> None:
    text = "a: &a {b: [1, 2.5, yes, ~, 'c']}\nd: {<<: *a, e: 2026-12-31}\nf: *a"
    found = parse_yaml(text, "here")
    assert found["f"] == found["a"] == {"b": [1, 2.5, True, None, "c"]}
    assert found["d"]["b"][0] == 1
    assert str(found["d"]["e"]) == "2026-12-31"
    assert parse_yaml("", "here") is None


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(YamlError, match="is not text: invalid start byte at byte 1; give a YAML file"):
        read_yaml(tmp_path / "binary")
    with pytest.raises(YamlError, match="cannot be read: No such file or directory; give the path of a YAML file"):
        read_yaml(tmp_path / "nothing")
    with pytest.raises(YamlError, match="is longer than 256 KiB"):
        read_yaml(Path("/dev/zero"))
