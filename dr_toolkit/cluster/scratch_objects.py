"""The objects of a scratch namespace, as the API takes them. Pure.

One Pod does the work: drctl, and for a dump PostgreSQL beside it as a native sidecar. They meet on a Unix socket in a volume of their own,
so nothing in the namespace listens on the network, and no policy has to let anything in.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dr_toolkit import clock
from dr_toolkit.cluster import quantities

LABEL = "drctl/scratch"
OWNER = "drctl/owner"
EXPIRES = "drctl/expires"
PREFIX = "drctl-scratch-"
NAME = "drctl"
"""Of every object in the namespace, of the container that runs drctl, too."""
DATABASE = "postgres"
"""Of the container that runs PostgreSQL."""
SECRET_DIRECTORY = "/etc/drctl"  # noqa: S105 - a place
SOCKET_DIRECTORY = "/run/drctl"
DATA_DIRECTORY = "/scratch"
TEMPORARY_DIRECTORY = "/tmp"  # noqa: S108 - the containers' own
SUPERUSER = "drctl_scratch"
PASSWORD = "DRCTL_SCRATCH_PASSWORD"  # noqa: S105 - a variable's name
LISTEN = "DRCTL_SCRATCH_LISTEN"
"""The Pod's address, where a guest must reach the database."""
PART = "drctl/part"
GUEST = "rehearsal"
"""The part's label, and the name of all that belongs to the guest: the application that is tried on the restored database."""
DATABASE_PORT = 5432
_START = f"""umask 077
cd {DATA_DIRECTORY}
if [ ! -e {DATA_DIRECTORY}/data/PG_VERSION ]; then
  printf '%s\\n' "${PASSWORD}" > {DATA_DIRECTORY}/password
  initdb -D {DATA_DIRECTORY}/data -U {SUPERUSER} --pwfile={DATA_DIRECTORY}/password --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync
  rm {DATA_DIRECTORY}/password
  if [ -n "${{{LISTEN}:-}}" ]; then echo 'host all all all scram-sha-256' >> {DATA_DIRECTORY}/data/pg_hba.conf; fi
fi
unset {PASSWORD}
exec postgres -D {DATA_DIRECTORY}/data -k {SOCKET_DIRECTORY} "$@"
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """Room for an application that is tried on the restored database.

    Attributes:
        cpu: asked for its container.
        memory: of its container.
    """

    cpu: str
    memory: str


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be proved, and with what.

    Attributes:
        id: of this run; part of the namespace's name.
        owner: who asked, for people.
        expires: when the namespace counts as left over.
        image: drctl's.
        arguments: of drctl.
        environment: with the secrets that the configuration refers to.
        files: below `SECRET_DIRECTORY`, the configuration among them.
        database_image: PostgreSQL's; None where none is needed.
        database_settings: lines of its configuration.
        user: number of drctl's user.
        database_user: number of PostgreSQL's user.
        size: bytes of room for what is restored.
        storage_class: of a claim; None for a directory on the node.
        cpu: asked for each container.
        memory: of each container.
        quota: hard limits of the namespace; empty for what is needed.
        timeout: seconds that the work may take.
        ports: where drctl must reach: the repository's, the key service's.
        guest: an application is tried on the restored database; None where none is.
    """

    id: str
    owner: str
    expires: datetime
    image: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    files: Mapping[str, str] = field(repr=False)
    database_image: str | None = None
    database_settings: Mapping[str, str] = field(default_factory=dict)
    user: int = 10001
    database_user: int = 999
    size: int = 1 << 30
    storage_class: str | None = None
    cpu: str = "1"
    memory: str = "1Gi"
    quota: Mapping[str, str] = field(default_factory=dict)
    timeout: int = 7200
    ports: tuple[int, ...] = ()
    guest: Guest | None = None

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return f"{PREFIX}{self.id}"


