"""What Helm knows of a Conduktor Platform: its releases' values and manifests, also where nothing of them runs.

A namespace whose workloads were deleted or never came up still has Helm's storage, and that has everything that the charts made of the values. Where the
workloads run they say more (what the pod really sees), so what is here fills gaps and wins over nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dr_toolkit.cluster import faults, helm_storage, kinds, manifest, paths, platform, properties
from dr_toolkit.cluster.environment import Origin, Value
from dr_toolkit.cluster.helm_storage import Broken, Facts
from dr_toolkit.cluster.platform import Api, ApiObjects, Role, Workload

CHARTS: Mapping[str, tuple[Role, ...]] = {"console": ("console", "cortex"), "conduktor-gateway": ("gateway",)}
"""Charts of the platform, and what they install."""
_KINDS = {"Secret": kinds.SECRETS, "ConfigMap": kinds.CONFIG_MAPS}
_DRIVERS = {"secrets": kinds.SECRETS, "configmaps": kinds.CONFIG_MAPS}
_GONE = frozenset({"uninstalled", "uninstalling"})
_CREDENTIALS = ("url", "username", "password")
_S3_CREDENTIALS = {"accessKeyId": "ACCESSKEYID", "secretAccessKey": "SECRETACCESSKEY"}


class _Unknown(Mapping[str, Value]):
    """Every variable is there and nobody knows its value: a chart's values are expanded in the pod, not here."""

    def __getitem__(self, name: str) -> Value:
        return Value(None, Origin("other"))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class PlatformRelease:
    """A release of one of the platform's charts.

    Attributes:
        facts: its name, namespace, chart and state.
        values: the chart's own values with the user's laid over; of each platform chart, by its name.
        objects: what its manifest has.
    """

    facts: Facts
    values: Mapping[str, Mapping[str, Any]]
    objects: tuple[Mapping[str, Any], ...]

    @property
    def place(self) -> str:
        """In words."""
        return f"Helm release {self.facts.namespace}/{self.facts.release}"

    def settings(self, role: Role) -> dict[str, Value]:
        """What the values say of one part of the platform, by the canonical path of its settings (``database.host``)."""
        found: dict[str, Value] = {}
        for chart, values in self.values.items():
            if role in CHARTS[chart] and role == "console":
                found |= _console(values, self.facts, self.place)
            elif role in CHARTS[chart] and role == "cortex":
                found |= _cortex(values, self.facts, self.place)
        return found

    def environment(self) -> dict[str, str]:
        """What the values say of Gateway's environment."""
        gateway = _map(_map(self.values.get("conduktor-gateway")).get("gateway"))
        return {str(name): str(value) for name, value in _map(gateway.get("env")).items()}


def find(api: Api, namespace: str, objects: ApiObjects) -> list[PlatformRelease]:
    """The platform's releases by Helm's storage, of each the deployed revision, else the newest.

    Args:
        api: the cluster.
        namespace: where to look; empty for everywhere.
        objects: is told what may not be read, and what a release would have made.
    """
    best: dict[tuple[str, str], tuple[bool, int, dict[str, Any]]] = {}
    for driver, path in _DRIVERS.items():
        query = {"labelSelector": helm_storage.OWNER}
        if driver == "secrets":
            query["fieldSelector"] = f"type={helm_storage.SECRET_TYPE}"
        try:
            for page in api.pages(
                paths.of(path, namespace),
                limit=100,
                page_bytes=kinds.PAGE_BYTES,
                query=query,
                restarted=lambda: None,
            ):
                for stored in page:
                    _note(best, stored)
        except faults.Forbidden as error:
            objects.refused[f"Helm's releases in {driver}" + (f" of {namespace}" if namespace else "")] = (
                f"we may not list them ({error.rule})"
            )
    found = [_release(whole) for _deployed, _revision, whole in best.values()]
    for one in found:
        for made in one.objects:
            kind = _KINDS.get(str(made.get("kind")))
            name = manifest.name_of(made)
            if kind:
                objects.would_be[(kind, name.namespace or one.facts.namespace, name.name)] = made
    return sorted(found, key=lambda one: (one.facts.namespace, one.facts.release))


