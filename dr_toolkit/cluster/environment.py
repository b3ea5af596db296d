"""What a container of a pod would see: its environment and its mounted files, with where each value comes from.

The order is Kubernetes' own (API reference, ``Container.env`` and ``Container.envFrom``): of several ``envFrom`` the last one wins, and ``env``
wins over all of them. Nothing runs in the pod: what a Secret or a ConfigMap holds is read from the API, where we may, and stays unknown where we may not.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

_DEPENDENT = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        kind: ``literal`` (written in the pod's template), ``configmap`` or ``secret``, ``release`` (a Helm release's values), or ``other`` (a field of the pod).
        name: of the ConfigMap or Secret; of the release, in words.
        key: in it.
        namespace: its namespace.
    """

    kind: Literal["literal", "configmap", "secret", "release", "other"]
    namespace: str = ""
    name: str = ""
    key: str = ""

    def __str__(self) -> str:
        if self.kind == "secret":
            return f"Secret {self.namespace}/{self.name}, key {self.key}"
        if self.kind == "configmap":
            return f"ConfigMap {self.namespace}/{self.name}, key {self.key}"
        if self.kind == "release":
            return f"values of {self.name}, below {self.key}"
        return "the pod's template" if self.kind == "literal" else "a field of the pod"


@dataclass(frozen=True, slots=True)
class Value:
    """A value and its origin; ``text`` is None where it exists and could not be read."""

    text: str | None = field(repr=False)
    origin: Origin