def namespace(order: Order) -> dict[str, Any]:
    """The namespace: restricted, and marked with whom it belongs to and when it is left over."""
    labels = {
        LABEL: order.id,
        OWNER: label_value(order.owner),
        EXPIRES: str(int(order.expires.timestamp())),
        "app.kubernetes.io/managed-by": NAME,
    }
    labels |= {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    notes = {OWNER: order.owner, EXPIRES: clock.rfc3339(order.expires)}
    return _object("v1", "Namespace", order.namespace, labels=labels, annotations=notes)


def objects(order: Order) -> list[tuple[str, dict[str, Any]]]:
    """What goes into the namespace, in this order: the collection's path below the namespace, and the object. The Job is last."""
    made = [
        ("api/v1/resourcequotas", _quota(order)),
        ("api/v1/limitranges", _limits(order)),
        ("apis/networking.k8s.io/v1/networkpolicies", _closed()),
        ("apis/networking.k8s.io/v1/networkpolicies", _open(order)),
        ("api/v1/secrets", _secret(order)),
    ]
    if order.guest is not None:
        policies = "apis/networking.k8s.io/v1/networkpolicies"
        made += [(policies, _let_guest_in(order)), (policies, _guest_out(order))]
    if order.storage_class is not None:
        made.append(("api/v1/persistentvolumeclaims", _claim(order)))
    return [*made, ("apis/batch/v1/jobs", _job(order))]


def label_value(text: str) -> str:
    """A text as a label's value may be: letters, digits, and some signs within; at most 63."""
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in text)
    return kept[:63].strip("-_.") or "unknown"


def _object(version: str, kind: str, name: str = NAME, **metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}}


def _containers(order: Order) -> int:
    return 1 if order.database_image is None else 2


def _quota(order: Order) -> dict[str, Any]:
    needed = demand(order.memory, order.cpu, _containers(order), str(order.size), order.guest)
    hard = dict(order.quota) or {
        name: needed[name]
        for name in (
            "pods",
            "requests.memory",
            "limits.memory",
            "requests.cpu",
            "requests.storage",
            "persistentvolumeclaims",
        )
    } | {"services": "0"}
    return _object("v1", "ResourceQuota") | {"spec": {"hard": hard}}


def demand(memory: str, cpu: str, containers: int, size: str, guest: Guest | None = None) -> dict[str, str]:
    """What a scratch namespace takes of a quota, by the quota's names.

    Args:
        memory: of each container.
        cpu: of each container.
        containers: how many there are.
        size: of its volume; 0 for none.
        guest: that is tried on what was restored; None for none.
    """
    more = [guest] if guest else []
    memories = quantities.total(*[memory] * containers, *(one.memory for one in more))
    cpus = quantities.total(*[cpu] * containers, *(one.cpu for one in more))
    volumes = "1" if size != "0" else "0"
    return {
        "pods": str(1 + len(more)),
        "requests.memory": memories,
        "limits.memory": memories,
        "requests.cpu": cpus,
        "requests.storage": size,
        "persistentvolumeclaims": volumes,
        "secrets": str(1 + 2 * len(more)),
        "count/jobs.batch": str(1 + len(more)),
    }


def _limits(order: Order) -> dict[str, Any]:
    given = {"memory": order.memory}
    most = {"memory": quantities.largest(order.memory, order.guest.memory)} if order.guest else given
    container = {"type": "Container", "default": given, "defaultRequest": given, "max": most}
    return _object("v1", "LimitRange") | {"spec": {"limits": [container]}}


def _closed() -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}
    return _object("networking.k8s.io/v1", "NetworkPolicy", "default-deny") | {"spec": spec}


def _open(order: Order) -> dict[str, Any]:
    """Out only: names, and the ports of the repository and of the key service."""
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    egress = [{"ports": names}]
    if order.ports:
        egress.append({"ports": [{"port": port, "protocol": "TCP"} for port in sorted(set(order.ports))]})
    spec = {"podSelector": {"matchLabels": {LABEL: order.id}}, "policyTypes": ["Egress"], "egress": egress}
    return _object("networking.k8s.io/v1", "NetworkPolicy") | {"spec": spec}


