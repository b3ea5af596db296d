"""Showing what an entry of a release or of Secrets holds: without its secrets, unless somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dr_toolkit import errors, log
from dr_toolkit.cluster import helm_storage, release_reading, releases, secrets_snapshot
from dr_toolkit.cluster.redaction import HIDDEN, Redactor
from dr_toolkit.jobs import redactors
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

KINDS = ("helm", "secrets")
"""Kinds of components whose entries are shown."""
_log = log.get("jobs.show")


@dataclass(frozen=True, slots=True)
class Content:
    """One entry, for people and scripts.

    Attributes:
        snapshot: which.
        path: of the entry.
        kind: of the entry.
        document: what it holds.
        hidden: how many values are hidden.
        revealed: whether nothing is hidden.
    """

    snapshot: str
    path: str
    kind: str
    document: dict[str, Any]
    hidden: int
    revealed: bool


def find(repository: Repository, found: Snapshot, path: str) -> str | None:
    """The entry that a path means: itself, or ``namespace/release`` for the revision of a release that counts; None for a prefix."""
    if found.header.kind not in KINDS or not path:
        return None
    tree, _packs = repository.trees(found)
    if any(info.path == path for info in tree.entries(path)):
        return path
    namespace = path.partition("/")[0]
    stored = release_reading.chosen(tree.entries(f"{namespace}/"))
    return next((one.path for one in stored if path == f"{one.namespace}/{one.release}"), None)


def show(repository: Repository, found: Snapshot, path: str, *, reveal: bool) -> Content:
    """Open one entry.

    Args:
        repository: opened with the ``read`` role.
        found: the snapshot.
        path: of the entry.
        reveal: hide nothing; the log says that it was asked for.

    Raises:
        KeyRefused: no recipient with the role ``read`` is at hand.
    """
    with SnapshotReader(repository, found, threads=1) as source:
        info = next(one for one in source.entries(path) if one.path == path)
        content = b"".join(source.read(path))
    if reveal:
        _log.warning(
            "values are shown as they are, by the role read",
            snapshot=found.id,
            path=path,
            component=found.header.component,
        )
    redactor = Redactor()
    if info.kind == releases.RELEASE:
        release = release_reading.parsed(content, path)
        if not reveal:
            redactor = redactors.of(
                redactors.known(repository), [str(release.get("manifest") or ""), *_hooks(release)]
            )
        document = _release(release, None if reveal else redactor)
    elif info.kind == releases.BROKEN:
        document = {**dict(info.meta), "bytes": info.size}
    elif info.kind == secrets_snapshot.METADATA:
        document = _metadata(content, redactor, reveal=reveal)
    else:
        if not reveal and info.kind == releases.WORKLOADS:
            redactor = redactors.of(redactors.known(repository), [])
        plain = msgspec.json.decode(content)
        document = plain if reveal else redactor.document(plain)
    return Content(found.id, path, info.kind, document, redactor.count, reveal)


def _release(release: Mapping[str, Any], redactor: Redactor | None) -> dict[str, Any]:
    info = release.get("info")
    notes = str(info.get("notes") or "") if isinstance(info, Mapping) else ""
    hooks = _hooks(release)
    text = str(release.get("manifest") or "")
    document = {
        **helm_storage.facts(release).document(),
        "user_values": helm_storage.user_values(release),
        "computed_values": helm_storage.computed_values(release),
        "notes": notes,
    }
    if redactor is None:
        return {**document, "hooks": hooks, "manifest": text}
    return {
        **redactor.document(document),
        "hooks": [redactor.manifest(one) for one in hooks],
        "manifest": redactor.manifest(text),
    }


def _hooks(release: Mapping[str, Any]) -> list[str]:
    """The manifests of its hooks, in which Secrets may lie as well."""
    return [str(one.get("manifest") or "") for one in release.get("hooks") or [] if isinstance(one, Mapping)]


def _metadata(content: bytes, redactor: Redactor, *, reveal: bool) -> dict[str, Any]:
    """Facts of Secrets. Key and fingerprints let one try guesses, so they are hidden as values are."""
    head, *lines = [msgspec.json.decode(line) for line in content.splitlines()]
    for secret in [] if reveal else lines:
        for key in secret["keys"].values():
            redactor.count += 1
            key["fingerprint"] = HIDDEN
    return {**head, "key": head["key"] if reveal else HIDDEN, "secrets": lines}


def check_reveal(found: Snapshot, path: str | None) -> None:
    """Revealing is for one entry.

    Raises:
        UsageError: the path names none.
    """
    if path is None:
        raise errors.UsageError(
            "--reveal needs the PATH of one entry",
            on=found.id,
            hint=f"list what it holds: drctl show {found.id}",
            unaffected="nothing was shown",
        )


def entries_hint(found: Snapshot, infos: list[EntryInfo]) -> str:
    """How to look into an entry, for kinds that can be looked into."""
    if found.header.kind not in KINDS or not infos:
        return ""
    return f"look into one, secrets hidden: drctl show {found.id} {infos[0].path}\n"
