"""The process kubelet runs Pods of the real API server as a node does, where later tests rest on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from devstack.kube import ControlPlane
from devstack.kube_api import KubeError
from devstack.kubelet import EVICT, Kubelet

SHELL = "example.invalid/shell:1"


class Pods:
    """Makes Pods in one namespace and looks at them."""

    def __init__(self, api: ControlPlane, namespace: str) -> None:
        self.api = api
        self.base = f"/api/v1/namespaces/{namespace}"
        self.namespace = namespace

    def run(
        self, name: str, script: str, *, container: dict | None = None, meta: dict | None = None, **spec: Any
    ) -> str:
        main = {"name": "main", "image": SHELL, "command": ["sh", "-c", script]} | (container or {})
        body = {"restartPolicy": "Never", "containers": [main]} | spec
        self.api.create(f"{self.base}/pods", {"metadata": {"name": name} | (meta or {}), "spec": body})
        return name

    def wait(self, name: str, what: str, done: Callable[[dict], object]) -> dict:
        return self.api.wait_for(f"{self.base}/pods/{name}", what, lambda pod: pod and done(pod["status"]))

    def ended(self, name: str) -> dict:
        return self.wait(name, "over", lambda status: status["phase"] in {"Succeeded", "Failed"})["status"]

    def log(self, name: str, query: str = "") -> str:
        return self.api.get(f"{self.base}/pods/{name}/log{query}") or ""


@pytest.fixture
def pods(control_plane: ControlPlane, kubelet: Kubelet, namespace: str) -> Pods:
    kubelet.add_image(SHELL, ["/bin/sh"], named={"sh": ["/bin/sh"]})
    return Pods(control_plane, namespace)


def code(status: dict) -> int:
    return status["containerStatuses"][0]["state"]["terminated"]["exitCode"]


def waiting(status: dict) -> str:
    found = (status.get("containerStatuses") or [{}])[0].get("state", {}).get("waiting", {})
    return found.get("reason", "")


def test_what_a_container_is_given(pods: Pods) -> None:
    """Variables of every origin, files of ConfigMap and Secret at their mount paths, an own directory, and its output as log."""
    api, base = pods.api, pods.base
    api.create(
        f"{base}/configmaps",
        {"metadata": {"name": "c"}, "data": {"A": "from-map", "app.conf": "dir=/var/data\n"}},
    )
    api.create(
        f"{base}/secrets", {"metadata": {"name": "s"}, "stringData": {"B": "from-secret", "file": "kept"}}
    )
    container = {
        "args": ["$(NAME)"],
        "workingDir": "/var/data",
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['k']"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "B"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "x", "optional": True}}},
            {"name": "BOTH", "value": "$(KEY)-$(NAME)"},
        ],
        "volumeMounts": [
            {"name": "c", "mountPath": "/etc/app"},
            {"name": "s", "mountPath": "/etc/one", "subPath": "file"},
            {"name": "d", "mountPath": "/var/data"},
        ],
    }
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "d", "emptyDir": {}},
    ]
    script = 'echo $A $B $KEY $LABEL ${NONE:-unset} $BOTH $0; cat /etc/one; . /etc/app/app.conf; [ "$dir" = "$(pwd)" ] && echo same'
    pods.run("given", script, container=container, volumes=volumes, meta={"labels": {"k": "v"}})

    assert code(pods.ended("given")) == 0
    assert pods.log("given") == "from-map from-secret from-secret v unset from-secret-given given\nkeptsame\n"


def test_service_account_token_reaches_the_api(pods: Pods) -> None:
    """A Pod is its service account: with the projected token, and with no more rights than that has."""
    pods.api.make_service_account(
        pods.namespace, "reader", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    )
    kubectl = pods.api.kubectl
    pods.run("who", f"{kubectl} get configmaps -o name && {kubectl} get pods", serviceAccountName="reader")

    assert code(pods.ended("who")) == 1
    said = pods.log("who")
    assert said.startswith("configmap/kube-root-ca.crt\n")
    assert f'"system:serviceaccount:{pods.namespace}:reader" cannot list resource "pods"' in said


def test_containers_run_in_order(pods: Pods) -> None:
    """Init containers one after the other, a sidecar until the end, and main containers only after what they need."""
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/d"}], "image": SHELL}
    sidecar = {
        "name": "side",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "sleep 0.3; touch /d/up; trap 'exit 0' TERM; while :; do sleep 0.05; done"],
        "startupProbe": {"exec": {"command": ["sh", "-c", "test -e /d/up"]}, "periodSeconds": 1},
    }
    first = {"name": "first", "command": ["sh", "-c", "echo 1 > /d/order"]}
    pods.run(
        "order",
        "test -e /d/up && echo 2 >> /d/order && cat /d/order",
        container=mount,
        initContainers=[first | mount, sidecar | mount],
        volumes=[{"name": "d", "emptyDir": {}}],
    )
    pods.run(
        "stopped",
        "echo never",
        initContainers=[{"name": "bad", "image": SHELL, "command": ["sh", "-c", "exit 4"]}],
    )

    assert pods.ended("order")["phase"] == "Succeeded"
    assert pods.log("order") == "1\n2\n"
    stopped = pods.ended("stopped")
    assert (stopped["phase"], stopped["initContainerStatuses"][0]["state"]["terminated"]["exitCode"]) == (
        "Failed",
        4,
    )


def test_endings(pods: Pods) -> None:
    """Exit codes and signals are reported, and a container is run again as its policy says."""
    pods.run("seven", "echo out; exit 7")
    pods.run("killed", "kill -9 $$$$")
    pods.run("no-program", "", container={"command": ["/no/such/program"]})
    pods.run("slow", "sleep 60", activeDeadlineSeconds=1)
    again = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    pods.run(
        "again",
        "test -e /d/x && exit 0; touch /d/x; echo first; exit 1",
        container=again,
        restartPolicy="OnFailure",
        volumes=[{"name": "d", "emptyDir": {}}],
    )

    assert code(pods.ended("seven")) == 7
    assert code(pods.ended("killed")) == 137
    assert code(pods.ended("no-program")) == 128
    slow = pods.ended("slow")
    assert (slow["phase"], slow["reason"]) == ("Failed", "DeadlineExceeded")
    status = pods.ended("again")
    assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Succeeded", 1)
    assert pods.log("again", "?previous=true") == "first\n"


def test_what_cannot_run_says_why(pods: Pods) -> None:
    """An image that cannot be pulled, a Secret that is missing, a claim without a volume, memory that no node has."""
    pods.run("image", "", container={"image": "example.invalid/none:1"})
    pods.run("secret", "", container={"envFrom": [{"secretRef": {"name": "none"}}]})
    pods.run("memory", "", container={"resources": {"requests": {"memory": "9000Gi"}}})
    for name, storage in (("claim-none", "no-such-class"), ("claim-some", "standard")):
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        pods.api.create(f"{pods.base}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec})
        volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]
        mounts = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}
        pods.run(name, "touch /d/x", container=mounts, volumes=volumes)

    pods.wait("image", "backing off", lambda status: waiting(status) == "ImagePullBackOff")
    pods.wait("secret", "waiting", lambda status: waiting(status) == "CreateContainerConfigError")
    for name, part in (
        ("memory", "Insufficient memory"),
        ("claim-none", "unbound immediate PersistentVolumeClaims"),
    ):
        pod = pods.wait(name, "unschedulable", lambda status: status.get("conditions"))
        assert part in pod["status"]["conditions"][0]["message"]
    assert code(pods.ended("claim-some")) == 0


def test_deleted_and_evicted(pods: Pods) -> None:
    """A deleted Pod gets SIGTERM and its grace, then SIGKILL; an evicted one fails with the reason."""
    pods.run("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    pods.run("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done", terminationGracePeriodSeconds=1)
    pods.run("evicted", "echo up; sleep 60")
    for name in ("polite", "deaf", "evicted"):
        pods.wait(name, "running", lambda status: status["phase"] == "Running")
    pods.api.request(
        "PATCH", f"{pods.base}/pods/evicted", {"metadata": {"annotations": {EVICT: "low on disk"}}}
    )
    status = pods.ended("evicted")
    pods.api.delete(f"{pods.base}/pods/polite")
    pods.api.delete(f"{pods.base}/pods/deaf")

    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "low on disk")
    assert "DisruptionTarget" in {condition["type"] for condition in status["conditions"]}
    for name in ("polite", "deaf"):
        pods.api.wait_for(f"{pods.base}/pods/{name}", "gone", lambda pod: pod is None)
    with pytest.raises(KubeError):
        pods.log("polite")


def test_probes_and_own_addresses(pods: Pods) -> None:
    """Two Pods listen on the same port, each on its own address; a Pod is ready when its probe says so, and another reaches it."""
    serve = f"exec {sys.executable} -m http.server 8099 --bind $DEVSTACK_POD_IP"
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    port = {"readinessProbe": probe, "ports": [{"name": "web", "containerPort": 8099}]}
    pods.run("one", serve, container=port)
    pods.run("two", serve, container=port | {"readinessProbe": {"tcpSocket": {"port": 8099}}})
    pods.run("never", "sleep 60", container={"readinessProbe": {"exec": {"command": ["sh", "-c", "exit 1"]}}})

    def ready(status: dict) -> bool:
        return ("Ready", "True") in {(c["type"], c["status"]) for c in status.get("conditions", [])}

    addresses = {pods.wait(name, "ready", ready)["status"]["podIP"] for name in ("one", "two")}
    assert len(addresses) == 2
    assert not ready(pods.wait("never", "running", lambda status: status["phase"] == "Running")["status"])


def test_job_ends_by_its_policies(pods: Pods) -> None:
    """The real Job controller over real processes: tried again, failed at once by an exit code, or ended by its deadline."""

    def job(name: str, script: str, **spec: Any) -> str:
        container = {"name": "main", "image": SHELL, "command": ["sh", "-c", script]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        path = f"/apis/batch/v1/namespaces/{pods.namespace}/jobs"
        pods.api.create(path, {"metadata": {"name": name}, "spec": {"template": template} | spec})
        return f"{path}/{name}"

    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}
    wanted = {
        job("good", "exit 0"): "SuccessCriteriaMet",
        job("no", "exit 3", podFailurePolicy={"rules": [rule]}): "PodFailurePolicy",
        job("late", "sleep 60", activeDeadlineSeconds=1): "DeadlineExceeded",
    }
    for path, reason in wanted.items():
        done = pods.api.wait_for(path, "over", _final)
        assert reason in {condition["type"] for condition in done["status"]["conditions"]} | {
            _final(done)["reason"]
        }


def _final(job: dict) -> dict | None:
    found = [
        c
        for c in job["status"].get("conditions", [])
        if c["type"] in {"Complete", "Failed"} and c["status"] == "True"
    ]
    return ({"reason": ""} | found[0]) if found else None
