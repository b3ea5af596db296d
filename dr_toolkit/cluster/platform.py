"""Finding a Conduktor Platform in a cluster: its workloads by the labels, containers and images of the two charts.

Source: Conduktor's public charts ``console`` and ``conduktor-gateway``: the component labels ``conduktor-platform`` and
``conduktor-platform-cortex``, the containers of the same names, the images ``conduktor/conduktor-console``, ``-cortex`` and ``-gateway``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dr_toolkit.cluster import faults, paths
from dr_toolkit.cluster import workloads as workloads_of
from dr_toolkit.cluster.environment import Container, texts_of_secret

Role = Literal["console", "cortex", "gateway"]

DEPLOYMENTS = "apis/apps/v1/deployments"
STATEFUL_SETS = "apis/apps/v1/statefulsets"
SECRETS = "api/v1/secrets"
CONFIG_MAPS = "api/v1/configmaps"

_COMPONENTS: Mapping[str, Role] = {"conduktor-platform": "console", "conduktor-platform-cortex": "cortex"}
_IMAGES: Mapping[str, Role] = {
    "conduktor-console": "console",
    "conduktor-platform": "console",
    "conduktor-console-cortex": "cortex",
    "conduktor-gateway": "gateway",
}


class Api(Protocol):
    """What of the cluster's client is used here."""

    def get(self, path: str) -> dict[str, Any]:
        """One object."""

    def pages(
        self,
        path: str,
        *,
        limit: int = 500,
        page_bytes: int | None = None,
        query: Mapping[str, str] | None = None,
        restarted: Callable[[], None] | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """A list, page by page."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload of the platform.

    Attributes:
        role: what it is.
        namespace: where it runs.
        name: of the Deployment.
        release: the Helm release that it belongs to, by Helm's annotation or the label ``app.kubernetes.io/instance``.
        container: its main container, seen from inside.
        live: whether it is there; else it is what a release's manifest says.
    """

    role: Role
    namespace: str
    name: str
    release: str
    container: Container
    live: bool = True


def role_of(deployment: Mapping[str, Any]) -> tuple[Role, Mapping[str, Any]] | None:
    """Tell whether a Deployment belongs to the platform, and which of its containers is the one.

    Args:
        deployment: as the API gives it.
    """
    containers: Sequence[Mapping[str, Any]] = _template(deployment).get("containers") or ()
    labels = deployment["metadata"].get("labels") or {}
    component = labels.get("app.kubernetes.io/component", "")
    for container in containers:
        by_name = _COMPONENTS.get(container.get("name", ""))
        by_image = _IMAGES.get(_repository(str(container.get("image", ""))))
        role = by_name or by_image
        if role is not None:
            return role, container
    if component in _COMPONENTS and containers:
        return _COMPONENTS[component], containers[0]
    if labels.get("app.kubernetes.io/name") == "conduktor-gateway" and containers:
        return "gateway", containers[0]
    return None


def workloads(api: Api, namespace: str, objects: ApiObjects) -> list[Workload]:
    """Find the platform's workloads.

    Args:
        api: the cluster.
        namespace: where to look; empty for everywhere.
        objects: where the contents of ConfigMaps and Secrets are read.
    """
    found: list[Workload] = []
    for page in api.pages(paths.of(DEPLOYMENTS, namespace), restarted=found.clear):
        found += [one for deployment in page if (one := workload(deployment, objects)) is not None]
    return sorted(found, key=lambda w: (w.role, w.namespace, w.name))


def workload(deployment: Mapping[str, Any], objects: ApiObjects, *, live: bool = True) -> Workload | None:
    """A Deployment as a part of the platform; None where it is none.

    Args:
        deployment: as the API gives it, or as a chart made it.
        objects: where the contents of ConfigMaps and Secrets are read.
        live: whether it is there.
    """
    known = role_of(deployment)
    if known is None:
        return None
    metadata = deployment["metadata"]
    inside = Container(metadata["namespace"], _template(deployment), known[1], objects)
    by_label = (metadata.get("labels") or {}).get("app.kubernetes.io/instance", metadata["name"])
    release = workloads_of.release_of(deployment) or by_label
    return Workload(known[0], metadata["namespace"], metadata["name"], release, inside, live)


def certificate_of_service(api: Api, namespace: str, name: str) -> tuple[str, str] | None:
    """Find the Secret whose certificate a database's server shows, by the StatefulSet of the Service's name.

    Args:
        api: the cluster.
        namespace: the Service's.
        name: the Service's.

    Returns:
        The Secret's name and the workload in words; None where it has none, or where we may not look.
    """
    try:
        server = api.get(paths.of(STATEFUL_SETS, namespace, name))
    except (faults.Forbidden, faults.NotFound):
        return None
    for volume in _template(server).get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName", "")
        if secret and ("crt" in f"{secret} {volume['name']}" or "cert" in f"{secret} {volume['name']}"):
            return secret, f"StatefulSet {namespace}/{name}"
    return None


def service_of(host: str, namespace: str) -> tuple[str, str] | None:
    """The namespace and name of the Service that a host name means, seen from ``namespace``; None for a name outside the cluster."""
    labels = host.rstrip(".").split(".")
    if len(labels) == 1 and labels[0]:
        return namespace, labels[0]
    if len(labels) in {2, 3} and (len(labels) == 2 or labels[2] == "svc"):  # noqa: PLR2004 - service.namespace
        return labels[1], labels[0]
    if labels[2:] == ["svc", "cluster", "local"]:
        return labels[1], labels[0]
    return None


class ApiObjects:
    """ConfigMaps and Secrets by way of the API, each read once. What we may not read is noted.

    Attributes:
        refused: what could not be read, in words.
        would_be: objects by kind, namespace and name as Helm's releases have them: read where the live ones cannot be.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._read: dict[tuple[str, str, str], Mapping[str, Any] | None] = {}
        self.refused: dict[str, str] = {}
        self.would_be: dict[tuple[str, str, str], Mapping[str, Any]] = {}

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The texts of a ConfigMap by key."""
        found = self.object(CONFIG_MAPS, namespace, name)
        return None if found is None else found.get("data") or {}

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The values of a Secret by key; what is no UTF-8 text is left out."""
        found = self.object(SECRETS, namespace, name)
        if found is None:
            return None
        plain = {str(key): str(value) for key, value in (found.get("stringData") or {}).items()}
        return texts_of_secret(found.get("data") or {}) | plain

    def object(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """An object; None where there is none, or where we may not read it."""
        key = (kind, namespace, name)
        if key not in self._read:
            try:
                self._read[key] = self._api.get(paths.of(kind, namespace, name))
            except (faults.NotFound, faults.Forbidden) as error:
                made = self._read[key] = self.would_be.get(key)
                why = (
                    f"we may not read it ({error.rule})"
                    if isinstance(error, faults.Forbidden)
                    else "it is not there"
                )
                self.refused[f"{_singular(kind)} {namespace}/{name}"] = why + (
                    "; what it held was read from its Helm release" if made is not None else ""
                )
        return self._read[key]


def _template(workload: Mapping[str, Any]) -> Mapping[str, Any]:
    template: Mapping[str, Any] = workload["spec"]["template"]["spec"]
    return template


def _repository(image: str) -> str:
    """The last part of an image's name, without registry, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _singular(kind: str) -> str:
    return "Secret" if kind == SECRETS else "ConfigMap"
