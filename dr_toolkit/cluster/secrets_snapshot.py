"""A snapshot of Secrets' metadata, one entry for each namespace, and of the values that were asked for."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dr_toolkit import errors
from dr_toolkit.cluster import helm_storage, kinds, parts, paths, secret_facts
from dr_toolkit.cluster.parts import Parts
from dr_toolkit.cluster.secret_facts import Difference
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntrySink, EntrySource

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

METADATA, VALUES = "secrets-metadata", "secret-values"
"""Kinds of entries."""
_KEY_BYTES = 32

Keep = Callable[[str, str], tuple[bool, tuple[str, ...] | None]]
"""Whether the values of a Secret (namespace, name) are kept, and of which keys; None for all."""


@dataclass(slots=True)
class Taken:
    """What was read.

    Attributes:
        secrets: how many.
        values: Secrets with values.
        parts: namespaces that were read, and those that were not.
        absent: sentences about what was to be kept and is not there.
    """

    secrets: int = 0
    values: set[tuple[str, str]] = field(default_factory=set)
    parts: Parts = field(default_factory=Parts)
    absent: list[str] = field(default_factory=list)


def take(
    cluster: Cluster, namespaces: tuple[str, ...], keep: Keep, sink: EntrySink, progress: Progress
) -> Taken:
    """Read all Secrets but Helm's own storage.

    Raises:
        SourceError: no namespace could be read.
    """
    taken = Taken()

    def read(namespace: str) -> None:
        key = secrets.token_bytes(_KEY_BYTES)
        lines: list[bytes] = []
        kept: dict[str, bytes] = {}

        def again() -> None:
            lines.clear()
            kept.clear()

        for page in live(cluster, namespace, again):
            for one in page:
                lines.append(msgspec.json.encode(secret_facts.facts(one, key)))
                name = str(one["metadata"]["name"])
                wanted, names = keep(namespace, name)
                if wanted:
                    kept[name] = _values(namespace, one, names, taken)
            progress.advance(0, len(page))
        head = {
            "format": 1,
            "namespace": namespace,
            "key": base64.b64encode(key).decode(),
            "hmac": "sha256-128",
        }
        parts.entry(sink, f"{namespace}/metadata", METADATA, b"\n".join([msgspec.json.encode(head), *lines, b""]), {
            "secrets": len(lines)
        })  # fmt: skip
        for name in sorted(kept):
            parts.entry(sink, f"{namespace}/values/{name}", VALUES, kept[name], {})
            taken.values.add((namespace, name))
        taken.secrets += len(lines)

    taken.parts = parts.each(namespaces, read)
    return taken


def live(cluster: Cluster, namespace: str, restarted: Callable[[], None]) -> Iterator[list[dict[str, Any]]]:
    """The namespace's Secrets with their values, page by page, without Helm's storage."""
    return cluster.pages(
        paths.of(kinds.SECRETS, namespace),
        page_bytes=kinds.PAGE_BYTES,
        query={"fieldSelector": f"type!={helm_storage.SECRET_TYPE}"},
        restarted=restarted,
    )


def names(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Metadata of the namespace's Secrets, by name; no value is sent."""
    found: dict[str, dict[str, Any]] = {}
    for page in cluster.pages(
        paths.of(kinds.SECRETS, namespace),
        query={"fieldSelector": f"type!={helm_storage.SECRET_TYPE}"},
        accept=kinds.METADATA_ONLY,
        restarted=found.clear,
    ):
        found |= {str(one["metadata"]["name"]): one["metadata"] for one in page}
    return found


def _values(namespace: str, secret: Mapping[str, Any], wanted: tuple[str, ...] | None, taken: Taken) -> bytes:
    """A manifest with the values that are kept: what ``kubectl apply`` takes."""
    data, metadata = secret.get("data") or {}, secret["metadata"]
    name = str(metadata["name"])
    lost = [key for key in wanted or () if key not in data]
    taken.absent += [
        f'Secret "{namespace}/{name}" has no key "{key}", whose value was to be kept' for key in lost
    ]
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": metadata.get("labels") or {},
                # Without these Helm refuses to take the Secret over.
                "annotations": {
                    key: value
                    for key, value in (metadata.get("annotations") or {}).items()
                    if key.startswith("meta.helm.sh/")
                },
            },
            "type": secret.get("type", "Opaque"),
            "data": {key: value for key, value in data.items() if wanted is None or key in wanted},
        }
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a snapshot knows of one namespace.

    Attributes:
        namespace: which.
        key: of the fingerprints.
        secrets: facts by name.
        values: names of Secrets with values.
    """

    namespace: str
    key: bytes
    secrets: dict[str, dict[str, Any]]
    values: tuple[str, ...]


def read(source: EntrySource) -> Iterator[Kept]:
    """Every namespace of a snapshot.

    Raises:
        Damaged: the content is no metadata of Secrets.
    """
    infos = list(source.entries())
    for info in infos:
        if info.kind != METADATA:
            continue
        namespace = info.path.partition("/")[0]
        prefix = f"{namespace}/values/"
        values = tuple(one.path.removeprefix(prefix) for one in infos if one.path.startswith(prefix))
        lines = b"".join(source.read(info.path)).splitlines()
        try:
            head = msgspec.json.decode(lines[0])
            found = [msgspec.json.decode(line) for line in lines[1:]]
            yield Kept(
                str(head["namespace"]),
                base64.b64decode(head["key"]),
                {str(one["name"]): one for one in found},
                values,
            )
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
            raise errors.Damaged(f'the entry "{info.path}" is no list of Secrets', on=info.path) from error


def compare(cluster: Cluster, kept: Kept) -> tuple[list[Difference], int]:
    """What is missing, extra or changed in the live namespace, and how many Secrets are the same.

    Raises:
        SourceError: the list is not allowed.
    """
    found: dict[str, Difference | None] = {}
    for page in live(cluster, kept.namespace, found.clear):
        for one in page:
            name = str(one["metadata"]["name"])
            facts = secret_facts.facts(one, kept.key)
            found[name] = _difference(kept, name, facts)
    for name in kept.secrets:
        if name not in found:
            found[name] = _difference(kept, name, None)
    differences = [one for _name, one in sorted(found.items()) if one is not None]
    return differences, len(found) - len(differences)


def _difference(kept: Kept, name: str, facts: Mapping[str, Any] | None) -> Difference | None:
    values = tuple(kept.secrets.get(name, {}).get("keys", ())) if name in kept.values else ()
    return secret_facts.difference(kept.namespace, kept.secrets.get(name), facts, values)
