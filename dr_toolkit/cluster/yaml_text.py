"""YAML that every reader reads the same: strings that some version of YAML takes for something else are quoted. And reading what others wrote. Pure."""

from __future__ import annotations

import re
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST, _LARGEST = 100, 64 << 20
_NESTED = re.compile(r"^[ \t?:-]{100}", re.MULTILINE)
"""The beginning of a line that may be a hundred levels deep."""
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(?: [A-Za-z0-9_./@-]+)*")
_WORDS = frozenset(["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"])


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1, YAML 1.2 and Go's reader do not agree about: ``1e3``, ``012``, ``on``."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: people read this."""
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists are indented under their key."""
        del indentless
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if "\n" in value.strip("\n") or value.endswith("\n"):
        style = "|"
    elif _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        style = ""
    else:
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """A document, its keys in their order."""
    return str(
        yaml.dump(
            value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False
        )
    )


def dump_all(values: list[Any]) -> str:
    """Several documents."""
    return "".join(f"---\n{dump(value)}" for value in values)


def load(text: str) -> Any:
    """Read a document that somebody else wrote: plain values, lists and maps.

    Raises:
        YAMLError: it is no YAML, has a date or number that there is not, or is made to break who reads it: nested
            without end (the reader's stack would overflow), or small and endless by its aliases.
    """
    if text.count("[") + text.count("{") > _DEEPEST or ("&" in text and "*" in text) or _NESTED.search(text):
        _check(text)
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (ValueError, OverflowError, RecursionError) as error:
        raise yaml.YAMLError(f"it has a value that there is not ({type(error).__name__})") from error


def _check(text: str) -> None:
    """Walk through the document without building it: how deep it is, and how large with every alias written out."""
    anchors: dict[str, int] = {}
    begun: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            size += anchors.get(str(event.anchor), 0)
        elif isinstance(event, yaml.ScalarEvent):
            size += len(event.value) + 1
            anchors[str(event.anchor)] = len(event.value) + 1
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, size))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            size += 1
            anchors[str(anchor)] = size - before
        if len(begun) > _DEEPEST or size > _LARGEST:
            raise yaml.YAMLError("it is nested too deeply, or endless by its aliases")