def _let_guest_in(order: Order) -> dict[str, Any]:
    """To the database, from the guest alone."""
    guest = {"podSelector": {"matchLabels": {PART: GUEST}}}
    rule = {"from": [guest], "ports": [{"port": DATABASE_PORT, "protocol": "TCP"}]}
    spec = {"podSelector": {"matchLabels": {LABEL: order.id}}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", DATABASE) | {"spec": spec}


def _guest_out(order: Order) -> dict[str, Any]:
    """From the guest to the database and nowhere else: it is reached by address, so not even names are asked for."""
    database = {"podSelector": {"matchLabels": {LABEL: order.id}}}
    rule = {"to": [database], "ports": [{"port": DATABASE_PORT, "protocol": "TCP"}]}
    spec = {"podSelector": {"matchLabels": {PART: GUEST}}, "policyTypes": ["Egress"], "egress": [rule]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", GUEST) | {"spec": spec}


def _secret(order: Order) -> dict[str, Any]:
    data = {f"file.{name}": text for name, text in order.files.items()}
    data |= {f"env.{name}": text for name, text in order.environment.items()}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return _object("v1", "Secret") | {"immutable": True, "data": encoded}


def _claim(order: Order) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": order.storage_class,
        "resources": {"requests": {"storage": str(order.size)}},
    }
    return _object("v1", "PersistentVolumeClaim") | {"spec": spec}


def _job(order: Order) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": order.database_user if order.database_image else order.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_drctl(order)],
        "volumes": _volumes(order),
    }
    if order.database_image is not None:
        pod["initContainers"] = [_database(order)]
    template = {"metadata": {"labels": {LABEL: order.id, "app.kubernetes.io/name": NAME}}, "spec": pod}
    # One try: what fails is told, and a second one would only hide it.
    spec = {"backoffLimit": 0, "activeDeadlineSeconds": order.timeout, "template": template}
    return _object("batch/v1", "Job") | {"spec": spec}


def _drctl(order: Order) -> dict[str, Any]:
    names = sorted(order.environment)
    temporary = _mount("tmp" if order.database_image else "data", TEMPORARY_DIRECTORY)
    mounts = [_mount("secret", SECRET_DIRECTORY, read_only=True), temporary]
    if order.database_image:
        mounts.append(_mount("socket", SOCKET_DIRECTORY))
    return {
        "name": NAME,
        "image": order.image,
        "args": list(order.arguments),
        "env": [
            {"name": "DRCTL_CONFIG", "value": f"{SECRET_DIRECTORY}/drctl.yaml"},
            {"name": "DRCTL_SCRATCH_ID", "value": order.id},
            {"name": "DRCTL_SCRATCH_SOCKET", "value": SOCKET_DIRECTORY},
            *(_from_secret(name) for name in names),
        ],
        "volumeMounts": mounts,
        **_bounds(order, order.user),
    }


def _database(order: Order) -> dict[str, Any]:
    wanted = dict(order.database_settings)
    if order.guest is not None:
        wanted["listen_addresses"] = f"$({LISTEN})"
    settings = [word for name, value in wanted.items() for word in ("-c", f"{name}={value}")]
    return {
        "name": DATABASE,
        "image": order.database_image,
        "restartPolicy": "Always",
        "command": ["/bin/sh", "-ec", _START, DATABASE],
        "args": settings,
        "env": [_from_secret(PASSWORD), {"name": "LC_ALL", "value": "C"}, *_address(order)],
        "startupProbe": {
            "exec": {"command": ["pg_isready", "-q", "-h", SOCKET_DIRECTORY]},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        "volumeMounts": [
            _mount("data", DATA_DIRECTORY),
            _mount("socket", SOCKET_DIRECTORY),
            _mount("database-tmp", TEMPORARY_DIRECTORY),
        ],
        **_bounds(order, order.database_user),
    }


def _address(order: Order) -> list[dict[str, Any]]:
    if order.guest is None:
        return []
    return [{"name": LISTEN, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]


def _bounds(order: Order, user: int) -> dict[str, Any]:
    return {
        "resources": {
            "requests": {"cpu": order.cpu, "memory": order.memory},
            "limits": {"memory": order.memory},
        },
        "securityContext": {
            "runAsUser": user,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _volumes(order: Order) -> list[dict[str, Any]]:
    items = [{"key": f"file.{name}", "path": name} for name in sorted(order.files)]
    if order.storage_class is not None:
        data: dict[str, Any] = {"persistentVolumeClaim": {"claimName": NAME}}
    else:
        data = {"emptyDir": {"sizeLimit": str(order.size)}}
    volumes = [
        {"name": "secret", "secret": {"secretName": NAME, "items": items, "defaultMode": 0o440}},
        {"name": "data", **data},
    ]
    if order.database_image is not None:
        small = {"emptyDir": {"sizeLimit": "512Mi"}}
        volumes += [{"name": name, **small} for name in ("socket", "tmp", "database-tmp")]
    return volumes


def _mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": name, "mountPath": path}
    return mount | {"readOnly": True} if read_only else mount


def _from_secret(name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": NAME, "key": f"env.{name}"}}}


def names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of objects."""
    return [str(item["metadata"]["name"]) for item in items]
