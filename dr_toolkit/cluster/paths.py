"""Paths of the Kubernetes API: making them, reading them, and the RBAC rule that a request needs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_CORE = 2
"""``api``, version: how paths of the core group begin. Others: ``apis``, group, version."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names.

    Attributes:
        group: the API group; empty for the core group.
        resource: the plural name, with a subresource as RBAC writes it (``pods/log``).
        namespace: empty for resources of the whole cluster.
        name: of one object; empty for the collection.
    """

    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f'{self.resource} "{self.name}"' if self.name else self.resource
        return f'{what} in namespace "{self.namespace}"' if self.namespace else what


def place_of(path: str) -> Place | None:
    """What a path names; None where it is not about resources (``/version``)."""
    parts = path.partition("?")[0].strip("/").split("/")
    if parts[0] == "api":
        group, rest = "", parts[_CORE:]
    elif parts[0] == "apis" and len(parts) > _CORE:
        group, rest = parts[1], parts[_CORE + 1 :]
    else:
        return None
    namespace = ""
    if len(rest) > _CORE and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    if not rest:
        return None
    resource, name = rest[0], rest[1] if len(rest) > 1 else ""
    if len(rest) > _CORE:
        resource = f"{resource}/{rest[2]}"
    return Place(group, resource, namespace, name)


def verb_of(method: str, place: Place) -> str:
    """The verb that RBAC asks for."""
    if method == "GET":
        return "get" if place.name else "list"
    if method == "DELETE" and not place.name:
        return "deletecollection"
    return {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[method]


def rule(verb: str | tuple[str, ...], group: str, resource: str) -> str:
    """One rule of a Role, in YAML, on one line."""
    verbs = (verb,) if isinstance(verb, str) else verb
    listed = ", ".join(f'"{one}"' for one in verbs)
    return f'- {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{listed}]}}'


def of(kind_path: str, namespace: str = "", name: str = "") -> str:
    """A path from its parts: ``of("api/v1/secrets", "conduktor", "x")``.

    Args:
        kind_path: group, version and resource; a subresource after it goes behind the name (``api/v1/pods/log``).
        namespace: empty for the whole cluster.
        name: empty for the collection.
    """
    parts = kind_path.strip("/").split("/")
    head = _CORE if parts[0] == "api" else _CORE + 1
    made = parts[:head]
    if namespace:
        made += ["namespaces", namespace]
    made += parts[head : head + 1]
    if name:
        made += [name, *parts[head + 1 :]]
    return "/" + "/".join(made)
