"""YAML with line numbers: the text becomes plain values, and every value can be found again in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

_TEXT_HINT = 'text that starts with "*", "&" or "!" needs quotes'


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at one place of the file."""

    line: int
    path: str
    what: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.what}" if self.path else f"{place}{self.what}"


class Document:
    """A YAML document that was read.

    Attributes:
        value: its content as plain values; ``None`` when it could not be read or is empty.
        problems: syntax errors and duplicate keys. Values are never repeated in them.
    """

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.problems: list[Problem] = []
        self._root: yaml.Node | None = None
        try:
            self._read(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.problems.append(Problem(mark.line + 1 if mark else 0, "", _explain(error)))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.problems.append(Problem(line, "", "not YAML: a character that is not allowed"))
        except RecursionError:
            self.value = None
            self.problems.append(Problem(0, "", "not YAML that drctl reads: it is nested too deeply"))
        except ValueError:  # YAML's own values: a date that does not exist
            self.problems.append(
                Problem(0, "", "not YAML: a date or number that does not exist; put it in quotes")
            )

    def line_of(self, path: Sequence[str | int]) -> int:
        """The line of the key at this path, or of the nearest one above it that exists."""
        node, line = self._root, 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def _read(self, text: str) -> None:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                self.problems.append(Problem(0, "", "the file is empty"))
                return
            self._find_duplicates(root, (), set())
            self._root = root
            self.value = loader.construct_document(root)  # resolves "<<" in the nodes, too
        finally:
            loader.dispose()

    def _find_duplicates(self, node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> None:
        if id(node) in seen:  # an alias
            return
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._find_duplicates(item, (*path, str(index)), seen)
        if not isinstance(node, yaml.MappingNode):
            return
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            here = (*path, name)
            if name in first:
                self.problems.append(
                    Problem(line, ".".join(here), f"given twice, first in line {first[name]}")
                )
            first.setdefault(name, line)
            self._find_duplicates(value, here, seen)


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # the last one counts, and merged ones come first
            if str(key.value) == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line + 1, item
    return None


def _explain(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without the name of an alias or tag: somebody's password may begin like one."""
    if isinstance(error, ComposerError) and "single document" in (error.context or ""):
        return 'not YAML that drctl reads: a second document ("---")'
    if isinstance(error, (ComposerError, ConstructorError)):
        return (
            f"not YAML that drctl reads: an alias, anchor, tag or key that means nothing here; {_TEXT_HINT}"
        )
    return f"not YAML: {error.problem or error.context}"
