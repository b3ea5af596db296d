"""A snapshot of Helm releases: every revision is an entry, in the order in which the API lists them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dr_toolkit import errors
from dr_toolkit.cluster import helm_storage, kinds, manifest, parts, paths, workloads
from dr_toolkit.cluster.helm_storage import Broken, Facts
from dr_toolkit.cluster.parts import Parts
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntrySink

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

RELEASE, BROKEN, WORKLOADS = "release", "broken-release", "workloads"
"""Kinds of entries."""
_PATHS = {"secrets": kinds.SECRETS, "configmaps": kinds.CONFIG_MAPS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read.

    Attributes:
        namespaces: where releases are.
        drivers: ``secrets``, ``configmaps``.
        deployed_only: of each release only the deployed revision.
        workloads: the live state, too.
    """

    namespaces: tuple[str, ...]
    drivers: tuple[str, ...] = ("secrets",)
    deployed_only: bool = False
    workloads: bool = True


@dataclass(slots=True)
class Taken:
    """What was read.

    Attributes:
        revisions: entries of releases.
        releases: (namespace, name) of all.
        broken: sentences about payloads that are no release.
        parts: namespaces that were read, and those that were not.
    """

    revisions: int = 0
    releases: set[tuple[str, str]] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    parts: Parts = field(default_factory=Parts)


def take(cluster: Cluster, wanted: Wanted, sink: EntrySink, progress: Progress) -> Taken:
    """Read all releases into a snapshot.

    Raises:
        SourceError: no namespace could be read.
    """
    taken = Taken()

    def read(namespace: str) -> None:
        deployed: dict[str, bytes] = {}
        for driver in sorted(wanted.drivers):
            _driver(cluster, wanted, namespace, driver, sink, taken, deployed, progress)
        if wanted.workloads:
            state = workloads.read(cluster, namespace)
            parts.entry(sink, f"{namespace}/{WORKLOADS}", WORKLOADS, _state(state, deployed), {
                "workloads": len(state["workloads"]),
                "config_maps": len(state["config_maps"]),
            })  # fmt: skip

    taken.parts = parts.each(wanted.namespaces, read)
    return taken


def _driver(
    cluster: Cluster,
    wanted: Wanted,
    namespace: str,
    driver: str,
    sink: EntrySink,
    taken: Taken,
    deployed: dict[str, bytes],
    progress: Progress,
) -> None:
    last, seen = "", ""

    def again() -> None:
        nonlocal seen
        seen = last

    for page in listed(cluster, namespace, driver, deployed_only=wanted.deployed_only, restarted=again):
        count = len(page)
        page.reverse()
        while page:  # what is written is let go: a release may have megabytes
            stored = page.pop()
            name = str(stored["metadata"]["name"])
            if name <= seen:  # the list began again, and this was written before
                continue
            last = name
            facts, objects = _revision(sink, f"{namespace}/releases/{driver}/{name}", driver, stored, taken)
            taken.revisions += 1
            taken.releases.add((namespace, facts.release))
            if objects is not None:
                # Thousands of releases have a million objects; in this form they take a hundredth of the memory.
                listed_objects = msgspec.json.encode({**facts.document(), "objects": objects})
                deployed[facts.release] = zlib.compress(listed_objects, 1)
        progress.advance(0, count)


def _state(state: Mapping[str, Any], deployed: Mapping[str, bytes]) -> Iterator[bytes]:
    """The live state with the deployed releases and their objects, as JSON."""
    yield msgspec.json.encode(state)[:-1] + b',"releases":{'
    for number, (release, packed) in enumerate(deployed.items()):
        yield (b"," if number else b"") + msgspec.json.encode(release) + b":"
        yield zlib.decompress(packed)
    yield b"}}"


def listed(
    cluster: Cluster,
    namespace: str,
    driver: str,
    *,
    restarted: Callable[[], None],
    deployed_only: bool = False,
    release: str = "",
    name: str = "",
) -> Iterator[list[dict[str, Any]]]:
    """Storage objects, page by page.

    Args:
        cluster: the API server.
        namespace: whose releases.
        driver: where Helm keeps them.
        restarted: called before the list begins again, with names that came before.
        deployed_only: only revisions that are deployed.
        release: only of this one.
        name: only the storage object of this name, which the server finds without a look at the others.
    """
    labels = [helm_storage.OWNER]
    labels += ["status=deployed"] if deployed_only else []
    labels += [f"name={release}"] if release else []
    fields = [f"type={helm_storage.SECRET_TYPE}"] if driver == "secrets" else []
    fields += [f"metadata.name={name}"] if name else []
    query = {"labelSelector": ",".join(labels)} | ({"fieldSelector": ",".join(fields)} if fields else {})
    return cluster.pages(
        paths.of(_PATHS[driver], namespace),
        limit=100,
        page_bytes=kinds.PAGE_BYTES,
        query=query,
        restarted=restarted,
    )


