"""Writes docs/configuration.md from the configuration's own schema and example: ``python docs/generate_configuration.py``.

A test fails when the page is not what this writes.
"""  # noqa: INP001  # a script beside the page that it writes

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dr_toolkit import config

PAGE = Path(__file__).with_name("configuration.md")
_WORDS = {"object": "sections by name", "array": "list", "integer": "number", "boolean": "`true`, `false`"}
HEAD = """\
<!-- Written by docs/generate_configuration.py (make docs); edit dr_toolkit/config instead. -->

# Configuration

`drctl.yaml` says what is protected, where the copies go, and who can read them. It is looked for in this order: `-c FILE`, the variable
`DRCTL_CONFIG`, `./drctl.yaml`, `/etc/drctl/drctl.yaml`.

- `drctl config check` reports all problems at once, each with its line and path. An unknown key is an error, with the nearest known one.
- `drctl config example` prints the example below, `drctl config schema` the JSON Schema, with which an editor completes and checks:
  put `# yaml-language-server: $schema=drctl.schema.json` into the first line.
- No secret is written in the file. A field that needs one takes a *reference*: `env:NAME` (an environment variable), `file:/path` (a file; one
  newline at its end is ignored) or `vault:path#field` (a field of a secret in Vault). So the file can be kept in Git and mounted from a ConfigMap.
- Relative paths count from the directory of the file.
- `drctl status` compares with `objectives`. `drctl schedule` runs each `schedule`. `retention` is read and checked; the command that acts on it is not there yet.
- A secret is fetched when it is needed: a machine that only backs up needs neither `restore_connection`'s password nor the key file of another role.

## Example

```yaml
"""


def page() -> str:
    """The whole page."""
    schema = config.schema()
    lines = [HEAD.rstrip("\n"), config.example().rstrip("\n"), "```", "", "## Fields", ""]
    lines += _section("The whole file", schema)
    for title, name in _sections(schema):
        lines += _section(title, schema["$defs"][name])
    return "\n".join(lines).rstrip("\n") + "\n"


def _sections(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every section below the top, with the place where it stands, in the order of the file."""
    waiting = [(name, node) for name, node in schema["properties"].items()]
    seen: set[str] = set()
    while waiting:
        path, node = waiting.pop(0)
        for step, reference in _references(node):
            if reference in seen:
                continue
            seen.add(reference)
            found = schema["$defs"][reference]
            place = f"{path}{step}"
            kinds = [f" of {n} `{found['properties'][n]['const']}`" for n in _deciding(found)]
            yield f"`{place}`" + "".join(kinds), reference
            waiting = [(f"{place}.{name}", child) for name, child in found["properties"].items()] + waiting


def _deciding(section: Mapping[str, Any]) -> list[str]:
    """The field by which a section is told from others in its place."""
    return [name for name in section.get("required", ()) if "const" in section["properties"][name]]


def _references(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The sections that a field may hold, and what stands between its name and theirs."""
    named = [node[key] for key in ("additionalProperties",) if isinstance(node.get(key), Mapping)]
    named += list(node.get("patternProperties", {}).values())
    for child in named:
        for _step, reference in _references(child):
            yield ".NAME", reference
    for choice in (node, *node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        if "$ref" in choice:
            yield "", choice["$ref"].rsplit("/", 1)[1]


def _section(title: str, section: Mapping[str, Any]) -> list[str]:
    lines = [f"### {title}", "", section.get("description", ""), "", "| field | value | default | meaning |"]
    lines.append("|---|---|---|---|")
    required = section.get("required", ())
    for name, node in section["properties"].items():
        default = "**needed**" if name in required else _default(node)
        meaning = " ".join(str(node.get("description", "")).split())
        lines.append(f"| `{name}` | {_cell(_type(node))} | {default} | {_cell(meaning)} |")
    return [*lines, ""]


def _default(node: Mapping[str, Any]) -> str:
    value = node.get("default")
    if value is None or isinstance(value, Mapping):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(node: Mapping[str, Any]) -> str:
    found = "text"
    if "const" in node or "enum" in node:
        found = ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    elif "$ref" in node or "oneOf" in node:
        found = "section"
    elif "anyOf" in node:
        kinds = [_type(choice) for choice in node["anyOf"] if choice.get("type") != "null"]
        found = " or ".join(dict.fromkeys(kinds))
    elif "env:" in node.get("pattern", ""):
        found = "reference"
    elif "examples" in node:
        found = f"like `{node['examples'][0]}`"
    return _WORDS.get(str(node.get("type")), found)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
