"""Rendered manifests: which objects they name, which images, and whether two of them say the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_DOCUMENTS = re.compile(r"^---.*$", re.MULTILINE)
_KIND = re.compile(r"^kind:\s*[\"']?([A-Za-z0-9]+)", re.MULTILINE)
_VERSION = re.compile(r"^apiVersion:\s*[\"']?([A-Za-z0-9./-]+)", re.MULTILINE)
_METADATA = re.compile(r"^metadata:[ \t]*\n((?:[ \t]+.*\n?|\n|#.*\n)*)", re.MULTILINE)
_FIELD = r"^(\s+){}:\s*[\"']?([^\s\"'#]+)"
_NAME = re.compile(_FIELD.format("name"), re.MULTILINE)
_NAMESPACE = re.compile(_FIELD.format("namespace"), re.MULTILINE)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Named:
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
    found = []
    for document in _DOCUMENTS.split(text):
        kind, block = _KIND.search(document), _METADATA.search(document)
        name = _first(_NAME, block[1]) if block else ""
        if kind and block and name:
            version = _VERSION.search(document)
            found.append(Named(kind[1], name, _first(_NAMESPACE, block[1]), version[1] if version else ""))
    return found


def _first(pattern: re.Pattern[str], block: str) -> str:
    """The field at the block's own depth: labels and annotations, which are deeper, have names too."""
    depth = min((len(m[1]) for m in re.finditer(r"^([ \t]+)\S", block, re.MULTILINE)), default=0)
    return next((m[2] for m in pattern.finditer(block) if len(m[1].lstrip("\n")) == depth), "")


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a manifest, parsed. What is no YAML is left out, because Helm stores what a template made."""
    for document in _DOCUMENTS.split(text):
        try:
            found = yaml.load(document, Loader=_Loader)  # noqa: S506 - a safe loader
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
