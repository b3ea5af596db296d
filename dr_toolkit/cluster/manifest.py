"""Rendered manifests: which objects they name, which images, and whether two of them say the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from dr_toolkit.cluster import yaml_text

_DOCUMENTS = re.compile(r"^---.*$", re.MULTILINE)
_FIELDS = re.compile(
    r"^(?:(?P<next>---)|(?P<top>[A-Za-z]\w*):[ \t]*[\"']?(?P<value>[^\s\"'#]*)"
    r"|(?P<depth>[ \t]+)(?P<own>name|namespace):[ \t]+[\"']?(?P<text>[^\s\"'#]+))",
    re.MULTILINE,
)
"""What is looked at without parsing: ends of documents, keys at the left, and names that are further to the right."""


class Named(NamedTuple):
    """One object, by name.

    Attributes:
        kind: ``Deployment``.
        name: its name.
        namespace: where it says so itself.
        api_version: ``apps/v1``.
    """

    kind: str
    name: str
    namespace: str = ""
    api_version: str = ""


def names(text: str) -> list[Named]:
    """The objects of a manifest, found without parsing it: a backup looks at hundreds."""
    found: list[Named] = []
    top: dict[str, str] = {}
    own: dict[str, tuple[int, str]] = {}
    inside = False
    for match in _FIELDS.finditer(text):
        if match["next"]:
            _add(found, top, own)
            top, own, inside = {}, {}, False
        elif match["top"]:
            top[match["top"]] = match["value"]
            inside = match["top"] == "metadata"
        elif inside:
            # Labels and annotations, which are deeper, have names too.
            depth = len(match["depth"])
            if match["own"] not in own or depth < own[match["own"]][0]:
                own[match["own"]] = (depth, match["text"])
    _add(found, top, own)
    return found


def _add(found: list[Named], top: dict[str, str], own: dict[str, tuple[int, str]]) -> None:
    kind = top.get("kind")
    if kind and "name" in own:
        depth, name = own["name"]
        namespace = own.get("namespace")
        inside = namespace[1] if namespace and namespace[0] == depth else ""
        found.append(Named(kind, name, inside, top.get("apiVersion", "")))


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a manifest, parsed. What is no YAML is left out, because Helm stores what a template made."""
    for document in _DOCUMENTS.split(text):
        try:
            found = yaml_text.load(document)
        except yaml.YAMLError:
            continue
        if isinstance(found, dict):
            yield found


def name_of(found: Mapping[str, Any]) -> Named:
    """An object's name."""
    metadata = found.get("metadata")
    own = metadata if isinstance(metadata, Mapping) else {}
    return Named(
        str(found.get("kind", "")),
        str(own.get("name", "")),
        str(own.get("namespace", "")),
        str(found.get("apiVersion", "")),
    )


def images(found: Mapping[str, Any]) -> dict[str, str]:
    """Images of a workload by container, init containers too."""
    spec = found.get("spec")
    while isinstance(spec, Mapping):
        if "containers" in spec:
            return {
                str(one.get("name")): str(one.get("image", ""))
                for part in ("initContainers", "containers")
                for one in spec.get(part) or []
                if isinstance(one, Mapping)
            }
        template = spec.get("template") or spec.get("jobTemplate")
        spec = template.get("spec") if isinstance(template, Mapping) else None
    return {}


def compare(wanted: str, got: str) -> tuple[list[str], list[str]]:
    """Two renderings of one release.

    Returns:
        Objects that only one of them has, and objects whose content differs.
    """
    before = {name_of(one): one for one in objects(wanted)}
    after = {name_of(one): one for one in objects(got)}
    only = [
        f"{n.kind} {n.name} is only in the {'stored' if n in before else 'new'} manifest"
        for n in sorted(set(before) ^ set(after))
    ]
    differ = [f"{n.kind} {n.name} differs" for n in sorted(set(before) & set(after)) if before[n] != after[n]]
    return only, differ
