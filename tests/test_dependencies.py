"""Every dependency is needed where pyproject.toml lists it, has a reason and a licence; every import is listed."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

import third_party
from third_party import CORE, Dependency, dependencies, installed, licence_of, listed

ROOT = third_party.ROOT
SHIPPED = ("agent", "common", "configs", "drivers", "models", "protos", "world")
OTHERS = ("tests", "benchmarks", "third_party.py")
DIRECT = dependencies()
PAGE = third_party.PAGE.read_text("utf-8")
TOOLS_IN = ("Makefile", ".ci/run", "pyproject.toml", "protos/generate.py")
"""Files that run a development tool by its name, or hold its settings."""
WORDS = {
    "pytest-xdist": "-n $(TEST_PROCESSES)",
    "pytest-timeout": "\ntimeout =",
    "pytest-asyncio": "\nasyncio_mode =",
    "mypy-protobuf": "--mypy_out",
}
"""How those files name tools that have another name there."""


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    where: str
    lazy: bool
    """In a function, or for types alone."""


@cache
def imports(*places: str) -> tuple[Import, ...]:
    return tuple(_imports(*places))


def _imports(*places: str) -> Iterator[Import]:
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text("utf-8"))
            inner = {
                id(node)
                for part in ast.walk(tree)
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                or (isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING")
                for node in ast.walk(part)
            }
            for node in ast.walk(tree):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                for name in names:
                    yield Import(name, f"{file.relative_to(ROOT)}:{node.lineno}", id(node) in inner)
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("_require", "importorskip")):
                    for word in node.args:
                        if isinstance(word, ast.Constant):
                            yield Import(str(word.value), f"{file.relative_to(ROOT)}:{node.lineno}", True)


PACKAGES = packages_distributions()


@cache
def packages_of(module: str) -> set[str]:
    """The installed packages that a module may come from; several share `google`."""
    found = {canonicalize_name(name) for name in PACKAGES.get(module.partition(".")[0], ())}
    if len(found) < 2:
        return found
    while "." in module:
        path = module.replace(".", "/")
        inside = {
            name for name in found if any(str(file).startswith((f"{path}/", f"{path}.")) for file in files_of(name))
        }
        if inside:
            return inside
        module = module.rpartition(".")[0]  # it may be a name in a module
    return found


@cache
def files_of(name: str) -> list[object]:
    package = installed(name)
    return list(package.files or []) if package else []


def names(group: str) -> set[str]:
    return {dependency.name for dependency in DIRECT if dependency.group == group}


def used(*places: str) -> set[str]:
    return {name for found in imports(*places) for name in packages_of(found.module)}


EXTRAS = sorted({dependency.group for dependency in DIRECT} - {CORE, "dev", "fuzz"})


def test_the_core_is_imported_by_what_ships() -> None:
    assert names(CORE) - used(*SHIPPED) == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_imported_by_what_ships_and_only_when_used(extra: str) -> None:
    mine = [found for found in imports(*SHIPPED) if packages_of(found.module) & names(extra)]
    assert {name for found in mine for name in packages_of(found.module)} >= names(extra)
    assert [found.where for found in mine if not found.lazy] == []


def test_no_extra_is_a_part_of_the_core() -> None:
    for extra in (*EXTRAS, "dev", "fuzz"):
        assert names(extra) & names(CORE) == set()


def test_fuzzing_is_guided_by_its_extra() -> None:
    assert {found.module for found in imports("tests/fuzz")} >= names("fuzz")


def test_development_needs_what_it_lists() -> None:
    by_name = "".join((ROOT / file).read_text("utf-8") for file in TOOLS_IN[:2])
    settings = "".join((ROOT / file).read_text("utf-8") for file in TOOLS_IN)
    imported = used(*OTHERS)
    for name in names("dev") - imported:
        if name.startswith("types-"):  # stubs of what is installed
            assert name.removeprefix("types-") in names(CORE), name
        else:
            word = WORDS.get(name, {"import-linter": "lint-imports"}.get(name, f"$(BIN)/{name}"))
            assert word in (settings if name in WORDS else by_name), name


def test_what_ships_imports_nothing_that_is_not_listed() -> None:
    own = {*SHIPPED, *sys.stdlib_module_names}
    known = {dependency.name for dependency in DIRECT} - names("dev")
    for found in imports(*SHIPPED):
        if found.module.partition(".")[0] in own or found.where.startswith("protos/generate.py"):
            continue
        assert packages_of(found.module) & known, f"{found.where} imports {found.module}"
        if not found.lazy:
            assert packages_of(found.module) & names(CORE), f"{found.where} imports {found.module}, which is an extra"


def test_tests_and_benchmarks_import_nothing_that_is_not_listed() -> None:
    beside = {path.stem for path in (ROOT / "tests").iterdir()}
    own = {*SHIPPED, *OTHERS, "third_party", *sys.stdlib_module_names, *beside}
    known = {dependency.name for dependency in DIRECT}
    for found in imports(*OTHERS):
        top = found.module.partition(".")[0]
        assert top in own or packages_of(found.module) & known or top in names("fuzz"), f"{found.where}: {found.module}"


def test_constraints_hold_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    assert {dependency.name for dependency in DIRECT if dependency.group != "fuzz"} - pinned == set()


def test_without_cuda_every_package_of_torch_comes_from_its_own_index() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    family = {line.partition("==")[0] for line in lines if line.startswith("torch")}
    named = re.search(r"--torch-backend cpu .* constraints\.txt (.+)", (ROOT / "Makefile").read_text("utf-8"))
    assert named
    assert set(named[1].split()) == family


def test_the_wheel_holds_every_file_that_is_not_code() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    for package in SHIPPED:
        wanted = {path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert wanted == {path for pattern in patterns.get(package, ()) for path in (ROOT / package).glob(pattern)}


@pytest.mark.parametrize("dependency", DIRECT, ids=lambda dependency: dependency.name)
def test_a_dependency_has_its_reason_and_licence_on_the_page(dependency: Dependency) -> None:
    licence, reason = listed(PAGE)[dependency.name]
    assert reason == dependency.reason
    assert licence not in ("not stated", "")
    if package := installed(dependency.name):
        assert licence == licence_of(package), "run make licences"


def test_what_the_dependencies_bring_is_on_the_page() -> None:
    rows = listed(PAGE)
    for name in third_party.brought_by(DIRECT):
        if package := installed(name):
            assert rows[name][0] == licence_of(package), "run make licences"


def test_the_page_is_as_it_is_written() -> None:
    """But for the packages that this machine's Python and torch bring along."""
    fresh = third_party.written(PAGE)
    for text in (PAGE, fresh):
        assert text.startswith("# Third-party licences\n")
    without = [re.sub(r"^\| [a-z0-9-]+ \| .*\n", "", text, flags=re.M) for text in (PAGE, fresh)]
    assert without[0] == without[1]
    assert PAGE.count("| package | licence |") == PAGE.count("\n## Packages ") + PAGE.count("\n## Brought ")


