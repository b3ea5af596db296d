"""``drctl doctor`` against the real API server: what it says of scratch, quotas, clocks and rights is what the server does."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from devstack.kube_api import KubeError
from dr_toolkit import clock, config
from dr_toolkit.cluster import scratch_objects
from dr_toolkit.cluster.scratch_objects import Order
from dr_toolkit.jobs import doctor_scratch
from tests.api_proxy import ApiProxy

DRCTL = Path(sys.executable).with_name("drctl")
IMAGE = f"registry.example.com/drctl@sha256:{'1' * 64}"
SCRATCH = Path(__file__).parents[2] / "k8s-cronjobs/scratch-rights.yaml"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


class Doctor:
    """A configuration and an account; runs the doctor with them."""

    def __init__(self, root: Path, kubeconfig: Path, namespace: str) -> None:
        self.root, self.kubeconfig, self.namespace = root, kubeconfig, namespace
        self.verify: dict[str, object] = {}

    def findings(self, *, include: str = "") -> list[dict]:
        """What it finds about cluster and platform."""
        file = self.root / "drctl.yaml"
        scratch = {"verify": {"scratch": "namespace", "namespace": {"image": IMAGE, **self.verify}}}
        file.write_text(f"""
version: 1
repository: {{url: "file://{self.root}/repository"}}
keys: {{r: {{type: key-file, role: read, path: {self.root}/r.key}}}}
cluster: {{kubeconfig: {self.kubeconfig}}}
components:
  releases: {{kind: helm, namespaces: [{self.namespace}]}}
  secrets: {{kind: secrets, namespaces: [{self.namespace}], include_values: [{include}]}}
{yaml.safe_dump(scratch) if self.verify else ""}""")
        done = subprocess.run(
            [DRCTL, "-c", file, "doctor", "--output", "json"],
            env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)["findings"]
        return [one for one in found if one["area"] in {"cluster", "platform"}]

    def levels(self, words: str, **more: str) -> list[str]:
        """Of the findings that say this."""
        return [one["level"] for one in self.findings(**more) if words in one["what"]]


@pytest.fixture
def doctor(control_plane, namespace, tmp_path):
    """An account that may make scratch namespaces, look at storage classes, and list in one namespace."""
    rules = list(next(yaml.safe_load_all(SCRATCH.read_text("utf-8")))["rules"])
    rules.append({"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get"]})
    control_plane.make_service_account(namespace, "doctor", rules, cluster_wide=True)
    lists = [
        {"apiGroups": [""], "resources": ["secrets", "configmaps", "pods"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["list"]},
    ]  # fmt: skip
    control_plane.grant(namespace, "doctor", lists)
    token = control_plane.make_token(namespace, "doctor")
    return Doctor(tmp_path, control_plane.write_kubeconfig(tmp_path / "kubeconfig", token), namespace)


def test_a_scratch_namespace_is_tried_on_the_server(control_plane, doctor):
    """Version, clock, Pod Security and storage class are the server's own answers; nothing is made."""
    there, by_hand = (f"{kind}-{secrets.token_hex(3)}" for kind in ("there", "by-hand"))
    for name, provisioner in ((there, "example.com/fast"), (by_hand, "kubernetes.io/no-provisioner")):
        control_plane.create(CLASSES, {"metadata": {"name": name}, "provisioner": provisioner})
    doctor.verify = {"storage_class": there}
    found = doctor.findings()
    fine = [one["what"] for one in found if one["level"] == "ok"]
    for words in (
        f"is v{control_plane.release.kubernetes}",
        "the clock of the API server and this machine's agree",
        "Pod Security level restricted may be made",
        f'storage class "{there}" is there',
        "the quota of a scratch namespace fits its Pod",
        "RBAC gives all",
    ):
        assert any(words in what for what in fine), (words, found)
    doctor.verify = {"storage_class": by_hand}
    assert doctor.levels("makes no volumes") == ["warning"]
    doctor.verify = {"storage_class": "none-of-them", "quota": {"limits.memory": "512Mi"}}
    assert doctor.levels('there is no storage class "none-of-them"') == ["failed"]
    assert doctor.levels("limits.memory 512Mi, and 1Gi is needed") == ["failed"]
    labels = {scratch_objects.LABEL: "x", scratch_objects.EXPIRES: "1"}
    left = control_plane.make_namespace(labels=labels)
    assert doctor.levels(f"scratch namespaces of killed runs are left over: {left}") == ["warning"]
    made = control_plane.get("/api/v1/namespaces")["items"]
    assert not [one for one in made if one["metadata"]["name"].startswith("drctl-doctor-")]
    control_plane.delete(f"/api/v1/namespaces/{left}")


