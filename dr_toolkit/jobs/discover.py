"""``drctl discover``: look at a cluster, and propose a configuration for the platform that runs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dr_toolkit.cluster import faults, platform, platform_facts, platform_releases, properties
from dr_toolkit.cluster.environment import Value
from dr_toolkit.cluster.platform import Api, ApiObjects, Workload
from dr_toolkit.cluster.platform_releases import PlatformRelease
from dr_toolkit.errors import NothingToDo
from dr_toolkit.jobs import discovered_bucket, discovered_database
from dr_toolkit.jobs.discovered_database import Authority
from dr_toolkit.jobs.proposal import Discovery, Field, Member, Proposal

_AUTHORITY = ("cert-manager", "root-ca-secret")
"""Namespace and Secret of the reference architecture's authority: lost, every certificate and truststore must be made anew."""
_BY_A_CONTROLLER = ("cert-manager.io/", "sealedsecrets.bitnami.com/", "reconcile.external-secrets.io/")


def run(api: Api, namespaces: Sequence[str]) -> Discovery:
    """Look at a cluster.

    Args:
        api: the cluster.
        namespaces: where to look; none for everywhere.

    Raises:
        NothingToDo: there is no Console and no Gateway.
    """
    objects = ApiObjects(api)
    releases = [
        one for namespace in namespaces or ("",) for one in platform_releases.find(api, namespace, objects)
    ]
    found = _workloads(api, namespaces, objects, releases)
    components: list[Proposal] = []
    missing = [
        f"{w.namespace}/{w.name} does not run; what is here is what Helm release {w.release} would make"
        for w in found
        if not w.live
    ]
    for workload in found:
        release = platform_releases.of_workload(workload, releases)
        below = release.settings(workload.role) if release else {}
        if workload.role == "console":
            components += _databases(api, workload, below, components, missing)
        elif workload.role == "cortex":
            proposal, lacking = discovered_bucket.propose(
                _unused("cortex", components), properties.read(workload.container, below)
            )
            components += [proposal] if proposal else []
            missing += lacking
    missing += _roles_not_found(found)
    components += _cluster_components(found, objects)
    missing += [f"{name}: {why}" for name, why in sorted(objects.refused.items())]
    topics = tuple(t for w in found if w.role == "gateway" for t in gateway_topics(w, releases))
    return Discovery(
        tuple(Member(w.role, w.namespace, w.name, w.release, w.container.image, w.live) for w in found),
        tuple(components),
        tuple(dict.fromkeys(missing)),
        _not_protected(topics),
        topics,
    )


def _workloads(
    api: Api, namespaces: Sequence[str], objects: ApiObjects, releases: Sequence[PlatformRelease]
) -> list[Workload]:
    """What runs, and what Helm's releases would run.

    Raises:
        NothingToDo: there is neither.
        Forbidden: it may not be looked for, and Helm knows nothing.
    """
    live: list[Workload] = []
    refused: faults.Forbidden | None = None
    for namespace in namespaces or ("",):
        try:
            live += platform.workloads(api, namespace, objects)
        except faults.Forbidden as error:
            refused = error
            objects.refused[f"Deployments{f' of {namespace}' if namespace else ''}"] = (
                f"we may not list them ({error.rule})"
            )
    found = live + platform_releases.absent(releases, live, objects)
    if not found and refused is not None:
        raise refused
    if not found:
        where = f"in {', '.join(namespaces)}" if namespaces else "in any namespace"
        raise NothingToDo(
            f"no Conduktor Console and no Gateway was found {where}",
            hint="name the platform's namespace with -n; a Deployment is known by its labels, container or image, a Helm release by its chart",
        )
    return sorted(found, key=lambda w: (w.role, w.namespace, w.name))


def gateway_topics(workload: Workload, releases: Sequence[PlatformRelease] = ()) -> tuple[str, ...]:
    """The Kafka topics that hold a Gateway's state, under the names that its environment gives them, or its release's values."""
    release = platform_releases.of_workload(workload, releases)
    texts = release.environment() if release else {}
    texts |= {name: value.text for name, value in workload.container.environment.items() if value.text}
    return tuple(platform_facts.gateway_topics(texts))


def _not_protected(topics: Sequence[str]) -> tuple[str, ...]:
    if not topics:
        return ()
    return (
        "Gateway's own state lives in Kafka topics, and nothing here protects them: " + ", ".join(topics),
        "without the KMS that holds Gateway's keys, what Gateway encrypted is lost for good; it is not part of any snapshot",
    )


