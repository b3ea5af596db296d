"""What ``drctl doctor`` looks at in Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dr_toolkit import clock, errors
from dr_toolkit.cluster import (
    helm_storage,
    platform_facts,
    releases,
    rights,
    secret_facts,
    secrets_snapshot,
    workloads,
)
from dr_toolkit.cluster.platform_facts import Known
from dr_toolkit.cluster.rights import Need
from dr_toolkit.config import Config, HelmConfig, SecretsConfig
from dr_toolkit.jobs import clusters, doctor_scratch, helm_gate
from dr_toolkit.jobs.findings import Finding, of_clock, of_error
from dr_toolkit.words import counted

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

AREA = "cluster"
TESTED = ((1, 34), (1, 37))
"""The oldest and the newest minor version that the tests run on."""
CERT_MANAGER = "cert-manager"
_UNKNOWN = "what this component needs of the cluster is not known to work"


def touches(config: Config) -> bool:
    """Whether anything that is configured needs the Kubernetes API."""
    named = config.cluster.names_a_kubeconfig or config.cluster.in_cluster
    return (
        bool(named)
        or scratch(config)
        or any(isinstance(one, HelmConfig | SecretsConfig) for one in config.components.values())
    )


def scratch(config: Config) -> bool:
    """Whether verification restores into a namespace, or may be told to (``--in namespace``)."""
    return config.verify.scratch == "namespace" or config.verify.namespace is not None


def look(config: Config) -> Iterator[Finding]:
    """Everything about the cluster; what cannot be looked at is a finding."""
    if not touches(config):
        yield topics({}, known=False)
        return
    try:
        with clusters.opened(config) as cluster:
            version = cluster.get("/version")
            yield of_version(cluster.server, version)
            yield of_clock(AREA, "the API server", cluster.date, clock.now())
            yield from _rights(config, cluster)
            yield from _releases(config, cluster)
            yield from _platform(config, cluster)
            if scratch(config):
                yield from doctor_scratch.look(config, cluster)
            own = [cluster.namespace] if cluster.namespace else []
            yield from doctor_scratch.room([*own, *_namespaces(config, HelmConfig)], cluster)
    except errors.DrctlError as error:
        yield of_error(AREA, "cluster", error, "nothing in the cluster can be backed up or compared")
        yield topics({}, known=False)


def of_version(server: str, answer: Mapping[str, Any]) -> Finding:
    """Whether the API server is of a version that the tests run on. Pure."""
    text = str(answer.get("gitVersion", "unknown"))
    major, minor = (str(answer.get(part, "")).rstrip("+") for part in ("major", "minor"))
    found = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
    if TESTED[0] <= found <= TESTED[1]:
        return Finding("ok", AREA, f"the API server at {server} is {text}")
    return Finding(
        "warning",
        AREA,
        f"the API server at {server} is {text}",
        f"drctl is tested on {TESTED[0][0]}.{TESTED[0][1]} to {TESTED[1][0]}.{TESTED[1][1]}",
        "use a version of drctl that is tested on it, or try a restore before you need one",
    )


def needed(config: Config) -> list[Need]:
    """The rights that the configured components need. Pure."""
    wanted: list[Need] = []
    for component in config.components.values():
        if isinstance(component, HelmConfig):
            rows = [rights.HELM_STORAGE[driver] for driver in component.drivers]
            rows += rights.HELM if component.workloads else ()
            wanted += rights.needs(component.namespaces, rows)
        if isinstance(component, SecretsConfig):
            wanted += rights.needs(component.namespaces, rights.SECRETS)
    if scratch(config):
        wanted += rights.needs([""], rights.SCRATCH)
    by_right = {(one.namespace, one.group, one.resource, one.verb): one for one in reversed(wanted)}
    return sorted(by_right.values())


def _rights(config: Config, cluster: Cluster) -> Iterator[Finding]:
    wanted = needed(config)
    absent = rights.missing(cluster, wanted)
    if not absent:
        yield Finding("ok", AREA, f"RBAC gives all {len(wanted)} rights that are needed")
    for need in absent:
        where = f'in namespace "{need.namespace}"' if need.namespace else "in the whole cluster"
        role = (
            "a Role and a RoleBinding there" if need.namespace else "a ClusterRole and a ClusterRoleBinding"
        )
        yield Finding(
            "failed",
            AREA,
            f"RBAC does not allow to {need.verb} {need.resource} {where}",
            f"it is needed for: {need.reason}",
            f"add this rule to {role} for drctl's account: {need.rule}",
            need.namespace or "cluster",
            need.rule,
        )


def _releases(config: Config, cluster: Cluster) -> Iterator[Finding]:
    good = 0
    for name, component in config.components.items():
        if not isinstance(component, HelmConfig):
            continue
        for namespace in component.namespaces:
            try:
                found = [
                    state
                    for driver in component.drivers
                    for state in releases.states(cluster, namespace, driver).values()
                ]
            except errors.SourceError as error:
                yield of_error("platform", name, error, "stuck releases are not seen")
                continue
            if not found:
                yield Finding(
                    "warning",
                    "platform",
                    f'namespace "{namespace}" has no Helm release',
                    f'"{name}" keeps nothing of it',
                    "check the namespaces and drivers of the component",
                    name,
                )
            for state in found:
                if state.facts.status == "deployed":
                    good += 1
                    continue
                yield of_release(namespace, state)
    if good:
        yield Finding(
            "ok",
            "platform",
            f"{counted(good, 'release is deployed, and no revision of it is', 'releases are deployed, and no revision of them is')} pending",
        )


def of_release(namespace: str, state: releases.State) -> Finding:
    """A release whose newest revision is not deployed. Pure."""
    facts = state.facts
    stuck = facts.status in helm_storage.STUCK
    return Finding(
        "failed" if stuck else "warning",
        "platform",
        f'revision {facts.revision} of release "{namespace}/{facts.release}" is {facts.status}',
        "helm was killed or lost its connection in the middle: every later upgrade is refused (another operation is in progress)"
        if stuck
        else "what runs is not what the newest revision says",
        helm_gate.way_out(namespace, state),
        f"{namespace}/{facts.release}",
    )


def _platform(config: Config, cluster: Cluster) -> Iterator[Finding]:
    helm = _namespaces(config, HelmConfig)
    watched = dict.fromkeys([*helm, *_namespaces(config, SecretsConfig)])
    known: list[Known] = []
    for namespace in watched:
        try:
            known += _secrets(cluster, namespace)
        except errors.SourceError as error:
            yield of_error(
                "platform", namespace, error, "Secrets without which the platform is lost are not seen"
            )
    yield from _cert_manager(cluster, watched, known)
    for one in platform_facts.irreplaceable(known, lambda *which: _kept(config, *which)):
        secret = one.secret
        what = (
            f'{one.key} of Secret "{secret.namespace}/{secret.name}"'
            if one.key
            else f'Secret "{secret.namespace}/{secret.name}"'
        )
        yield Finding(
            "warning",
            "platform",
            f"the value of {what} is in no backup",
            one.why,
            f"add to include_values of a component of kind secrets: {one.reference}",
            f"{secret.namespace}/{secret.name}",
        )
    yield from _gateways(cluster, helm)


def _namespaces(config: Config, model: type[HelmConfig | SecretsConfig]) -> list[str]:
    return [name for one in config.components.values() if isinstance(one, model) for name in one.namespaces]


def _secrets(cluster: Cluster, namespace: str) -> list[Known]:
    """Names of keys need the Secrets themselves; their values are dropped at once."""
    found: list[Known] = []
    for page in secrets_snapshot.live(cluster, namespace, found.clear):
        found += [
            Known(
                namespace,
                str(one["metadata"]["name"]),
                tuple(one.get("data") or ()),
                secret_facts.origin(one["metadata"], str(one.get("type", ""))),
            )
            for one in page
        ]
    return found


def _cert_manager(cluster: Cluster, watched: Mapping[str, None], known: list[Known]) -> Iterator[Finding]:
    """The root of all certificates lies in cert-manager's own namespace, which is easily forgotten."""
    if CERT_MANAGER in watched or not any(one.origin.by == "cert-manager" for one in known):
        return
    if cluster.allowed("list", "", "secrets", CERT_MANAGER):
        known += _secrets(cluster, CERT_MANAGER)
        return
    yield Finding(
        "note",
        "platform",
        f'namespace "{CERT_MANAGER}" was not looked into, and certificates here come from cert-manager',
        f'if its issuer signs by itself ("{platform_facts.ROOT_CA}" in the reference architecture), a lost root means new certificates everywhere',
        f"add {CERT_MANAGER} to the namespaces of a component of kind secrets, and the root to its include_values",
    )


