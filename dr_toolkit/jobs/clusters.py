"""From the configuration to an open connection to the Kubernetes API, and what its kinds have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dr_toolkit import errors, log
from dr_toolkit.cluster.parts import Parts
from dr_toolkit.config import Config, HelmConfig, SecretsConfig
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.jobs.request import Request, choose
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntrySink
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

_log = log.get("jobs.backup")


@dataclass(frozen=True, slots=True)
class Read:
    """What a backup read.

    Attributes:
        parts: namespaces that were read, and those that were not.
        facts: counts, for the snapshot's header.
        warnings: sentences, for the same.
    """

    parts: Parts
    facts: Mapping[str, int]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A snapshot to restore from or to compare with.

    Attributes:
        request: what was asked.
        snapshot: which one.
        seconds_lost: time between the snapshot and now.
        doubts: what speaks against this snapshot.
    """

    request: Request
    snapshot: Snapshot
    seconds_lost: float
    doubts: tuple[str, ...] = field(default=())


@contextmanager
def opened(config: Config) -> Iterator[Cluster]:
    """The configured API server. Its library is imported here, by the commands that need it."""
    from dr_toolkit.cluster.client import Cluster  # noqa: PLC0415 - the library takes a second to import

    with Cluster(config.cluster) as cluster:
        yield cluster


def look(config: Config, what: str, component: HelmConfig | SecretsConfig) -> Source:
    """Ask the API server; nobody knows beforehand how much there is, and no value is read for this."""
    with opened(config) as cluster:
        cluster.get("/version")
        return Source(f"{what} of {', '.join(component.namespaces)} at {cluster.server}", None)


def snapshot(
    config: Config,
    repository: Repository,
    name: str,
    component: HelmConfig | SecretsConfig,
    read: Callable[[Cluster, EntrySink], Read],
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """Read and commit.

    Args:
        config: how the cluster is reached.
        repository: takes the snapshot.
        name: of the component.
        component: the component.
        read: reads into the snapshot.
        full: compare with no parent.
        progress: told what happens.

    Raises:
        SourceError: a namespace could not be read; the snapshot has the others, where there are any.
    """
    with opened(config) as cluster, SnapshotWriter(repository, name, component.kind, full=full) as writer:
        progress.start(None, f"{name}: reading")
        done = read(cluster, writer)
        source: dict[str, Any] = {
            "server": cluster.server,
            "namespaces": done.parts.done,
            "failed_namespaces": [namespace for namespace, _error in done.parts.failed],
            **done.facts,
        }
        _log.info("source read", component=name, bytes=writer.bytes_source, **done.facts)
        taken = writer.commit(source, [*done.parts.warnings(), *done.warnings])
    check_whole(name, taken.id, done.parts)
    return taken


def chosen(repository: Repository, request: Request) -> Chosen:
    """The snapshot that a request means, how old it is, and what speaks against it."""
    found, doubts = choose(repository, request)
    lost = (opening.moment(repository) - found.header.moment).total_seconds()
    return Chosen(
        request=request, snapshot=found, seconds_lost=lost, doubts=(*doubts, *found.header.warnings)
    )


def check_whole(component: str, snapshot: str, parts: Parts) -> None:
    """A snapshot that lacks a namespace was taken, and the run failed all the same.

    Raises:
        SourceError: a namespace failed.
    """
    if not parts.failed:
        return
    names = ", ".join(f'"{name}"' for name, _error in parts.failed)
    first = parts.failed[0][1]
    raise errors.SourceError(
        f'snapshot "{snapshot}" of "{component}" was taken, but not whole: namespace {names} failed: {first.message}',
        on=parts.failed[0][0],
        hint=first.hint,
        unaffected=f"the snapshot has the other namespaces ({', '.join(parts.done)}); earlier snapshots are as they were",
    )
