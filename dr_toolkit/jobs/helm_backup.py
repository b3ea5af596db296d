"""Take one snapshot of Helm releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dr_toolkit.cluster import helm_storage, releases
from dr_toolkit.cluster.releases import Wanted
from dr_toolkit.config import ComponentConfig, Config, HelmConfig
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
    """Asks the API server; nobody knows beforehand how much there is."""
    return clusters.look(config, "Helm releases", opening.expect(component, HelmConfig))


def foresee(config: Config, repository: Repository, name: str, component: ComponentConfig) -> list[str]:
    """Which releases there are, and which are stuck."""
    del repository, name
    wanted = opening.expect(component, HelmConfig)
    sentences = []
    with clusters.opened(config) as cluster:
        for namespace in wanted.namespaces:
            for driver in wanted.drivers:
                for release, state in sorted(releases.states(cluster, namespace, driver).items()):
                    stuck = "WARNING: stuck: " if state.facts.status in helm_storage.STUCK else ""
                    sentences.append(
                        f"{stuck}{namespace}/{release}: revision {state.facts.revision} is {state.facts.status}"
                    )
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
    """Read Helm's storage and what runs, and commit.

    Raises:
        SourceError: a namespace could not be read; the snapshot has the others, where there are any.
    """
    component = opening.expect(component, HelmConfig)
    wanted = Wanted(
        tuple(component.namespaces),
        tuple(component.drivers),
        deployed_only=component.revisions == "deployed",
        workloads=component.workloads,
    )

    def read(cluster: Cluster, sink: EntrySink) -> Read:
        done = releases.take(cluster, wanted, sink, progress)
        counts = {"releases": len(done.releases), "revisions": done.revisions, "broken": len(done.broken)}
        return Read(done.parts, counts, done.broken)

    return clusters.snapshot(config, repository, name, component, read, full=full, progress=progress)
