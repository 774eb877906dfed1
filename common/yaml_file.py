"""YAML as people write it for this program: small, plain values, every fault one line with the file and its line.

PyYAML's safe loader makes no objects of a stranger's choice, but it follows a kilobyte of aliases to gigabytes, nests
until Python's stack ends, and lets out whatever `int` or `datetime` raise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.printable import brief, shortened

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
"""Keys, values, lists and mappings, those behind aliases counted wherever they are used."""
MAX_LEVELS = 32
MAX_NUMBER = 100
"""Characters of a number or a date."""
_NUMBERS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
_MERGE = "tag:yaml.org,2002:merge"
# Errors of the constructors of plain values.
_UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class YamlError(Exception):
    """A file cannot be read as YAML; the message is one line."""


def read_yaml(path: Path) -> Any:
    """The plain values that a file holds. Raises YamlError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            why = f"is not text: {error.reason} at byte {error.start}; give a YAML file"
        else:
            why = f"cannot be read: {getattr(error, 'strerror', None) or error}; give the path of a YAML file"
        raise YamlError(f"{path}: {why}") from None
    if len(data) > MAX_BYTES:
        raise YamlError(f"{path}: is longer than {MAX_BYTES // 1024} KiB; give a YAML file of plain settings")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The plain values that a text holds; `name` goes before every message. Raises YamlError."""
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise YamlError(f"{name}{line}: not YAML: {shortened(problem, 200)}") from None
    except _UNUSABLE as error:
        raise YamlError(f"{name}: not YAML: {shortened(str(error), 200)}") from None


class _Loader(yaml.SafeLoader):
    """Bounded, and with a key that is given twice an error: one of the two would be lost silently."""

    def __init__(self, text: str) -> None:
        self._level = self._count = 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises ComposerError for too many, or too deep ones."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs lack it
        self._count += 1
        self._level += 1
        if self._level > MAX_LEVELS:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_LEVELS} levels deep", mark)
        if self._count > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"holds more than {MAX_VALUES} values", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def get_single_node(self) -> yaml.Node | None:
        """The document. Raises ComposerError when aliases make too much of it."""
        node = super().get_single_node()
        if node is not None:
            _measure(node, MAX_LEVELS, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises ConstructorError, with its place, for whatever is wrong with it."""
        kind = node.tag.rpartition(":")[2]
        try:
            if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER:
                raise ValueError
            return super().construct_object(node, deep)
        except _UNUSABLE:
            problem = f"{brief(node.value)} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of its keys. Raises ConstructorError."""
        seen: set[str] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                problem = f"{brief(key)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _measure(node: yaml.Node, levels: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values that a node stands for, and of levels, with aliases followed; 0, 0 while being
    measured.

    Raises ComposerError for too many, too deep ones, or those without end.
    """
    if id(node) in known:
        count, height = known[id(node)]
        if not count:
            raise yaml.composer.ComposerError(None, None, "an alias of a value that contains it", node.start_mark)
        if height > levels:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_LEVELS} levels deep", node.start_mark)
        return count, height
    if not levels:
        raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_LEVELS} levels deep", node.start_mark)
    known[id(node)] = 0, 0
    count = height = 1
    if isinstance(node, yaml.CollectionNode):
        pairs = isinstance(node, yaml.MappingNode)
        for child in (part for item in node.value for part in (item if pairs else (item,))):
            below, its_height = _measure(child, levels - 1, known)
            count, height = count + below, max(height, its_height + 1)
            if count > MAX_VALUES:
                raise yaml.composer.ComposerError(
                    None, None, f"its aliases stand for more than {MAX_VALUES} values", node.start_mark
                )
    known[id(node)] = count, height
    return count, height