def test_who_may_not_make_namespaces_is_told_the_rule(control_plane, namespace, tmp_path):
    """RBAC's own answer, as YAML, by review and by trying."""
    token = control_plane.make_service_account(namespace, "poor")
    doctor = Doctor(tmp_path, control_plane.write_kubeconfig(tmp_path / "k", token), namespace)
    doctor.verify = {"memory": "1Gi"}
    found = doctor.findings()
    rule = '- {apiGroups: [""], resources: ["namespaces"], verbs: ["create"]}'
    assert [one["level"] for one in found if one["rule"] == rule] == ["failed", "failed"]
    assert any("quotas were not looked at" in one["what"] for one in found if one["level"] == "note")


def test_the_verdict_about_a_quota_is_the_servers(control_plane, new_namespace):
    """Each quota is put into a real namespace, and the scratch Pod is sent there: refused where the doctor says so, else made."""
    order = Order(
        id="x", owner="o", expires=clock.now() + timedelta(hours=1), image=IMAGE, arguments=("x",),
        environment={}, files={}, database_image=f"postgres@sha256:{'2' * 64}", memory="512Mi",
    )  # fmt: skip
    job = next(body for _path, body in scratch_objects.objects(order) if body["kind"] == "Job")
    pod = {"metadata": {"name": "p"}, "spec": job["spec"]["template"]["spec"]}
    for quota in (
        {"limits.memory": "1Gi", "requests.cpu": "2", "pods": "1"},
        {"memory": "1023Mi"},
        {"cpu": "1500m"},
        {"count/pods": "0"},
        {"limits.cpu": "8"},
        {"requests.ephemeral-storage": "1Ti"},
    ):
        place = new_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
        path = f"/api/v1/namespaces/{place}/resourcequotas"
        control_plane.create(path, {"metadata": {"name": "q"}, "spec": {"hard": quota}})
        control_plane.wait_for(f"{path}/q", "counted", lambda one: (one.get("status") or {}).get("hard"))
        wanted = config.ScratchNamespaceConfig(image=IMAGE, memory="512Mi", quota=quota)
        verdict = doctor_scratch.of_quota(wanted, containers=2).level
        assert (verdict == "ok") is _is_let_in(control_plane, place, pod), quota


def _is_let_in(control_plane, place, pod):
    try:
        control_plane.create(f"/api/v1/namespaces/{place}/pods", pod)
    except KubeError as error:
        return error.status != 403
    return True


def test_a_quota_that_is_used_up_and_a_clock_that_is_wrong(control_plane, doctor, tmp_path):
    """Where drctl's Jobs and Helm's hook run, a full quota is a warning; so is a clock ten minutes off."""
    path = f"/api/v1/namespaces/{doctor.namespace}/resourcequotas"
    control_plane.create(path, {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}})
    control_plane.wait_for(f"{path}/tight", "counted", lambda one: (one.get("status") or {}).get("hard"))
    assert doctor.levels('quota "tight"') == ["warning"]
    with ApiProxy(control_plane.url, control_plane.ca_file) as proxy:
        proxy.skew = 600
        token = control_plane.make_token(doctor.namespace, "doctor")
        doctor.kubeconfig = proxy.kubeconfig(tmp_path / "skewed", {"token": token})
        assert doctor.levels("clock of the API server") == ["warning"]


def test_values_without_which_a_platform_is_lost_are_asked_for(control_plane, doctor):
    """The script's truststore and the authority's root, in cert-manager's own namespace; not any more when they are kept."""
    control_plane.make_namespace("cert-manager")
    issued = {"cert-manager.io/certificate-name": "x"}
    for namespace, name, keys, notes in (
        (doctor.namespace, "bundle-truststore", ["truststore.jks"], {}),
        (doctor.namespace, "gateway-tls", ["tls.key", "tls.crt", "truststore.jks"], issued),
        ("cert-manager", "root-ca-secret", ["tls.key", "tls.crt"], issued),
    ):
        body = {"metadata": {"name": name, "annotations": notes}, "stringData": dict.fromkeys(keys, "x")}
        control_plane.create(f"/api/v1/namespaces/{namespace}/secrets", body)
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    assert doctor.levels('namespace "cert-manager" was not looked into') == ["note"]
    control_plane.grant(doctor.namespace, "doctor", rules, on="cert-manager")
    asked = [one["todo"] for one in doctor.findings() if "is in no backup" in one["what"]]
    assert sorted(todo.partition(": ")[2] for todo in asked) == [
        f"{{name: bundle-truststore, namespace: {doctor.namespace}, keys: [truststore.jks]}}",
        "{name: root-ca-secret, namespace: cert-manager}",
    ]
    assert not doctor.levels('"bundle-truststore" is in no backup', include="bundle-truststore")
    control_plane.delete("/api/v1/namespaces/cert-manager")
