"""YAML that every reader reads the same: strings that some version of YAML takes for something else are quoted. Pure."""

from __future__ import annotations

import re
from typing import Any

import yaml

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