def test_a_package_that_is_not_installed_keeps_its_row() -> None:
    row = "| atheris | Made-Up-1.0 | words |"
    page = re.sub(r"^\| atheris .*$", row, PAGE, flags=re.M)
    if installed("atheris") is None:
        assert listed(third_party.written(page))["atheris"][0] == "Made-Up-1.0"
    kept = ["| made-up-a | Made-Up-2.0 | torch |", "| made-up-b | Made-Up-3.0 | made-up-a |"]
    gone = ["| made-up-c | Made-Up-4.0 | dropped |", "| made-up-d | Made-Up-5.0 | made-up-c |"]
    page = PAGE.replace("| annotated-doc |", "\n".join([*kept, *gone, "| annotated-doc |"]))
    again = third_party.written(page).splitlines()
    assert [row in again for row in (*kept, *gone)] == [True, True, False, False]


def test_every_shipped_file_that_is_data_has_its_licence() -> None:
    patterns = [pattern for pattern, _, _ in third_party.DATA]
    covered = {path for pattern in patterns for path in ROOT.glob(pattern)}
    assert {path for path in (ROOT / "models/shipped").iterdir() if path.name != "README.md"} == covered
    for pattern in patterns:
        assert f"| `{pattern}` |" in PAGE


def test_packages_of_the_node_client_are_on_the_page() -> None:
    packages = json.loads((ROOT / "clients/node/package.json").read_text("utf-8"))["dependencies"]
    assert packages
    for name in packages:
        assert f"`{name}`" in PAGE


def test_no_address_of_a_registry_stands_where_packages_are_named() -> None:
    for file in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "README.md", "THIRD_PARTY.md"):
        text = (ROOT / file).read_text("utf-8")
        assert re.findall(r"(?:--(?:extra-)?index(?:-url)?|--find-links|--registry)[ =]+\S*//", text) == [], file
