"""Verbs that need no model answer without the packages that take long to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import typer
import yaml
from command_tree import commands_of
from real_sources import free_port
from running_agent import DEADLINE_S

from agent.commands.verbs import app

HEAVY = ["torch", "torchaudio", "torchvision", "cv2", "scipy", "open_clip", "onnxruntime", "webdataset", "rosbags"]
PROGRAM = """
import json, sys
from agent.commands.verbs import app

heavy = set(json.loads(sys.argv[1]))
for words in json.loads(sys.argv[2]):
    try:
        app(words, standalone_mode=False)
    except (Exception, SystemExit):
        pass
    if found := sorted(heavy & set(sys.modules)):
        print(json.dumps([words, found]), file=sys.stderr)
        break
"""


def loaded_by(commands: list[list[str]]) -> str:
    """The first of some command lines, run one after the other, that loads a heavy package, and what it loads."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout
    return "\n".join(line for line in done.stderr.splitlines() if line.startswith("[["))


def test_the_help_of_every_verb_loads_no_heavy_package() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    verbs = [name.split() for name, _ in commands_of(group)]
    assert ["log", "export"] in verbs
    assert loaded_by([[*words, "--help"] for words in verbs]) == ""


def test_light_verbs_load_no_heavy_package(tmp_path: Path) -> None:
    config = tmp_path / "robot.yaml"
    config.write_text(yaml.safe_dump({"sensors": {"heat": {"type": "synthetic_thermal", "seed": 3}}}))
    log = Path(__file__).parent / "data/golden/log.mcap"
    no_agent = ["--address", f"127.0.0.1:{free_port()}"]
    light = [
        ["--version"],
        ["doctor"],
        ["config", "check", str(config)],
        ["weights", "list"],
        ["weights", "verify"],
        ["log", "info", str(log)],
        ["log", "info", str(log), "--json"],
        ["log", "cut", str(log), str(tmp_path / "cut.mcap"), "--to", "1"],
        ["status", *no_agent],
        ["query", "list", *no_agent],
        ["watch", *no_agent],
    ]
    assert loaded_by(light) == ""


def test_wrong_arguments_are_refused_before_a_heavy_package_is_loaded(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    log = str(Path(__file__).parent / "data/golden/log.mcap")
    wrong = [
        ["run", "--config", none],
        ["record"],
        ["replay", none],
        ["replay", log, "--speed", "fast"],
        ["backtest", none, "--query", "a dog"],
        ["log", "export", none, f"{none}.out"],
        ["log", "export", none, f"{none}.out", "--to", "shards"],
        ["log", "import", none, f"{none}.mcap"],
        ["golden", "check", none],
        ["embed"],
        ["embed", "--text", "a dog", "--image", f"{none}.jpg"],
        ["embed", "--text", "a dog", "--json", "--device", "tpu"],
        ["embed", "--text", "a dog", "--json", "--weights", "none"],
        ["train", "--shards", none],
        ["evaluate", "--shards", none],
        ["evaluate", "--weights", "none"],
        ["weights", "fetch", "none"],
        ["weights", "fetch", "imagebind-huge", "--sha256", "12"],
        ["weights", "import", none],
        ["weights", "path", "none"],
        ["weights", "verify", "none"],
        ["weights", "export", "none", "--out", f"{none}.onnx"],
        ["weights", "calibrate", "none"],
        ["weights", "limits", "none"],
    ]
    assert loaded_by([["--version"], *wrong]) == ""