def _kept(config: Config, namespace: str, name: str, key: str) -> bool:
    return any(
        namespace in component.namespaces
        and one.covers(namespace, name)
        and (
            one.keys is None
            or (bool(key) and key in one.keys)
            or (not key and {"tls.crt", "tls.key"} <= set(one.keys))
        )
        for component in config.components.values()
        if isinstance(component, SecretsConfig)
        for one in component.include_values
    )


def _gateways(cluster: Cluster, namespaces: list[str]) -> Iterator[Finding]:
    """Gateway's topics, named as its own environment names them."""
    said = False
    for namespace in dict.fromkeys(namespaces):
        try:
            state = workloads.read(cluster, namespace)
        except errors.SourceError:
            continue  # the missing right is told already
        for one in state["config_maps"]:
            data = {str(key): str(value) for key, value in one["data"].items()}
            if any(key.startswith("GATEWAY_") for key in data):
                said = True
                yield topics(data, known=True, on=f"{namespace}/{one['release']}")
    if not said:
        yield topics({}, known=False)


def topics(environment: Mapping[str, str], *, known: bool, on: str = "") -> Finding:
    """What nothing here protects. Pure."""
    names = ", ".join(platform_facts.gateway_topics(environment))
    where = (
        "of this Gateway"
        if known
        else "of every Conduktor Gateway (names by default; GATEWAY_CLUSTER_ID is in them)"
    )
    return Finding(
        "note",
        "platform",
        f"the state {where} lives in Kafka topics, and nothing here protects them: {names}",
        "virtual clusters, aliases, service accounts, interceptors, ACLs and encryption keys are lost with them; without the encryption keys encrypted data is lost, too",
        "replicate these topics with their configuration to another Kafka cluster (MirrorMaker 2)",
        on,
    )