def _note(best: dict[tuple[str, str], tuple[bool, int, dict[str, Any]]], stored: Mapping[str, Any]) -> None:
    """Keep a revision where it is the platform's and better than what is kept; broken ones are told by a backup."""
    try:
        text = helm_storage.document(helm_storage.payload(stored))
        facts, _rendered = helm_storage.head(text)
        namespace = facts.namespace or str(stored["metadata"].get("namespace", ""))
        rank = (facts.status == "deployed", facts.revision)
        before = best.get((namespace, facts.release))
        if (before is not None and before[:2] > rank) or facts.status in _GONE:
            return
        whole = helm_storage.parse(text)
    except Broken:
        return
    if _charts(whole):
        best[(namespace, facts.release)] = (*rank, {**whole, "namespace": namespace})


def _charts(release: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The values of each platform chart in a release: of the chart itself, or of a subchart under its name or alias."""
    values = helm_storage.computed_values(release)
    metadata = _map(_map(release.get("chart")).get("metadata"))
    found: dict[str, Mapping[str, Any]] = {name: values for name in CHARTS if metadata.get("name") == name}
    for part in metadata.get("dependencies") or ():
        name = str(_map(part).get("name", ""))
        if name in CHARTS:
            found[name] = _map(values.get(str(part.get("alias") or name)))
    return found


def _release(whole: Mapping[str, Any]) -> PlatformRelease:
    return PlatformRelease(
        helm_storage.facts(whole), _charts(whole), tuple(manifest.objects(str(whole.get("manifest") or "")))
    )


def _console(values: Mapping[str, Any], facts: Facts, place: str) -> dict[str, Value]:
    config = _map(values.get("config"))
    existing = config.get("existingSecret")
    kept = {key: value for key, value in config.items() if key not in {"existingSecret", "admin", "license"}}
    found: dict[str, Value] = {}
    for key, value in properties.flattened(kept, Origin("release", name=place, key="config"), _Unknown()):
        area, _dot, last = key.rpartition(".")
        if not (existing and last in _CREDENTIALS and area in {"database", "kafkasql.database"}):
            found[key] = value
    # With a Secret of one's own the chart reads none of these from the values.
    for area in ("database", "kafkasql.database") if existing else ():
        if any(key.startswith(f"{area}.") for key in found):
            for last in ("username", "password"):
                variable = f"CDK_{area.replace('.', '_')}_{last}".upper()
                found[f"{area}.{last}"] = Value(
                    None, Origin("secret", facts.namespace, str(existing), variable)
                )
    return found


def _cortex(values: Mapping[str, Any], facts: Facts, place: str) -> dict[str, Value]:
    monitoring = _map(values.get("monitoringConfig"))
    existing = monitoring.get("existingSecret")
    storage = {"monitoring": {"storage": _map(monitoring.get("storage"))}}
    found = dict(
        properties.flattened(storage, Origin("release", name=place, key="monitoringConfig"), _Unknown())
    )
    if existing and any(key.startswith("monitoring.storage.s3.") for key in found):
        for field, end in _S3_CREDENTIALS.items():
            variable = f"CDK_MONITORING_STORAGE_S3_{end}"
            found[properties.canonical(f"monitoring.storage.s3.{field}")] = Value(
                None, Origin("secret", facts.namespace, str(existing), variable)
            )
    return found


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def absent(
    releases: Sequence[PlatformRelease], live: Sequence[Workload], objects: ApiObjects
) -> list[Workload]:
    """The workloads that releases have in their manifests and that do not run, seen as they would run.

    Args:
        releases: as ``find`` gave them.
        live: what runs.
        objects: where ConfigMaps and Secrets are read.
    """
    there = {(one.role, one.namespace, one.name) for one in live}
    found = []
    for release in releases:
        for made in release.objects:
            if made.get("kind") != "Deployment":
                continue
            metadata = {"namespace": release.facts.namespace, **_map(made.get("metadata"))}
            one = platform.workload({**made, "metadata": metadata}, objects, live=False)
            if one is not None and (one.role, one.namespace, one.name) not in there:
                found.append(one)
    return found


def of_workload(workload: Workload, releases: Sequence[PlatformRelease]) -> PlatformRelease | None:
    """The release that a workload belongs to."""
    wanted = (workload.namespace, workload.release)
    return next((one for one in releases if (one.facts.namespace, one.facts.release) == wanted), None)
