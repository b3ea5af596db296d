"""The guest of a scratch namespace: Console's new version as one Pod beside the restored database, as the API takes it. Pure.

Its Pod has no label that opens more than the database's port, no service account, no resolver, and no other container: whatever it is
started with, that database is all that it can reach.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dr_toolkit.cluster import scratch_objects
from dr_toolkit.cluster.rehearsal_environment import Given
from dr_toolkit.cluster.rehearsal_shape import Shape
from dr_toolkit.cluster.scratch_objects import GUEST, PART

READY_PATH, READY_PORT = "/api/health/ready", 8080
_FILES = f"{GUEST}-files"
_NOBODY = "127.0.0.1"
"""The resolver: nobody listens there, so that a name is refused at once and not waited for."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is started.

    Attributes:
        image: of the new version.
        shape: Console as the chart renders it.
        given: variables and files.
        cpu: asked for.
        memory: asked for and at most.
        seconds: that it may run at most, whatever happens to us.
    """

    image: str
    shape: Shape
    given: Given = field(repr=False)
    cpu: str
    memory: str
    seconds: int


def objects(start: Start) -> list[tuple[str, dict[str, Any]]]:
    """What goes into the namespace, in this order: the collection's path below the namespace, and the object."""
    files = {
        key: texts[path] for volume, texts in start.given.files.items() for key, path in _keys(volume, texts)
    }
    return [
        ("api/v1/secrets", _secret(GUEST, start.given.environment)),
        ("api/v1/secrets", _secret(_FILES, files)),
        ("apis/batch/v1/jobs", _job(start)),
    ]


def probe(container: Mapping[str, Any]) -> dict[str, Any]:
    """The health endpoint: the chart's own readiness probe, over plain HTTP because the certificate stays where it is."""
    known = (container.get("readinessProbe") or {}).get("httpGet") or {}
    path = str(known.get("path") or READY_PATH)
    asked = {"path": path, "port": known.get("port") or READY_PORT, "scheme": "HTTP"}
    return {"httpGet": asked, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3}


def _secret(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "immutable": True, "data": data}


def _job(start: Start) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",  # a container that ends is the answer
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [_NOBODY]},
        "terminationGracePeriodSeconds": 5,
        "securityContext": _pod_security(start.shape.pod),
        "containers": [_container(start)],
        "volumes": [_volume(name, texts) for name, texts in start.given.files.items()],
    }
    labels = {PART: GUEST, "app.kubernetes.io/name": scratch_objects.NAME}
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": start.seconds,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": GUEST}, "spec": spec}


def _container(start: Start) -> dict[str, Any]:
    shape = start.shape.container
    made: dict[str, Any] = {
        "name": GUEST,
        "image": start.image,
        "envFrom": [{"secretRef": {"name": GUEST}}],
        "volumeMounts": [dict(mount) for mount in start.given.mounts],
        "readinessProbe": probe(shape),
        "resources": {
            "requests": {"cpu": start.cpu, "memory": start.memory},
            "limits": {"memory": start.memory},
        },
        "securityContext": _security(shape),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return made | {key: shape[key] for key in ("command", "args", "workingDir", "ports") if shape.get(key)}


def _volume(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    if not texts:
        return {"name": name, "emptyDir": {"sizeLimit": "1Gi"}}
    items = [{"key": key, "path": path} for key, path in _keys(name, texts)]
    return {"name": name, "secret": {"secretName": _FILES, "items": items, "defaultMode": 0o444}}


def _keys(volume: str, texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """A key for each path of a volume: a path may have signs that a key may not."""
    return [(f"{volume}.{number}", path) for number, path in enumerate(sorted(texts))]


def _pod_security(pod: Mapping[str, Any]) -> dict[str, Any]:
    own = pod.get("securityContext") or {}
    kept = {key: own[key] for key in ("runAsUser", "runAsGroup", "fsGroup") if key in own}
    return {**kept, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def _security(container: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's own numbers, at the restricted level."""
    own = container.get("securityContext") or {}
    kept = {key: own[key] for key in ("runAsUser", "runAsGroup", "readOnlyRootFilesystem") if key in own}
    return {
        **kept,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
