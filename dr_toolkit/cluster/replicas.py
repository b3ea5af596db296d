"""Deployments and StatefulSets: to zero and back. What they are meant to have is written on them in the same request that takes it away.

A run that is killed leaves at most a workload at zero that says itself how many replicas it is meant to have; who first scaled it down
decides that number, and a second run never overwrites it. An autoscaler leaves a workload alone while it has no replicas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dr_toolkit import clock, log
from dr_toolkit.cluster import faults, paths
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.kinds import METADATA_ONLY
from dr_toolkit.errors import TargetError

INTENDED = "drctl.conduktor.io/intended-replicas"
"""The annotation: how many replicas a workload that we scaled down is meant to have."""
SINCE = "drctl.conduktor.io/scaled-down-at"
INSTANCE = "app.kubernetes.io/instance"
RESOURCES = {"deployment": "apis/apps/v1/deployments", "statefulset": "apis/apps/v1/statefulsets"}
_STEP_S = 0.5
_TRIES = 5

_log = log.get("cluster.replicas")


@dataclass(frozen=True, slots=True)
class Workload:
    """One of them, as it was read.

    Attributes:
        kind: ``deployment`` or ``statefulset``.
        namespace: of it.
        name: its own.
        replicas: that it has to have at this moment.
        ready: replicas that are ready.
        intended: what the annotation says; None where a run of ours did not scale it down.
        since: when it was scaled down, RFC 3339; empty if it was not.
        selector: labels of its pods.
        labels: its own.
        images: of its containers.
        revision: the server's mark of this state.
        settled: whether the server has worked on its newest specification, and its pods are of it.
    """

    kind: str
    namespace: str
    name: str
    replicas: int
    ready: int
    intended: int | None
    since: str
    selector: Mapping[str, str]
    labels: Mapping[str, str]
    images: tuple[str, ...]
    revision: str
    settled: bool

    @property
    def path(self) -> str:
        """Of the object in the API."""
        return paths.of(RESOURCES[self.kind], self.namespace, self.name)

    @property
    def title(self) -> str:
        """``deployment/conduktor-console``."""
        return f"{self.kind}/{self.name}"

    @property
    def goal(self) -> int:
        """Replicas that it is meant to have when everything is as usual."""
        return self.replicas or self.intended or 0


def find(cluster: Cluster, namespace: str, *, release: str, named: Sequence[str] | None) -> list[Workload]:
    """The workloads that are named, or all of a Helm release, in a fixed order.

    Raises:
        TargetError: a named one is not there, or the release has none.
        SourceUnreachable: the API server does not answer.
    """
    if named is not None:
        return [_named(cluster, namespace, one) for one in named]
    found = [
        _read(kind, item)
        for kind, resource in RESOURCES.items()
        for page in cluster.pages(
            paths.of(resource, namespace), query={"labelSelector": f"{INSTANCE}={release}"}
        )
        for item in page
    ]
    if not found:
        raise TargetError(
            f'no workload in namespace "{namespace}" has the label {INSTANCE}={release}',
            on=namespace,
            hint='name them under "platform": workloads: [deployment/NAME]',
            unaffected="nothing was scaled",
        )
    return sorted(found, key=lambda one: (one.kind, one.name))


def scale_down(cluster: Cluster, found: Workload) -> Workload:
    """Scale one to zero; what it is meant to have is written on it by the same request.

    Raises:
        SourceUnreachable: the API server does not answer.
        Conflict: somebody else changes it all the time.
    """
    for _ in range(_TRIES):
        if found.replicas == 0:
            return found  # a person means it so; or a run of ours did it, and its mark says what is meant
        marks = {INTENDED: str(found.replicas), SINCE: clock.rfc3339(clock.now())}
        body = {
            "metadata": {"annotations": marks, "resourceVersion": found.revision},
            "spec": {"replicas": 0},
        }
        try:
            changed = _read(found.kind, cluster.patch(found.path, body))
        except faults.Conflict:
            found = again(cluster, found)
            continue
        _log.info("scaled down", workload=found.title, namespace=found.namespace, intended=found.replicas)
        return changed
    raise _contended(found)


def scale_up(cluster: Cluster, found: Workload, *, replicas: int | None = None) -> bool:
    """Give one that we scaled down its replicas back. Says whether there was anything to do.

    A person who scaled it up meanwhile is right: then only the marks go.

    Args:
        cluster: where.
        found: the workload.
        replicas: what it is meant to have, where its marks are lost.

    Raises:
        SourceUnreachable: the API server does not answer.
        Conflict: somebody else changes it all the time.
    """
    for _ in range(_TRIES):
        goal = found.intended if found.intended is not None else replicas
        if goal is None or (found.intended is None and found.replicas):
            return False
        body: dict[str, Any] = {
            "metadata": {"annotations": {INTENDED: None, SINCE: None}, "resourceVersion": found.revision}
        }
        if found.replicas == 0:
            body["spec"] = {"replicas": goal}
        try:
            cluster.patch(found.path, body)
        except faults.Conflict:
            found = again(cluster, found)
            continue
        _log.info("scaled up", workload=found.title, namespace=found.namespace, replicas=goal)
        return True
    raise _contended(found)


def wait_for_no_pods(cluster: Cluster, scaled: Iterable[Workload], seconds: float) -> None:
    """Wait until no pod of these is left: one that is ending may still write.

    Raises:
        TargetError: some are still there.
    """
    latest = clock.monotonic() + seconds
    for one in scaled:
        while names := _pods(cluster, one):
            if clock.monotonic() >= latest:
                raise TargetError(
                    f"pods of {one.title} are still there after {seconds:.0f} s: {', '.join(names[:3])}",
                    on=one.title,
                    hint="find out what keeps them (kubectl describe pod); give it longer with --scale-timeout",
                    unaffected="no data was touched",
                )
            clock.sleep(_STEP_S)


def wait_until_ready(cluster: Cluster, found: Iterable[Workload], seconds: float) -> list[str]:
    """Wait until all replicas are ready; what is not when the time is over, in words."""
    latest = clock.monotonic() + seconds
    late = []
    for one in found:
        now = again(cluster, one)
        while not is_ready(now) and clock.monotonic() < latest:
            clock.sleep(_STEP_S)
            now = again(cluster, one)
        if not is_ready(now):
            late.append(f"{now.title} has {now.ready} of {now.replicas} replicas ready")
    return late


def is_ready(found: Workload) -> bool:
    """Whether it has what it is meant to have. Pure."""
    return found.settled and found.intended is None and found.ready >= found.replicas


def record(goals: Mapping[str, int]) -> str:
    """What several are meant to have, by title, as text: the second copy of the marks."""
    return json.dumps({title: count for title, count in goals.items() if count}, sort_keys=True)


def read_record(text: str | None) -> dict[str, int]:
    """The reverse; nothing where the text is none of ours."""
    try:
        value = json.loads(text or "{}")
        return {str(name): int(count) for name, count in value.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _named(cluster: Cluster, namespace: str, named: str) -> Workload:
    kind, _, name = named.partition("/")
    found = cluster.find(paths.of(RESOURCES[kind], namespace, name))
    if found is None:
        raise TargetError(
            f'there is no {named} in namespace "{namespace}"',
            on=named,
            hint='correct "workloads" under "platform"; see: kubectl get deployments,statefulsets',
            unaffected="nothing was scaled",
        )
    return _read(kind, found)


def again(cluster: Cluster, found: Workload) -> Workload:
    """Read one again."""
    return _read(found.kind, cluster.get(found.path))


def _pods(cluster: Cluster, one: Workload) -> list[str]:
    selector = ",".join(f"{key}={value}" for key, value in sorted(one.selector.items()))
    where = paths.of("api/v1/pods", one.namespace)
    query = {"labelSelector": selector, "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
    pages = cluster.pages(where, query=query, accept=METADATA_ONLY)
    return [str(item["metadata"]["name"]) for page in pages for item in page]


def _contended(found: Workload) -> TargetError:
    return TargetError(
        f"{found.title} is changed by somebody else all the time",
        on=found.title,
        hint="stop what changes it (an operator, a GitOps tool), then: drctl resume",
    )


def _read(kind: str, item: Mapping[str, Any]) -> Workload:
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    marks = meta.get("annotations") or {}
    text = marks.get(INTENDED, "")
    template = spec.get("template", {}).get("spec", {})
    replicas = int(spec.get("replicas", 1))
    observed = int(status.get("observedGeneration", 0)) >= int(meta.get("generation", 0))
    return Workload(
        kind=kind,
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        replicas=replicas,
        ready=int(status.get("readyReplicas") or 0),
        intended=int(text) if str(text).isdecimal() else None,
        since=str(marks.get(SINCE, "")),
        selector=dict(spec.get("selector", {}).get("matchLabels") or {}),
        labels=dict(meta.get("labels") or {}),
        images=tuple(str(c.get("image", "")) for c in template.get("containers", ())),
        revision=str(meta.get("resourceVersion", "")),
        settled=observed and int(status.get("updatedReplicas") or 0) >= replicas,
    )
