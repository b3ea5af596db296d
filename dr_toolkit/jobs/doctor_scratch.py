"""What ``drctl doctor`` looks at for Pods of drctl in the cluster: scratch namespaces, and quotas where its Jobs run. Admission is asked, nothing is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dr_toolkit import clock, errors
from dr_toolkit.cluster import paths, quotas, rights, scratch_namespace, scratch_objects
from dr_toolkit.cluster.rights import Need
from dr_toolkit.config import Config, ScratchNamespaceConfig
from dr_toolkit.jobs.findings import Finding, of_error

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

AREA = "cluster"
_ON = "scratch"
_CLASSES = "apis/storage.k8s.io/v1/storageclasses"
_BY_HAND = "kubernetes.io/no-provisioner"


def look(config: Config, cluster: Cluster) -> Iterator[Finding]:
    """Whether a scratch namespace could be made, and would let its Pod in."""
    yield from _admitted(cluster)
    wanted = config.verify.namespace
    if wanted is None:
        yield Finding(
            "failed",
            AREA,
            "verify.scratch is namespace, and verify.namespace is missing",
            "nothing says which images run in a scratch namespace",
            "add verify.namespace (drctl config example shows it)",
            _ON,
        )
        return
    dump = any(one.kind == "postgres-dump" for one in config.components.values())
    yield of_quota(wanted, containers=2 if dump else 1)
    yield from _storage(wanted.storage_class, cluster)
    yield from _leftovers(cluster)


def _admitted(cluster: Cluster) -> Iterator[Finding]:
    name = f"drctl-doctor-{clock.now():%Y%m%d%H%M%S}"
    labels = {"drctl/scratch": "true"}
    labels |= {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    try:
        made = cluster.create("/api/v1/namespaces", body, query={"dryRun": "All"})
    except errors.SourceError as error:
        yield of_error(AREA, _ON, error, "verify --restore cannot make its scratch namespace")
    else:
        yield of_labels(labels, (made.get("metadata") or {}).get("labels") or {})


def of_labels(asked: Mapping[str, str], kept: Mapping[str, str]) -> Finding:
    """Whether the namespace would be as it was asked for: an admission webhook may change it. Pure."""
    changed = sorted(name for name, value in asked.items() if kept.get(name) != value)
    if not changed:
        return Finding("ok", AREA, "a scratch namespace with Pod Security level restricted may be made")
    now = ", ".join(f"{name}={kept.get(name, '')}" for name in changed)
    return Finding(
        "failed",
        AREA,
        f"something in the cluster changes the labels of a scratch namespace: {now}",
        "it would not be restricted, or drctl would not find it again to remove it",
        "exempt namespaces with the label drctl/scratch from that webhook or policy",
        _ON,
    )


def of_quota(wanted: ScratchNamespaceConfig, containers: int) -> Finding:
    """Whether the configured quota lets the scratch Pod in. Pure."""
    # Without a configured size the volume's is known only when there is a snapshot.
    size = (wanted.size or "1") if wanted.storage_class is not None else "0"
    demand = scratch_objects.demand(wanted.memory, wanted.cpu, containers, size)
    lacking = quotas.short(wanted.quota, demand)
    if not lacking:
        takes = f"{demand['requests.cpu']} CPU and {demand['limits.memory']} of memory"
        return Finding("ok", AREA, f"the quota of a scratch namespace fits its Pod, which takes {takes}")
    return Finding(
        "failed",
        AREA,
        f"the quota of a scratch namespace refuses its Pod: {'; '.join(map(str, lacking))}",
        "verify --restore would wait for a Pod that never comes",
        "raise or remove these under verify.namespace.quota, or lower verify.namespace.memory and cpu",
        _ON,
    )


def _storage(wanted: str | None, cluster: Cluster) -> Iterator[Finding]:
    if wanted is None:
        yield Finding("ok", AREA, "scratch uses an emptyDir of the node: no storage class is needed")
        return
    try:
        found = cluster.find(paths.of(_CLASSES, name=wanted))
    except errors.SourceError as error:
        yield Finding(
            "note",
            AREA,
            f'storage class "{wanted}" was not looked at: {error.message}',
            "a scratch volume may wait for ever",
            error.hint or "",
            _ON,
        )
        return
    yield of_storage_class(wanted, found)


def of_storage_class(wanted: str, found: Mapping[str, Any] | None) -> Finding:
    """Whether a claim of this class would get its volume. Pure."""
    if found is None:
        return Finding(
            "failed",
            AREA,
            f'there is no storage class "{wanted}"',
            "the volume of a scratch namespace would wait for ever",
            "correct verify.namespace.storage_class (kubectl get storageclass), or leave it out",
            _ON,
        )
    if found.get("provisioner") == _BY_HAND:
        return Finding(
            "warning",
            AREA,
            f'storage class "{wanted}" makes no volumes',
            "the volume of a scratch namespace waits until somebody makes one by hand",
            "choose a class with a provisioner, or leave verify.namespace.storage_class out",
            _ON,
        )
    return Finding("ok", AREA, f'storage class "{wanted}" is there, and makes volumes')


def _leftovers(cluster: Cluster) -> Iterator[Finding]:
    try:
        found = scratch_namespace.collect(cluster, dry_run=True)
    except errors.SourceError:
        return  # the missing right is told already
    expired = [one.namespace for one in found if one.expired]
    if expired:
        yield Finding(
            "warning",
            AREA,
            f"{len(expired)} scratch namespaces of killed runs are left over: {', '.join(expired[:5])}",
            "they hold memory, volumes and restored data",
            "drctl scratch gc",
            _ON,
        )


def room(namespaces: Iterable[str], cluster: Cluster) -> Iterator[Finding]:
    """Whether quotas leave room for a Pod of drctl's Jobs, in the namespaces in which we may look.

    Args:
        namespaces: where CronJobs and Helm's hook run.
        cluster: the API server.
    """
    unseen: list[str] = []
    for namespace in dict.fromkeys(namespaces):
        if rights.missing(cluster, [Need(namespace, "", "resourcequotas", "list")]):
            unseen.append(namespace)
            continue
        items: list[dict[str, Any]] = []
        for page in cluster.pages(paths.of("api/v1/resourcequotas", namespace), restarted=items.clear):
            items += page
        yield from of_quotas(namespace, items)
    if unseen:
        yield Finding(
            "note",
            AREA,
            f"quotas were not looked at in {', '.join(unseen)}: listing resourcequotas is not allowed",
            "a quota that is used up keeps the Pods of drctl's Jobs from starting",
            "look yourself: kubectl describe resourcequota -n NAMESPACE; or allow it, it says nothing secret",
        )


def of_quotas(namespace: str, items: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """What live quotas say. Pure."""
    fine = 0
    for quota in items:
        name = str((quota.get("metadata") or {}).get("name", ""))
        full = list(quotas.used_up(quota))
        fine += not full
        if full:
            yield Finding(
                "warning",
                AREA,
                f'quota "{name}" of namespace "{namespace}" is used up: {", ".join(full)}',
                "a Job of drctl gets no Pod there: a CronJob backs nothing up, Helm's hook holds the upgrade until its deadline",
                "raise the quota, or run drctl's Jobs in a namespace of their own",
                namespace,
            )
    if fine:
        yield Finding("ok", AREA, f'{fine} quotas of namespace "{namespace}" leave room for another Pod')
