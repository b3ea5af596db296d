"""Take one snapshot of Helm releases."""

from __future__ import annotations

from dr_toolkit import log
from dr_toolkit.cluster import helm_storage, releases
from dr_toolkit.cluster.releases import Wanted
from dr_toolkit.config import ComponentConfig, Config, HelmConfig
from dr_toolkit.jobs import clusters, opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

_log = log.get("jobs.backup")


def look(config: Config, component: ComponentConfig) -> Source:
    """Asks the API server; nobody knows beforehand how much there is."""
    wanted = opening.expect(component, HelmConfig)
    with clusters.opened(config) as cluster:
        cluster.get("/version")
        return Source(clusters.place("Helm releases", wanted.namespaces, cluster), None)


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
    wanted = opening.expect(component, HelmConfig)
    with (
        clusters.opened(config) as cluster,
        SnapshotWriter(repository, name, wanted.kind, full=full) as writer,
    ):
        progress.start(None, f"{name}: reading")
        done = releases.take(
            cluster,
            Wanted(
                tuple(wanted.namespaces),
                tuple(wanted.drivers),
                deployed_only=wanted.revisions == "deployed",
                workloads=wanted.workloads,
            ),
            writer,
            progress,
        )
        source = {
            "server": cluster.server,
            "namespaces": done.parts.done,
            "failed_namespaces": [namespace for namespace, _error in done.parts.failed],
            "releases": len(done.releases),
            "revisions": done.revisions,
            "broken": len(done.broken),
        }
        _log.info("source read", component=name, releases=len(done.releases), bytes=writer.bytes_source)
        taken = writer.commit(source, [*done.parts.warnings(), *done.broken])
    clusters.check_whole(name, taken.id, done.parts)
    return taken