def _databases(
    api: Api,
    workload: Workload,
    below: Mapping[str, Value],
    components: Sequence[Proposal],
    missing: list[str],
) -> list[Proposal]:
    settings = properties.read(workload.container, below)
    missing += [f"{workload.namespace}/{workload.name}: {text} could not be read" for text in settings.unread]
    proposals: list[Proposal] = []
    main = discovered_database.place_of(settings, "database")
    if main is None:
        missing.append(f"{workload.namespace}/{workload.name}: no setting of the main database was found")
    else:
        about: tuple[str, ...] = (
            f"Console's main database ({workload.namespace}/{workload.name}). Its data is in schemas of its own, not in public.",
        )
        proposals.append(_database(api, workload, "console-db", main, about, "15 * * * *", components))
    second = discovered_database.place_of(settings, "kafkasql.database")
    if second is not None:
        about = (
            "Console's SQL database: an index of Kafka topics, with their content. It can be built again from Kafka, as long as Kafka keeps it.",
            "After a restore the offsets of the consumer group (conduktor-sql) must be reset, else there is a gap.",
        )
        proposals.append(_database(api, workload, "sql-db", second, about, "45 1 * * *", components))
    return proposals


def _database(
    api: Api,
    workload: Workload,
    name: str,
    place: discovered_database.Place,
    about: tuple[str, ...],
    schedule: str,
    components: Sequence[Proposal],
) -> Proposal:
    service = platform.service_of(place.first_host, workload.namespace) if place.first_host else None
    found = platform.certificate_of_service(api, *service) if service else None
    authority = Authority(service[0], *found) if service and found else None
    return discovered_database.propose(
        _unused(name, components), place, about=about, authority=authority, schedule=schedule
    )


def _unused(name: str, components: Sequence[Proposal]) -> str:
    taken = {component.name for component in components}
    return next(
        candidate
        for number in range(1, len(taken) + 2)
        if (candidate := name + (f"-{number}" if number > 1 else "")) not in taken
    )


def _roles_not_found(found: Sequence[Workload]) -> list[str]:
    roles = {workload.role for workload in found}
    words = {
        "console": "no Console was found: its database is not in this configuration",
        "cortex": "no Cortex was found: if metrics are kept somewhere, they are not in this configuration",
        "gateway": "no Gateway was found",
    }
    return [text for role, text in words.items() if role not in roles]


def _cluster_components(found: Sequence[Workload], objects: ApiObjects) -> list[Proposal]:
    namespaces = tuple(dict.fromkeys(workload.namespace for workload in found))
    proposals = valuable(found, objects)
    authority = objects.object(platform.SECRETS, *_AUTHORITY) is not None
    objects.refused.pop("Secret " + "/".join(_AUTHORITY), None)  # only looked for, never named by anybody
    if authority:
        proposals.append(_AUTHORITY[1])
    everywhere = tuple(dict.fromkeys((*namespaces, *(_AUTHORITY[:1] if authority else ()))))
    secrets: list[Field] = [Field("kind", "secrets"), Field("namespaces", everywhere)]
    if proposals:
        secrets.append(
            Field(
                "include_values",
                tuple(proposals),
                "without these a platform is lost; sealed, and only a read role opens them",
            )
        )
    return [
        Proposal(
            "releases",
            ("The Helm releases: charts, versions, values. Values often hold licence keys and passwords.",),
            (Field("kind", "helm"), Field("namespaces", namespaces), Field("schedule", "0 2 * * *")),
        ),
        Proposal(
            "secrets",
            ("The Secrets' names, keys and fingerprints; no value, except those that include_values names.",),
            (*secrets, Field("schedule", "5 2 * * *")),
        ),
    ]


def valuable(found: Sequence[Workload], objects: ApiObjects) -> list[str]:
    """The Secrets whose values should be kept: made by the chart's random choice, or by hand, and used by the platform.

    Args:
        found: the platform's workloads.
        objects: where Secrets are read.

    Returns:
        ``name`` of whole Secrets, ``name/key`` of single keys: the words of ``include_values``.
    """
    chosen: list[str] = []
    for workload in found:
        pool_key = workload.container.environment.get(platform_facts.SIGNING_KEY)
        if pool_key is not None and pool_key.origin.kind == "secret":
            origin = pool_key.origin
            secret = objects.object(platform.SECRETS, origin.namespace, origin.name)
            if secret is None or not _from_elsewhere(secret):
                chosen.append(f"{origin.name}/{origin.key}")
        for name in workload.container.secret_names:
            secret = objects.object(platform.SECRETS, workload.namespace, name)
            if secret is not None and "truststore" in name and not _from_elsewhere(secret):
                chosen.append(name)
    return list(dict.fromkeys(chosen))


def _from_elsewhere(secret: Mapping[str, Any]) -> bool:
    """Whether something else in the cluster would make this Secret again, with the same values."""
    metadata = secret["metadata"]
    if metadata.get("ownerReferences"):
        return True
    marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return any(mark.startswith(_BY_A_CONTROLLER) for mark in marks)
