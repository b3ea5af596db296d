"""Compare the Secrets of a snapshot with those that are live. Never writes one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import parts, secrets_snapshot
from dr_toolkit.cluster.parts import Parts
from dr_toolkit.cluster.secret_facts import Difference
from dr_toolkit.config import Config, SecretsConfig
from dr_toolkit.jobs import clusters, opening, selection
from dr_toolkit.jobs.clusters import Chosen
from dr_toolkit.jobs.request import Request
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository

_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Chosen):
    """A comparison that is planned and not yet begun.

    Attributes:
        namespaces: that the snapshot knows.
    """

    namespaces: tuple[str, ...]


@dataclass(slots=True)
class Done:
    """What was found.

    Attributes:
        prepared: the plan.
        differences: missing, extra, changed.
        same: Secrets that are as they were.
        parts: namespaces that were compared, and those that were not.
        seconds: it took.
    """

    prepared: Prepared
    differences: list[Difference] = field(default_factory=list)
    same: int = 0
    parts: Parts = field(default_factory=Parts)
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Choose the snapshot. Changes nothing.

    Raises:
        UsageError: a target was named: there is none.
    """
    opening.expect(opening.known_component(config, request.component), SecretsConfig)
    if request.to is not None or request.tables:
        raise errors.UsageError(
            "Secrets are compared with what is live, and never written",
            on=request.component,
            hint=f"drctl restore {request.component}; for values that were kept: drctl show SNAPSHOT NAMESPACE/values/NAME --reveal",
            unaffected="nothing was started",
        )
    found = clusters.chosen(repository, request)
    namespaces = tuple(str(one) for one in found.snapshot.header.source.get("namespaces", ()))
    selection.check_one_namespace(request.namespace, set(namespaces), request.component)
    return Prepared(
        request=request,
        snapshot=found.snapshot,
        seconds_lost=found.seconds_lost,
        doubts=found.doubts,
        namespaces=namespaces,
    )


def run(
    config: Config, repository: Repository, prepared: Prepared, progress: Progress, *, end_sessions: bool
) -> Done:
    """Compare.

    Raises:
        SourceError: no namespace could be read.
    """
    del end_sessions
    began, done = clock.monotonic(), Done(prepared)
    progress.start(None, f"{prepared.request.component}: comparing")
    with clusters.opened(config) as cluster, SnapshotReader(repository, prepared.snapshot) as source:
        kept = {one.namespace: one for one in secrets_snapshot.read(source)}

        def read(namespace: str) -> None:
            place = prepared.request.namespace or namespace
            differences, same = secrets_snapshot.compare(cluster, replace(kept[namespace], namespace=place))
            done.differences += differences
            done.same += same

        done.parts = parts.each(kept, read)
    done.seconds["all"] = clock.monotonic() - began
    _log.info("compared", snapshot=prepared.snapshot.id, different=len(done.differences))
    return done
