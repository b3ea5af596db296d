"""What RBAC allows us, against what the configured components need. Pure but for `allowed`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dr_toolkit.cluster import paths

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """One right.

    Attributes:
        namespace: where; empty for the whole cluster.
        group: the API group; empty for the core group.
        resource: the plural name, with a subresource (``pods/log``).
        verb: ``list``.
        reason: what for.
    """

    namespace: str
    group: str
    resource: str
    verb: str
    reason: str = ""

    @property
    def rule(self) -> str:
        """The rule of a Role that gives it."""
        return paths.rule(self.verb, self.group, self.resource)


HELM = (
    ("", "configmaps", "list", "ConfigMaps of releases"),
    ("", "pods", "list", "digests of the images that run"),
    ("apps", "deployments", "list", "replicas and images"),
    ("apps", "statefulsets", "list", "replicas and images"),
    ("apps", "daemonsets", "list", "replicas and images"),
)
SECRETS = (("", "secrets", "list", "metadata and fingerprints"),)
HELM_STORAGE = {
    "secrets": ("", "secrets", "list", "Helm's storage"),
    "configmaps": ("", "configmaps", "list", "Helm's storage"),
}
SCRATCH = (
    *(("", "namespaces", verb, "scratch namespaces") for verb in ("create", "delete", "get", "list")),
    *(
        ("", resource, "create", "what is put into a scratch namespace")
        for resource in ("resourcequotas", "limitranges", "secrets", "configmaps", "persistentvolumeclaims")
    ),
    ("networking.k8s.io", "networkpolicies", "create", "the isolation of a scratch namespace"),
    *(("batch", "jobs", verb, "the restore in a scratch namespace") for verb in ("create", "get")),
    *(
        ("", resource, verb, "watching a scratch namespace")
        for resource in ("pods", "events", "resourcequotas", "persistentvolumeclaims")
        for verb in ("get", "list")
    ),
    ("", "pods/log", "get", "the result of a restore in a scratch namespace"),
)
"""A test holds these against k8s-cronjobs/scratch-rights.yaml."""


def needs(namespaces: Iterable[str], rows: Iterable[tuple[str, str, str, str]]) -> list[Need]:
    """The same rights in each of some namespaces; ``""`` is the whole cluster."""
    kept = list(rows)
    return [Need(namespace, *row) for namespace in namespaces for row in kept]


def covers(rules: Sequence[Mapping[str, Any]], need: Need) -> bool:
    """Whether the rules of a SelfSubjectRulesReview give a right, on all objects."""
    return any(
        _has(rule.get("verbs"), need.verb)
        and _has(rule.get("apiGroups"), need.group)
        and _has(rule.get("resources"), need.resource)
        and not rule.get("resourceNames")
        for rule in rules
    )


def _has(listed: object, wanted: str) -> bool:
    if not isinstance(listed, list):
        return False
    _resource, slash, sub = wanted.partition("/")
    return "*" in listed or wanted in listed or bool(slash and f"*/{sub}" in listed)


def missing(cluster: Cluster, wanted: Iterable[Need]) -> list[Need]:
    """The rights that are not there: one review for each namespace, and one more question for each that it does not show.

    Raises:
        SourceError, SourceUnreachable: the API server cannot be asked.
    """
    by_namespace: dict[str, list[Need]] = {}
    for need in wanted:
        by_namespace.setdefault(need.namespace, []).append(need)
    found: dict[Need, None] = {}
    for namespace, asked in by_namespace.items():
        rules = _rules(cluster, namespace)
        for need in asked:
            if not covers(rules, need) and not _asked(cluster, need):
                found.setdefault(need)
    return list(found)


def _rules(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """What the authorizers tell of themselves; some tell nothing, so what is not here is asked singly."""
    if not namespace:
        return []
    answer = cluster.create(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        },
    )
    status = answer.get("status")
    return list(status.get("resourceRules") or []) if isinstance(status, dict) else []


def _asked(cluster: Cluster, need: Need) -> bool:
    resource, _slash, sub = need.resource.partition("/")
    return cluster.allowed(need.verb, need.group, resource, need.namespace, subresource=sub)
