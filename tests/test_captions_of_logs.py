"""Captions that a person gives to a recording: read from a table, on the examples of their time, one line if faulty."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_run import START_NS, recorded, samples_of

from agent.commands.exchange import export_log
from agent.commands.replay import time_of
from agent.config.parse import parse
from agent.exchange.captions import Caption, read_captions
from agent.log.format import LogError, RunFacts, logged_sensors
from models.datasets.dataset import read
from models.datasets.pairs import PairSampler, load


def read_from(path: Path) -> list[Caption]:
    return read_captions(path, lambda word, where: time_of(word, START_NS, where))


def test_a_table_of_captions_is_read_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('From, To, Text\n\n1.5, 4, a dog\n22:13:30,22:13:40,"a gate, closed"\n')  # begun at 22:13:20.1
    assert read_from(path) == [
        Caption(START_NS + 1_500_000_000, START_NS + 4_000_000_000, "a dog"),
        Caption(1_700_000_010 * 10**9, 1_700_000_020 * 10**9, "a gate, closed"),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1,2,a dog\n3,4\n", r"captions.csv:2: not FROM,TO,TEXT with a text of 1 to 1000 characters"),
        ("1,2,a dog, barking\n", r"captions.csv:1: not FROM,TO,TEXT"),
        ("1,2,\n", r"captions.csv:1: not FROM,TO,TEXT"),
        ("soon,2,a dog\n", r"captions.csv:1 'soon': not a time; give seconds"),
        ("3,2,a dog\n", r"captions.csv:1: ends before it begins"),
        ("from,to,text\n", r"captions.csv: holds no caption"),
        ("\udcff\udcfe", r"captions.csv: not a table in UTF-8"),
    ],
)
def test_a_faulty_table_is_one_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LogError, match=fault) as error:
        read_from(path)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"none.csv: cannot be read \(No such file or directory\)"):
        read_from(tmp_path / "none.csv")


def test_images_of_a_lone_camera_are_paired_with_the_texts_of_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eye = {"type": "synthetic_camera", "seed": 3, "width": 96, "height": 64, "pace": "fast", "duration_s": 5.0}
    config = parse({"sensors": {"eye": eye}})
    handed = samples_of(config)
    log = recorded(
        tmp_path / "run.mcap", handed, RunFacts("run", START_NS, 0, logged_sensors(config.specs), config.tree)
    )
    captions = tmp_path / "captions.csv"
    captions.write_text("1.5,3.2,a hill\n2.5,4,rain\n")
    with pytest.raises(LogError, match="--captions: are for training examples; add --to shards"):
        export_log(log, tmp_path / "media", captions=captions)
    export_log(log, tmp_path / "shards", "shards", every_s=1.0, captions=captions)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("shards: 3 examples in 1 shards; images with captions 3")
    assert said[1:] == ["left out: 2 no caption"]
    assert [example.about.scene for example in read(tmp_path / "shards")] == [
        ("a hill",),
        ("a hill", "rain"),
        ("rain",),
    ]
    assert PairSampler(load(tmp_path / "shards", ["vision"]), "text").pairs == 3
