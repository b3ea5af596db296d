"""Finding ``drctl.yaml`` and reading it, with everything that is wrong reported at once, by line and path."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dr_toolkit.config import descriptions
from dr_toolkit.config.document import Document, Problem
from dr_toolkit.config.models import Config
from dr_toolkit.config.section import OF_PARENT
from dr_toolkit.errors import ConfigError

VARIABLE = "DRCTL_CONFIG"
SEARCHED = (Path("drctl.yaml"), Path("/etc/drctl/drctl.yaml"))
"""Where the configuration is looked for when neither ``-c`` nor ``DRCTL_CONFIG`` names it."""

_LARGEST_FILE = 1 << 20
_CHOICE_DEPTH = {"components": 2, "keys": 2}
"""In pydantic's paths the choice of a kind or type is a step of its own below these; it is none in the file."""

_CHOOSES = {"components": "kind", "keys": "type"}
"""What chooses, in each item of these, which other fields there are."""

_WORDS = {
    "missing": "missing",
    "string_type": "expected text; put it in quotes",
    "string_too_short": "expected text, not nothing",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "tuple_type": "expected a list",
    "too_short": "expected at least one",
}
_PATTERNS = {
    "name": "a name has small letters, digits and hyphens, starts with a letter, and is at most 41 long",
    "trust": 'expected "ed25519:…" as drctl init printed it',
}


def find(path: Path | None) -> Path:
    """The configuration file to use: the one named, else ``DRCTL_CONFIG``, ``./drctl.yaml``, ``/etc/drctl/drctl.yaml``.

    Raises:
        ConfigError: there is none.
    """
    named = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        return named
    for candidate in SEARCHED:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"no configuration: looked for {' and '.join(map(str, SEARCHED))}",
        hint=f'name one with -c or {VARIABLE}, or begin with "drctl config example > drctl.yaml"',
    )


def load(path: Path | None) -> Config:
    """Find the configuration, read it, check all of it.

    Raises:
        ConfigError: it is not there, or something in it is wrong; ``problems`` has a line for each.
    """
    file = find(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(
            f"the configuration cannot be read: {error.strerror}",
            on=str(file),
            hint="check the name after -c or in DRCTL_CONFIG, and that this user may read the file",
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(
            "the configuration is not UTF-8 text", on=str(file), hint="save it as UTF-8, or name another file"
        ) from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError("the configuration is larger than 1 MiB", on=str(file))
    return parse(text, directory=_directory(file), name=str(file))


def _directory(file: Path) -> Path:
    """What relative paths in the configuration count from."""
    try:
        return file.absolute().parent
    except FileNotFoundError as error:
        raise ConfigError(
            "the working directory is gone, and a relative path counts from it",
            on=str(file),
            hint="go to a directory that is there, or give the configuration's whole path",
        ) from error


def parse(text: str, *, directory: Path | None = None, name: str = "drctl.yaml") -> Config:
    """Read a configuration from text.

    Args:
        text: YAML.
        directory: what relative paths count from; ``None`` leaves them as they are.
        name: what to call it in errors.

    Raises:
        ConfigError: something is wrong; ``problems`` has a line for each.
    """
    document = Document(text)
    value, misspelt = _respelt(document)
    problems = [*document.problems, *misspelt]
    config: Config | None = None
    if value is not None or not problems:
        try:
            config = Config.model_validate(value, context={"directory": directory})
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            problems += [_problem(detail, document) for detail in details]
    if config is None or problems:
        lines = tuple(str(problem) for problem in sorted(set(problems), key=lambda p: (p.line, p.path)))
        number = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError(
            f"the configuration has {number}",
            problems=lines,
            on=name,
            hint='"drctl config example" shows every field',
        )
    return config


def _respelt(document: Document) -> tuple[Any, list[Problem]]:
    """The values with each misspelt ``kind`` and ``type`` put right, and a problem for each.

    Without it nothing would be known of what else stands in that section.
    """
    problems = []
    value = document.value
    for part, right in _CHOOSES.items():
        items = value.get(part) if isinstance(value, dict) else None
        for name, item in items.items() if isinstance(items, dict) else ():
            if not isinstance(item, dict) or right in item:
                continue
            near = difflib.get_close_matches(right, [str(key) for key in item], n=1, cutoff=0.7)
            if near:
                path = [part, name, near[0]]
                what = f'unknown key; did you mean "{right}"?'
                problems.append(Problem(document.line_of(path), ".".join(map(str, path)), what))
                right_item = {right if str(key) == near[0] else key: inner for key, inner in item.items()}
                value = {**value, part: {**value[part], name: right_item}}
    return value, problems


def schema() -> dict[str, Any]:
    """The configuration's JSON Schema, with a description of every field: for editors and for the reference."""
    made = Config.model_json_schema()
    descriptions.describe(made, Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    steps = [step for step in detail["loc"] if step != "[key]"]
    path = _without_choice(steps)
    if detail["type"] == OF_PARENT:
        path = path[:-1]
    if detail["type"].startswith("union_tag"):
        path.append(detail["ctx"]["discriminator"].strip("'"))
    line = document.line_of(path)
    return Problem(line, ".".join(map(str, path)), _what(detail, steps))


def _without_choice(steps: Sequence[str | int]) -> list[str | int]:
    depth = _CHOICE_DEPTH.get(str(steps[0])) if steps else None
    return [step for index, step in enumerate(steps) if index != depth]


def _what(detail: ErrorDetails, steps: Sequence[str | int]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(steps[-1]), _known_keys(steps[:-1]), n=1, cutoff=0.5)
        return f'unknown key; did you mean "{near[0]}"?' if near else "unknown key"
    words = {
        "literal_error": "expected {expected}",
        "string_pattern_mismatch": _PATTERNS["trust" if steps and steps[-1] == "trust" else "name"],
        "union_tag_not_found": "missing",
        "union_tag_invalid": 'unknown {discriminator} "{tag}"; known: {expected_tags}',
        "value_error": "{error}",
        **_WORDS,
    }.get(kind)
    if words is None:
        return detail["msg"][:1].lower() + detail["msg"][1:]
    return words.format_map({name: _unquoted(value) for name, value in context.items()})


def _unquoted(value: Any) -> str:
    """Take off the single quotes that pydantic puts around names in its own words."""
    return str(value) if isinstance(value, ValueError) else str(value).replace("'", "")


@functools.cache
def _schema_of_this_run() -> dict[str, Any]:
    return schema()


def _known_keys(steps: Sequence[str | int]) -> list[str]:
    """The keys that may stand at a place, by walking the JSON Schema along pydantic's path."""
    root = _schema_of_this_run()
    node: Mapping[str, Any] = root
    for step in steps:
        node = _resolved(_below(node, str(step)), root)
    return list(node.get("properties", {}))


def _below(node: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    choices = node.get("discriminator", {}).get("mapping", {})
    if step in choices:
        return {"$ref": choices[step]}
    if "items" in node:  # a list
        return dict(node["items"])
    below = node.get("properties", {}).get(step)
    named: Mapping[str, Any] = next(iter(node.get("patternProperties", {}).values()), {})
    return below if isinstance(below, Mapping) else named


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for choice in node.get("anyOf", ()):  # an optional section: the choice that is not null
        if "$ref" in choice:
            node = choice
    reference = node.get("$ref")
    return root["$defs"][reference.rsplit("/", 1)[1]] if reference else node
