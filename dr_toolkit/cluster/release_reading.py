"""Releases in a snapshot: which there are, which revision counts, and reading one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from dr_toolkit import errors
from dr_toolkit.cluster import helm_storage, releases
from dr_toolkit.repository.entries import EntryInfo, EntrySource


@dataclass(frozen=True, slots=True)
class Stored:
    """One release of a snapshot.

    Attributes:
        namespace: where it is installed.
        release: its name.
        revision: the one that counts: the newest that is deployed, else the newest.
        status: of that revision.
        chart: its chart and version.
        driver: where Helm keeps it.
        path: of the entry.
        newest: (revision, status) of the newest, where it is another one.
    """

    namespace: str
    release: str
    revision: int
    status: str
    chart: str
    driver: str
    path: str
    newest: tuple[int, str] | None = None


def stored(source: EntrySource) -> list[Stored]:
    """The releases of a snapshot, by namespace and name. Broken revisions do not count."""
    return chosen(source.entries())


def chosen(entries: Iterator[EntryInfo]) -> list[Stored]:
    """Of each release the revision that counts. Pure."""
    revisions: dict[tuple[str, str, str], list[EntryInfo]] = {}
    for info in entries:
        if info.kind == releases.RELEASE:
            key = (info.path.partition("/")[0], str(info.meta.get("release")), str(info.meta.get("storage")))
            revisions.setdefault(key, []).append(info)
    return [_chosen(*key, found) for key, found in sorted(revisions.items())]


def _chosen(namespace: str, release: str, driver: str, found: list[EntryInfo]) -> Stored:
    newest = max(found, key=_revision)
    deployed = [one for one in found if one.meta.get("status") == "deployed"]
    one = max(deployed, key=_revision) if deployed else newest
    other = None if one is newest else (_revision(newest), str(newest.meta.get("status")))
    chart = f"{one.meta.get('chart')} {one.meta.get('chart_version')}"
    return Stored(
        namespace, release, _revision(one), str(one.meta.get("status")), chart, driver, one.path, other
    )


def _revision(info: EntryInfo) -> int:
    return int(info.meta.get("revision", 0))


def read(source: EntrySource, path: str) -> dict[str, Any]:
    """One release, whole.

    Raises:
        Damaged: the entry is no release.
    """
    return parsed(b"".join(source.read(path)), path)


def parsed(content: bytes, path: str) -> dict[str, Any]:
    """One release, of the content of its entry.

    Raises:
        Damaged: the entry is no release.
    """
    try:
        return helm_storage.parse(content)
    except helm_storage.Broken as reason:
        raise errors.Damaged(f'the entry "{path}" is no release: {reason}', on=path) from None


class _State(msgspec.Struct):
    """What ran. The objects of every release are beside it, a million of them perhaps, and are skipped without being built."""

    workloads: list[dict[str, Any]] = msgspec.field(default_factory=list)
    config_maps: list[dict[str, Any]] = msgspec.field(default_factory=list)


_STATE = msgspec.json.Decoder(_State)


def state(source: EntrySource, namespace: str) -> dict[str, Any]:
    """What ran in a namespace: workloads and ConfigMaps; nothing where that was not kept.

    Raises:
        Damaged: the entry is nothing of the sort.
    """
    path = f"{namespace}/{releases.WORKLOADS}"
    if not any(info.path == path for info in source.entries(path)):
        return {}
    try:
        found = _STATE.decode(b"".join(source.read(path)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.Damaged(f'the entry "{path}" is no state of workloads', on=path) from None
    return {"workloads": found.workloads, "config_maps": found.config_maps}