class Objects(Protocol):
    """Where the contents of ConfigMaps and Secrets come from. None: it is not there, or we may not read it."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The texts of a ConfigMap by key."""

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The values of a Secret by key; what is no UTF-8 text is left out."""


def texts_of_secret(data: Mapping[str, str]) -> dict[str, str]:
    """Decode a Secret's ``data``; what is no text is left out."""
    texts: dict[str, str] = {}
    for key, value in data.items():
        try:
            texts[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return texts


class Container:
    """One container of a pod's template, seen from inside.

    Args:
        namespace: the pod's.
        pod: the pod's ``spec``.
        container: the container's part of it.
        objects: where ConfigMaps and Secrets are read.
    """

    def __init__(
        self, namespace: str, pod: Mapping[str, Any], container: Mapping[str, Any], objects: Objects
    ) -> None:
        self.namespace = namespace
        self._pod = pod
        self._container = container
        self._objects = objects
        self.unread: list[str] = []
        """Whole ConfigMaps and Secrets that are named and could not be read: what they hold is unknown."""
        self.environment = self._read_environment()

    @property
    def image(self) -> str:
        """The image as the template names it."""
        return str(self._container.get("image", ""))

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Every Secret that the environment or a volume of the pod names, sorted."""
        names = {
            source["secretRef"]["name"]
            for source in _list(self._container, "envFrom")
            if source.get("secretRef")
        }
        for entry in _list(self._container, "env"):
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                names.add(reference["name"])
        for volume in _list(self._pod, "volumes"):
            names.update(name for kind, name, _ in _sources(volume) if kind == "secret")
        return tuple(sorted(names))

    def file(self, path: str) -> Value | None:
        """What a mounted file holds, where it comes from a ConfigMap or a Secret; None where no such file is known."""
        mounts = sorted(
            _list(self._container, "volumeMounts"), key=lambda m: len(m["mountPath"]), reverse=True
        )
        for mount in mounts:
            inside = _below(path, mount)
            if inside is None:
                continue
            volume = next((v for v in _list(self._pod, "volumes") if v["name"] == mount["name"]), {})
            for kind, name, items in _sources(volume):
                key = _key_of(inside, items)
                if key is not None and (value := self._keyed(kind, name, key)) is not None:
                    return value
        return None

    def _read_environment(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for source in _list(self._container, "envFrom"):
            for kind, reference in (
                ("configmap", source.get("configMapRef")),
                ("secret", source.get("secretRef")),
            ):
                if reference:
                    found |= self._all_of(kind, reference, source.get("prefix", ""))
        for entry in _list(self._container, "env"):
            value = self._of_entry(entry, found)
            if value is not None:
                found[entry["name"]] = value
        return found

    def _all_of(self, kind: str, reference: Mapping[str, Any], prefix: str) -> dict[str, Value]:
        name = str(reference["name"])
        texts = self._texts(kind, name)
        if texts is None:
            if not reference.get("optional"):
                self.unread.append(f"{'Secret' if kind == 'secret' else 'ConfigMap'} {self.namespace}/{name}")
            return {}
        return {prefix + key: Value(text, self._origin(kind, name, key)) for key, text in texts.items()}

    def _of_entry(self, entry: Mapping[str, Any], known: Mapping[str, Value]) -> Value | None:
        source = entry.get("valueFrom") or {}
        for kind, form in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
            if form in source:
                reference = source[form]
                value = self._keyed(kind, reference["name"], reference["key"])
                if value is None and reference.get("optional"):
                    return None
                return value or Value(None, self._origin(kind, reference["name"], reference["key"]))
        if source:
            return Value(None, Origin("other"))
        return Value(_expanded(str(entry.get("value", "")), known), Origin("literal"))

    def _keyed(self, kind: str, name: str, key: str) -> Value | None:
        """One key of an object: unknown where the object cannot be read, None where it has no such key."""
        texts = self._texts(kind, name)
        if texts is None:
            return Value(None, self._origin(kind, name, key))
        return Value(texts[key], self._origin(kind, name, key)) if key in texts else None

    def _texts(self, kind: str, name: str) -> Mapping[str, str] | None:
        read = self._objects.secret if kind == "secret" else self._objects.config_map
        return read(self.namespace, name)

    def _origin(self, kind: str, name: str, key: str) -> Origin:
        return Origin("secret" if kind == "secret" else "configmap", self.namespace, name, key)


def _list(mapping: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = mapping.get(key)
    return value if isinstance(value, list) else ()


def _expanded(text: str, known: Mapping[str, Value]) -> str | None:
    """Expand ``$(NAME)`` as the kubelet does: ``$$`` is a dollar sign, a name that is not known stays as it stands."""
    unknown = False

    def one(match: re.Match[str]) -> str:
        nonlocal unknown
        if match[0] == "$$":
            return "$"
        value = known.get(match[1])
        if value is None:
            return match[0]
        unknown = unknown or value.text is None
        return value.text or ""

    expanded = _DEPENDENT.sub(one, text)
    return None if unknown else expanded


def _below(path: str, mount: Mapping[str, Any]) -> str | None:
    """The path inside the mounted volume, or None where the file is not under this mount."""
    path, base = posixpath.normpath(path), posixpath.normpath(mount["mountPath"])
    sub = str(mount.get("subPath", ""))
    if path == base:
        return sub or None
    if path.startswith(base.rstrip("/") + "/"):
        return posixpath.join(sub, path[len(base.rstrip("/")) + 1 :])
    return None


def _sources(volume: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """The ConfigMaps and Secrets of a volume with the keys they are limited to, projected ones included."""
    if volume.get("secret"):
        yield "secret", volume["secret"].get("secretName", ""), _list(volume["secret"], "items")
    if volume.get("configMap"):
        yield "configmap", volume["configMap"].get("name", ""), _list(volume["configMap"], "items")
    for part in _list(volume.get("projected") or {}, "sources"):
        if part.get("secret"):
            yield "secret", part["secret"].get("name", ""), _list(part["secret"], "items")
        if part.get("configMap"):
            yield "configmap", part["configMap"].get("name", ""), _list(part["configMap"], "items")


def _key_of(inside: str, items: Sequence[Mapping[str, Any]]) -> str | None:
    if not items:
        return inside
    return next((str(item["key"]) for item in items if item.get("path") == inside), None)
