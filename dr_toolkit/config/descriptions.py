"""What the docstring under a field says, as the field's description in the JSON Schema.

pydantic can do this itself when a class is made. That reads and parses the source of every section at each start of drctl, a fourth of
what the whole configuration takes; only the schema wants the descriptions.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from dr_toolkit.config.section import Section


def describe(schema: dict[str, Any], root: type[Section]) -> None:
    """Add descriptions to the JSON Schema of ``root``, in place."""
    known = schema.get("$defs", {})
    for section in _all_sections(Section):
        properties = (schema if section is root else known.get(section.__name__, {})).get("properties", {})
        for base in section.__mro__:
            if issubclass(base, Section):
                for name, text in _docstrings(base):
                    if name in properties:
                        properties[name].setdefault("description", text)


def _all_sections(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        yield one
        yield from _all_sections(one)


def _docstrings(section: type[Section]) -> Iterator[tuple[str, str]]:
    """Names and texts: a string that stands by itself after an annotated name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    for before, after in pairwise(ast.iter_child_nodes(tree)):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            yield before.target.id, inspect.cleandoc(after.value.value)