def _revision(
    sink: EntrySink, path: str, driver: str, stored: Mapping[str, Any], taken: Taken
) -> tuple[Facts, list[dict[str, str]] | None]:
    """Write one revision; its objects come back when it is the deployed one."""
    metadata = stored["metadata"]
    meta: dict[str, Any] = {
        "storage": driver,
        # Which state of which object it is: known to the API, and says nothing of the content.
        "digest": f"{metadata.get('uid')}:{metadata.get('resourceVersion')}",
    }
    try:
        content = helm_storage.payload(stored)
    except Broken as reason:
        return _broken(sink, path, b"", str(reason), meta, metadata, taken), None
    try:
        text = helm_storage.document(content)
        facts, rendered = helm_storage.head(text)
        helm_storage.check_depth(text)
    except Broken as reason:
        return _broken(sink, path, content, str(reason), meta, metadata, taken), None
    parts.entry(sink, path, RELEASE, text, {**facts.document(), "description": "", **meta})
    if facts.status != "deployed":
        return facts, None
    return facts, [one._asdict() for one in manifest.names(rendered)]


def _broken(
    sink: EntrySink,
    path: str,
    content: bytes,
    reason: str,
    meta: Mapping[str, Any],
    metadata: Mapping[str, Any],
    taken: Taken,
) -> Facts:
    facts = helm_storage.facts_of_labels(metadata)
    parts.entry(sink, path, BROKEN, content, {**facts.document(), **meta, "reason": reason})
    taken.broken.append(
        f'revision {facts.revision} of release "{facts.release}" is broken in Helm\'s storage ({path}): {reason}'
    )
    return facts


@dataclass(frozen=True, slots=True)
class State:
    """The newest revision of a release, by its storage object's labels."""

    facts: Facts
    deployed: int | None
    """The newest revision that is deployed; None when there is none."""
    stored: str = ""
    """The storage object of that one."""


def states(
    cluster: Cluster, namespace: str, driver: str = "secrets", *, release: str = ""
) -> dict[str, State]:
    """Every release's newest revision, by metadata alone.

    Raises:
        SourceError: the list is not allowed.
    """
    labels = f"{helm_storage.OWNER},name={release}" if release else helm_storage.OWNER
    found: dict[str, State] = {}
    for page in cluster.pages(
        paths.of(_PATHS[driver], namespace),
        query={"labelSelector": labels},
        accept=kinds.METADATA_ONLY,
        restarted=found.clear,
    ):
        for one in page:
            _note(found, helm_storage.facts_of_labels(one["metadata"]), str(one["metadata"]["name"]))
    return found


def _note(found: dict[str, State], facts: Facts, name: str) -> None:
    before = found.get(facts.release)
    deployed, stored = (before.deployed, before.stored) if before else (None, "")
    if facts.status == "deployed" and facts.revision >= (deployed or 0):
        deployed, stored = facts.revision, name
    newest = before.facts if before and before.facts.revision > facts.revision else facts
    found[facts.release] = State(newest, deployed, stored)


def live(
    cluster: Cluster, namespace: str, driver: str, release: str, *, name: str = ""
) -> dict[str, Any] | None:
    """The live deployed revision of a release, whole; None when there is none.

    Args:
        cluster: the API server.
        namespace: whose release.
        driver: where Helm keeps it.
        release: its name.
        name: of its storage object, where that is known.

    Raises:
        SourceError: it is broken, or may not be read.
    """
    found: dict[str, Any] | None = None
    for page in listed(
        cluster, namespace, driver, deployed_only=True, release=release, name=name, restarted=lambda: None
    ):
        for stored in page:
            try:
                one = helm_storage.parse(helm_storage.document(helm_storage.payload(stored)))
            except Broken as reason:
                raise errors.SourceError(
                    f'release "{release}" is broken in Helm\'s storage: {reason}', on=release
                ) from None
            if found is None or int(one.get("version", 0)) >= int(found.get("version", 0)):
                found = one
    return found
