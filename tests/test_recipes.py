"""README's tree, CONTRIBUTING's recipes and the commands on all pages hold for the code as it is."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from agent.commands.verbs import app
from agent.commands.view import line_of
from agent.events.filters import KINDS
from drivers.registry import DRIVERS
from protos import perception_pb2 as pb

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = (ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
PAGES = [
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "models/shipped/README.md",
]
PACKAGES = ("agent", "common", "drivers", "models", "protos", "world")
ROOMS_WITHOUT_SMALL_PRINT = ("agent", "agent/run", "common", "models")
"""Folders of which README names every file, not only the folders."""
EVENTS = [field.name for field in pb.Event.DESCRIPTOR.oneofs_by_name["event"].fields]
EVERY_TICK = ("embedding", "audio_source")
"""Kinds that a terminal shows on a screen of its own and not as lines."""


def the_tree() -> set[str]:
    """Paths that README's tree names, folders with a slash at the end; an indent of two is a level."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README, re.M | re.S)
    text = next(block for block in blocks if block.startswith("protos/"))
    named: set[str] = set()
    above: list[str] = []
    for line in text.splitlines():
        level = (len(line) - len(line.lstrip())) // 2
        del above[level:]
        words = line.split()
        end = next((n for n, word in enumerate(words) if not re.fullmatch(r"[\w/]+(/|\.py)", word)), len(words))
        names = words[:end]
        assert names, f"the line {line!r} names nothing"
        for name in names:
            path = "".join(above) + name
            named.add(path)
        above.append(names[0] if names[0].endswith("/") else "")
    return named


def recipe(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", CONTRIBUTING, re.M | re.S)
    assert found, f"CONTRIBUTING.md has no section {title!r}"
    return found[1]


def paths_in(text: str) -> set[str]:
    """Paths of the repository in backquotes or as the target of a link."""
    quoted = set(re.findall(r"`([^`\s]+)`", text)) | set(re.findall(r"\]\(([^)#\s]+)", text))
    top = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {path for path in quoted if path.startswith(top)}


def test_every_path_of_the_tree_exists() -> None:
    for path in the_tree():
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


def test_the_tree_names_every_room() -> None:
    rooms = {
        f"{init.parent.relative_to(ROOT)}/" for package in PACKAGES for init in ROOT.glob(f"{package}/**/__init__.py")
    }
    assert rooms - the_tree() == set()


@pytest.mark.parametrize("room", ROOMS_WITHOUT_SMALL_PRINT)
def test_the_tree_names_every_file_of_a_room(room: str) -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"}
    assert files - the_tree() == set()


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == ROOT else page.parent.name + page.name
)
def test_every_path_on_a_page_exists(page: Path) -> None:
    text = page.read_text()
    for path in paths_in(text):
        assert list(ROOT.glob(path)), path
    for link in re.findall(r"\]\(([^)#\s:]+)\)", text):
        assert (page.parent / link).exists(), link


def test_the_targets_of_make_on_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.M))
        assert named <= targets, page.name


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `sensebind` command on the pages and in the comments of the configurations: where it stands, its words."""
    for page in [*PAGES, *sorted(ROOT.glob("configs/*.yaml"))]:
        text = page.read_text()
        lines = re.findall(r"^ *(?:\$ )?(sensebind .*)$", text, re.M) + re.findall(r"`(sensebind [^`]+)`", text)
        for line in lines:
            yield f"{page.name}: {line}", shlex.split(line, comments=True)[1:]


def test_the_commands_on_the_pages_exist_with_their_options() -> None:
    seen = 0
    for where, words in commands():
        command = typer.main.get_command(app)
        while isinstance(command, typer.core.TyperGroup) and words:
            if re.fullmatch(r"[A-Z]+|\.\.\.", words[0]):  # `sensebind VERB`
                break
            found = command.get_command(typer.Context(command), words.pop(0))
            assert found, where
            command = found
            seen += 1
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        for word in words:
            assert not word.startswith("--") or word.split("=")[0] in known, where
    assert seen > 40


@pytest.mark.parametrize("name", [name for name in DRIVERS if not name.startswith("synthetic_")])
def test_a_driver_is_in_the_robots_configuration_and_has_a_test(name: str) -> None:
    text = (ROOT / "configs/robot.yaml").read_text()
    assert re.search(rf"\btype: {name}\b", text), f"configs/robot.yaml has no entry of type {name}"
    module = DRIVERS[name].partition(":")[0]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    wanted = re.compile(rf"^(from {re.escape(module)} import|import {re.escape(module)}\b)", re.M)
    assert any(wanted.search(test.read_text()) for test in ROOT.glob("tests/test_*.py")), f"no test imports {module}"


def test_every_entry_of_the_configurations_has_a_driver() -> None:
    for path in ROOT.glob("configs/*.yaml"):
        text = path.read_text()
        types = {entry["type"] for entry in yaml.safe_load(text)["sensors"].values()}
        types |= set(re.findall(r"#.*\btype: (\w+)", text))
        assert types <= set(DRIVERS), path.name


def test_a_kind_of_event_can_be_subscribed_to_by_its_name() -> None:
    assert list(KINDS) == EVENTS
    assert {f"EVENT_KIND_{kind.upper()}": number for kind, number in KINDS.items()} == {
        name: number for name, number in pb.EventKind.items() if number
    }


@pytest.mark.parametrize("kind", EVENTS)
def test_a_kind_of_event_is_built_documented_and_shown(kind: str) -> None:
    calls = (
        node
        for path in ROOT.glob("agent/events/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pb.Event"
    )
    assert any(word.arg == kind for call in calls for word in call.keywords), "agent/events builds none"
    client = ast.parse((ROOT / "agent/client/client.py").read_text())
    [subscribe] = [
        n for n in ast.walk(client) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == "subscribe"
    ]
    assert re.search(rf'"{kind}"|\b{kind.capitalize()}\b', ast.get_docstring(subscribe) or "")
    event = pb.Event()
    getattr(event, kind).SetInParent()
    assert (line_of(event) is None) == (kind in EVERY_TICK)
    assert f'case "{kind}":' in (ROOT / "clients/node/watch.js").read_text()


def files_that_spell(word: str, *, packages: tuple[str, ...] = PACKAGES, names: bool = True) -> set[str]:
    """Source files in which a word is a string of its own or, with `names`, a name; generated code is left out."""
    found = set()
    for path in (path for package in packages for path in sorted(ROOT.glob(f"{package}/**/*"))):
        if path.suffix == ".proto" and names:
            spelled = word in re.findall(r"\w+", path.read_text())
        elif path.suffix == ".py" and "_pb2" not in path.name:
            spelled = any(word in words_of(node, names) for node in ast.walk(ast.parse(path.read_text())))
        else:
            continue
        if spelled:
            found.add(str(path.relative_to(ROOT)))
    return found


def words_of(node: ast.AST, names: bool) -> tuple[object, ...]:
    if isinstance(node, ast.Constant):
        return (node.value,) if isinstance(node.value, str) else ()
    return (getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "arg", None)) if names else ()


def test_the_recipe_of_a_query_field_names_the_files_that_spell_one() -> None:
    assert files_that_spell("cooldown_s") == {
        path for path in paths_in(recipe("A new query field")) if "configs/" not in path
    }


def test_the_recipe_of_a_modality_names_every_file_that_tells_one() -> None:
    own = {"drivers/thermal.py"}
    spelled = files_that_spell("thermal", packages=("agent", "drivers", "models"), names=False)
    assert spelled - own - paths_in(recipe("A new modality")) == set()
