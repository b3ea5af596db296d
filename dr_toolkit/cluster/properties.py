"""Console's settings, put together as Console does: environment over file, with every spelling that its documentation allows.

Source: Conduktor's documentation, "Environment variables" of Console: drop ``CDK_``, lower case, ``_`` becomes ``.`` and ``_0_`` an index; a
fragment may be written in camel case, with hyphens, or in lower case. ``CDK_X_FILE`` puts a file's content in place of ``CDK_X``;
``CDK_ENV_FILE`` names a file of further variables; the YAML file's values are expanded as a shell would, with ``$$`` for a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dr_toolkit.cluster import yaml_text
from dr_toolkit.cluster.environment import Container, Origin, Value

PREFIX = "CDK_"
CONFIGURATION = "/conduktor/config/platform-config.yaml"
"""Where the chart mounts the file, unless ``CDK_IN_CONF_FILE`` names another."""

_FILE = "_FILE"
_NOT_PROPERTIES = frozenset({"CDK_ENV_FILE", "CDK_IN_CONF_FILE"})
_SHELL = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)")


class Properties:
    """Every setting of a container by its canonical path: ``database.hosts.0.host``.

    Attributes:
        unread: files and objects that are named and could not be read, so that settings may be missing here.
    """

    def __init__(self, values: Mapping[str, Value], unread: tuple[str, ...] = ()) -> None:
        self._values = dict(values)
        self.unread = unread

    def get(self, path: str) -> Value | None:
        """The setting at a path in any spelling, or None."""
        return self._values.get(canonical(path))

    def text(self, path: str) -> str | None:
        """The setting's text; None where it is not given or cannot be read."""
        value = self.get(path)
        return value.text if value else None

    def has(self, prefix: str) -> bool:
        """Whether anything is set below a path."""
        start = canonical(prefix) + "."
        return any(path.startswith(start) for path in self._values)

    def count(self, path: str) -> int:
        """How many items a list has."""
        start = canonical(path) + "."
        return len(
            {rest.partition(".")[0] for rest in self._below(start) if rest.partition(".")[0].isdigit()}
        )

    def _below(self, start: str) -> Iterator[str]:
        return (path.removeprefix(start) for path in self._values if path.startswith(start))


def canonical(path: str) -> str:
    """One spelling for all: ``kafka-sql.database.connectionTimeout`` is ``kafkasql.database.connectiontimeout``."""
    return re.sub(r"[-_]", "", path.replace("[", ".").replace("]", "")).lower()


def of_variable(name: str) -> str:
    """The canonical path of an environment variable's name: ``CDK_DATABASE_HOSTS_0_HOST``."""
    return ".".join(fragment.replace("-", "") for fragment in name.removeprefix(PREFIX).lower().split("_"))


def read(container: Container, below: Mapping[str, Value] | None = None) -> Properties:
    """Put a Console container's settings together.

    Args:
        container: seen from inside.
        below: settings by canonical path that hold where the container says nothing: a Helm release's values.
    """
    unread = list(container.unread)
    variables = dict(container.environment)
    environment_file = _named_file(container, variables.get("CDK_ENV_FILE"), "CDK_ENV_FILE", unread)
    for name, value in _sourced(environment_file).items():
        variables.setdefault(name, value)
    values = _of_yaml(container, variables, unread)
    values |= {of_variable(name): value for name, value in variables.items() if _is_property(name)}
    for name, value in variables.items():
        if name.startswith(PREFIX) and name.endswith(_FILE) and name not in _NOT_PROPERTIES:
            content = _named_file(container, value, name, unread)
            path = of_variable(name.removesuffix(_FILE))
            values[path] = content or Value(None, value.origin)
    return Properties({**(below or {}), **values}, tuple(unread))


def _is_property(name: str) -> bool:
    return name.startswith(PREFIX) and not name.endswith(_FILE)


def _named_file(container: Container, path: Value | None, name: str, unread: list[str]) -> Value | None:
    if path is None or not path.text:
        return None
    value = container.file(path.text)
    if value is None or value.text is None:
        unread.append(f"the file {path.text}, which {name} names")
        return value
    return Value(value.text.rstrip("\r\n") if name != "CDK_ENV_FILE" else value.text, value.origin)


def _sourced(file: Value | None) -> dict[str, Value]:
    """The variables of a file that a shell would source: ``NAME=value``, with or without ``export`` and quotes."""
    found: dict[str, Value] = {}
    for line in (file.text or "").splitlines() if file else ():
        name, equals, text = line.strip().removeprefix("export ").partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name.strip()):
            text = text.strip()
            quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
            found[name.strip()] = Value(
                text[1:-1] if quoted else text, file.origin if file else Origin("other")
            )
    return found


def _of_yaml(container: Container, variables: Mapping[str, Value], unread: list[str]) -> dict[str, Value]:
    named = variables.get("CDK_IN_CONF_FILE")
    path = (named.text if named else None) or CONFIGURATION
    file = container.file(path)
    if file is None or file.text is None:
        if file is not None or named is not None:
            unread.append(f"the file {path}" + (f" ({file.origin})" if file else ""))
        return {}
    try:
        document = yaml_text.load(file.text)
    except yaml.YAMLError:
        unread.append(f"the file {path} ({file.origin}), which is not YAML")
        return {}
    return dict(flattened(document, file.origin, variables))


def flattened(
    node: Any, origin: Origin, variables: Mapping[str, Value], path: str = ""
) -> Iterator[tuple[str, Value]]:
    """Every setting of a document by its canonical path.

    Args:
        node: the document, or a part of it.
        origin: where it lies.
        variables: what ``${NAME}`` in it stands for.
        path: of the part.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from flattened(value, origin, variables, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from flattened(value, origin, variables, f"{path}.{index}")
    elif node is not None:
        text = str(node).lower() if isinstance(node, bool) else str(node)
        yield canonical(path), _shell(text, origin, variables)


def _shell(text: str, origin: Origin, variables: Mapping[str, Value]) -> Value:
    """Expand ``${NAME:-default}``; a value that is nothing but one variable comes from where that variable comes from."""
    whole = re.fullmatch(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-[^}]*)?\}", text)
    if whole and whole[1] in variables:
        return variables[whole[1]]
    unknown = False

    def one(match: re.Match[str]) -> str:
        nonlocal unknown
        if match[0] == "$$":
            return "$"
        value = variables.get(match[1] or match[3])
        if value is None:
            return match[2] or ""
        unknown = unknown or value.text is None
        return value.text or ""

    expanded = _SHELL.sub(one, text)
    return Value(None if unknown else expanded, origin)
