"""Take one snapshot of Secrets' metadata, and of the values that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dr_toolkit.cluster import secrets_snapshot
from dr_toolkit.config import ComponentConfig, Config, SecretsConfig
from dr_toolkit.jobs import clusters, opening
from dr_toolkit.jobs.clusters import Read
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntrySink
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster


def look(config: Config, component: ComponentConfig) -> Source:
    """Asks the API server; values are not read for this."""
    return clusters.look(config, "Secrets", opening.expect(component, SecretsConfig))


def foresee(config: Config, repository: Repository, name: str, component: ComponentConfig) -> list[str]:
    """How many Secrets there are, and of which the values would be kept."""
    del repository, name
    wanted = opening.expect(component, SecretsConfig)
    sentences = []
    with clusters.opened(config) as cluster:
        for namespace in wanted.namespaces:
            names = secrets_snapshot.names(cluster, namespace)
            kept = sorted(one for one in names if _keep(wanted, namespace, one)[0])
            values = f"; values of {', '.join(kept)}" if kept else ", no values"
            sentences.append(f"{namespace}: metadata of {len(names)} Secrets{values}")
    return sentences


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """Read the Secrets and commit.

    Raises:
        SourceError: a namespace could not be read; the snapshot has the others, where there are any.
    """
    wanted = opening.expect(component, SecretsConfig)

    def read(cluster: Cluster, sink: EntrySink) -> Read:
        done = secrets_snapshot.take(
            cluster,
            tuple(wanted.namespaces),
            lambda namespace, secret: _keep(wanted, namespace, secret),
            sink,
            progress,
        )
        counts = {"secrets": done.secrets, "with_values": len(done.values)}
        return Read(done.parts, counts, [*done.absent, *_absent(wanted, done)])

    return clusters.snapshot(config, repository, name, wanted, read, full=full, progress=progress)


def _keep(wanted: SecretsConfig, namespace: str, name: str) -> tuple[bool, tuple[str, ...] | None]:
    """Whether the values of a Secret are kept, and which keys; None for all."""
    fitting = [one for one in wanted.include_values if one.covers(namespace, name)]
    if not fitting:
        return False, ()
    if any(one.keys is None for one in fitting):
        return True, None
    return True, tuple(dict.fromkeys(key for one in fitting for key in one.keys or ()))


def _absent(wanted: SecretsConfig, done: secrets_snapshot.Taken) -> list[str]:
    return [
        f'the values of Secret "{one.name}" were to be kept, and there is none'
        + (f' in namespace "{one.namespace}"' if one.namespace else "")
        for one in wanted.include_values
        if not any(one.covers(namespace, name) for namespace, name in done.values)
    ]
