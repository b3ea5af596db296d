"""The live state of a namespace's releases: images with digests, replicas, ConfigMaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dr_toolkit.cluster import kinds, manifest, paths

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster

RELEASE = "meta.helm.sh/release-name"
"""The annotation by which Helm marks what it owns."""
_HASH = "pod-template-hash"


def read(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """What runs, and with which configuration.

    Raises:
        SourceError: a list is not allowed.
    """
    digests = _digests(cluster, namespace)
    found = [
        _workload(kind, one, digests)
        for kind, path in kinds.WORKLOADS
        for one in _all(cluster, path, namespace)
    ]
    config_maps = [_config_map(one) for one in _all(cluster, kinds.CONFIG_MAPS, namespace) if release_of(one)]
    return {"namespace": namespace, "workloads": found, "config_maps": config_maps}


def release_of(found: Mapping[str, Any]) -> str:
    """The release that owns an object; empty for none."""
    metadata = found.get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(RELEASE, ""))


def _all(cluster: Cluster, path: str, namespace: str) -> Iterator[dict[str, Any]]:
    """A small list: one that begins again is given once."""
    got: list[dict[str, Any]] = []
    query = {"labelSelector": "owner!=helm"} if path == kinds.CONFIG_MAPS else None
    for page in cluster.pages(
        paths.of(path, namespace), page_bytes=kinds.PAGE_BYTES, query=query, restarted=got.clear
    ):
        got += [one for one in page if path != kinds.CONFIG_MAPS or release_of(one)]
    yield from got


def _digests(cluster: Cluster, namespace: str) -> dict[tuple[str, str], set[str]]:
    """What really runs, by owner and container. Of each pod only this is kept."""
    found: dict[tuple[str, str], set[str]] = {}
    for page in cluster.pages(
        paths.of(kinds.PODS, namespace), page_bytes=kinds.PAGE_BYTES, restarted=found.clear
    ):
        for pod in page:
            owner = _owner(pod)
            for status in (pod.get("status") or {}).get("containerStatuses") or []:
                image = str(status.get("imageID") or "")
                if owner and image:
                    found.setdefault((owner, str(status.get("name"))), set()).add(image)
    return found


def _owner(pod: Mapping[str, Any]) -> str:
    """``Deployment/x`` and its like; a Deployment's pods belong to a ReplicaSet that is named after it."""
    metadata = pod.get("metadata") or {}
    owner = next((one for one in metadata.get("ownerReferences") or [] if one.get("controller")), None)
    if owner is None:
        return ""
    kind, name = str(owner.get("kind")), str(owner.get("name"))
    pod_hash = (metadata.get("labels") or {}).get(_HASH)
    if kind == "ReplicaSet" and pod_hash and name.endswith(f"-{pod_hash}"):
        return f"Deployment/{name.removesuffix(f'-{pod_hash}')}"
    return f"{kind}/{name}"


def _workload(
    kind: str, found: Mapping[str, Any], digests: Mapping[tuple[str, str], set[str]]
) -> dict[str, Any]:
    metadata, spec, status = found.get("metadata") or {}, found.get("spec") or {}, found.get("status") or {}
    name = str(metadata.get("name"))
    wanted = status.get("desiredNumberScheduled") if kind == "DaemonSet" else spec.get("replicas")
    ready = status.get("numberReady") if kind == "DaemonSet" else status.get("readyReplicas")
    return {
        "kind": kind,
        "name": name,
        "release": release_of(found),
        "replicas": wanted if isinstance(wanted, int) else 0,
        "ready": ready if isinstance(ready, int) else 0,
        "images": [
            {
                "container": container,
                "image": image,
                "running": sorted(digests.get((f"{kind}/{name}", container), ())),
            }
            for container, image in manifest.images(found).items()
        ],
    }


def _config_map(found: Mapping[str, Any]) -> dict[str, Any]:
    metadata = found.get("metadata") or {}
    return {
        "name": str(metadata.get("name")),
        "release": release_of(found),
        "labels": metadata.get("labels") or {},
        "data": found.get("data") or {},
        "binaryData": found.get("binaryData") or {},
    }
