"""Releases of the real Helm and real Secrets: backed up with exactly the documented rights, restored, compared, and damaged."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dr_toolkit import config
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.kinds import METADATA_ONLY
from dr_toolkit.errors import ProgramError
from dr_toolkit.jobs import helm_gate
from dr_toolkit.jobs.gate import Question
from tests.api_proxy import ApiProxy, status

ROOT = Path(__file__).parents[2]
CHARTS = Path(__file__).parent / "charts"
DRCTL = Path(sys.executable).with_name("drctl")
HOSTILE = "{{ .Values }} $(id) `id` \x1b[31mred"
"""A value that looks like a template and like a command, and that a terminal would obey."""
CONSOLE = {
    "config": {
        "organization": {"name": "acme"},
        "admin": {"email": "a@example.invalid", "password": "admin-password-1"},
        "database": {"url": "postgresql://conduktor:db-password-1@main:5432/conduktor"},
        "license": "license-1",
    },
    "notes": {"greeting": "kept-value-1", "template": HOSTILE},
}


def documented_rules():
    """The rules that docs/permissions.md gives to a backup."""
    text = (ROOT / "docs/permissions.md").read_text("utf-8").partition("## 6. Kubernetes")[2]
    return yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])["rules"]


class Site:
    """A configured drctl with both kinds, as a service account with the documented rights."""

    def __init__(self, root: Path, control_plane, namespaces, *, granted=None) -> None:
        self.root, self.config = root, root / "drctl.yaml"
        self.environment = dict(os.environ)
        first, *others = namespaces
        control_plane.make_service_account(first, "drctl", documented_rules())
        for other in others if granted is None else granted:
            control_plane.grant(first, "drctl", documented_rules(), on=other)
        self.token = control_plane.make_token(first, "drctl")
        self.kubeconfig = control_plane.write_kubeconfig(root / "kubeconfig", self.token)
        listed = ", ".join(namespaces)
        self.config.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  w: {{type: key-file, role: write, path: w.key}}
  r: {{type: key-file, role: read, path: r.key}}
cluster: {{kubeconfig: {self.kubeconfig}}}
components:
  releases: {{kind: helm, namespaces: [{listed}], drivers: [secrets, configmaps]}}
  secrets: {{kind: secrets, namespaces: [{listed}], include_values: [kept/KEY]}}
""")
        for key in ("w", "r"):
            assert self.run("keys", "generate-file", str(root / f"{key}.key")).returncode == 0
        assert self.run("init").returncode == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(DRCTL), "-c", str(self.config), *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self.environment,
            cwd=self.root,
        )

    def json(self, *arguments: str, code: int = 0):
        done = self.run(*arguments, "--output", "json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)


def rescue(site: Site, component: str) -> set[str]:
    """Extract a snapshot without drctl; the names of the files that come out."""
    to = site.root / f"rescued-{component}"
    words = [
        "extract",
        site.root / "repository",
        f"latest:{component}",
        "--key-file",
        site.root / "r.key",
        "--to",
        to,
    ]
    script = Path(__file__).parents[2] / "rescue" / "drctl_rescue.py"
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True, timeout=60)
    return {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}


def test_releases_and_secrets_with_exactly_the_documented_rights(control_plane, namespace, helm, tmp_path):
    """Installed, upgraded, failed, rolled back, left pending; backed up, proven, shown without secrets, restored, compared, diagnosed."""
    console = CHARTS / "console"
    helm.install("main", console, namespace, CONSOLE)
    helm.upgrade("main", console, namespace, CONSOLE | {"platform": {"replicas": 2}})
    with pytest.raises(ProgramError):
        helm.upgrade("main", console, namespace, CONSOLE, "--wait", "--timeout", "1s")
    helm.rollback("main", 2, namespace)
    helm.upgrade_killed("main", console, namespace, CONSOLE)
    helm.install(
        "edge", CHARTS / "conduktor-gateway", namespace, {"gateway": {"env": {"GATEWAY_CLUSTER_ID": "edge"}}}
    )
    base = f"/api/v1/namespaces/{namespace}/secrets"
    control_plane.create(
        base, {"metadata": {"name": "kept"}, "stringData": {"KEY": "kept-value-1", "OTHER": "not-kept-value"}}
    )
    control_plane.create(
        base,
        {
            "metadata": {
                "name": "sh.helm.release.v1.bad.v1",
                "labels": {"owner": "helm", "name": "bad", "version": "1", "status": "deployed"},
            },
            "type": "helm.sh/release.v1",
            "data": {"release": base64.b64encode(b"H4sI-broken").decode()},
        },
    )
    site = Site(tmp_path, control_plane, [namespace])

    taken = {one["component"]: one for one in site.json("backup")["snapshots"]}
    releases, secrets = taken["releases"]["id"], taken["secrets"]["id"]
    assert any('"bad" is broken' in warning for warning in taken["releases"]["warnings"])
    entries = site.json("show", releases)["entries"]
    states = {one["revision"]: one["status"] for one in entries if one.get("release") == "main"}
    assert states == {1: "superseded", 2: "superseded", 3: "failed", 4: "deployed", 5: "pending-upgrade"}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").symlink_to(helm.program)
    site.environment["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    proofs = {one["component"]: one for one in site.json("verify", "--restore")["results"]}
    assert {one["result"] for one in proofs.values()} == {"passed"}
    assert proofs["releases"]["checks"]["rendered"] == 2
    (check,) = helm_gate.facts(
        config.load(site.config),
        "releases",
        config.load(site.config).components["releases"],
        Question("main"),
    )
    assert (check.state, f"helm rollback main 4 --namespace {namespace}" in check.hint) == ("failed", True)

    shown = site.run("show", releases, f"{namespace}/main", "--output", "json").stdout
    for secret in ("admin-password-1", "db-password-1", "license-1", "kept-value-1"):
        assert secret not in shown
    seen = site.run("show", releases, f"{namespace}/main").stdout
    assert "\x1b" not in seen
    assert "{{ .Values }} $(id) `id`" in seen
    revealed = site.run("show", releases, f"{namespace}/main", "--reveal", "--output", "json")
    assert "admin-password-1" in revealed.stdout
    assert "shown as they are" in revealed.stderr
    whole = site.config.read_text()
    site.config.write_text(whole.replace("  r: {type: key-file, role: read, path: r.key}\n", ""))
    refused = site.run("show", releases, f"{namespace}/main", "--reveal")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "needs a recipient with the role read" in refused.stderr
    site.config.write_text(whole)
    values = yaml.safe_load(site.run("show", secrets, f"{namespace}/values/kept", "--reveal").stdout)
    assert values["data"] == {"KEY": base64.b64encode(b"kept-value-1").decode()}

    for component in ("releases", "secrets"):
        rescued = rescue(site, component)
        assert rescued == {entry["path"] for entry in site.json("show", taken[component]["id"])["entries"]}
    kept = (tmp_path / f"rescued-secrets/{namespace}/values/kept").read_bytes()
    assert base64.b64encode(b"kept-value-1") in kept or b"kept-value-1" in kept

    done = site.json("restore", "releases", "--to", str(tmp_path / "out"))
    main = next(one for one in done["restored"]["releases"] if one["release"] == "main")
    assert main["revision"] == 4
    assert yaml.safe_load(Path(main["directory"], "values.yaml").read_text()) == CONSOLE | {
        "platform": {"replicas": 2}
    }
    helm.run(
        "template",
        "main",
        str(Path(main["directory"]) / "chart"),
        "--values",
        str(Path(main["directory"]) / "values.yaml"),
    )
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert control_plane.get(deployment)["items"]

    control_plane.delete(f"{base}/kept")
    control_plane.create(base, {"metadata": {"name": "extra"}})
    found = site.json("restore", "secrets")["restored"]["differences"]
    assert {one["secret"]: one["change"] for one in found} == {"kept": "missing", "extra": "extra"}
    assert control_plane.get(base)["items"]
    differences = site.json("restore", "releases", "--diff")["restored"]["differences"]
    assert {one["release"] for one in differences if not one["same"]} <= {"main"}

    doctor = site.json("doctor", code=1)["findings"]
    stuck = [one for one in doctor if one["level"] == "failed"]
    assert [one["on"] for one in stuck] == [f"{namespace}/main"]
    assert f"helm rollback main 4 --namespace {namespace}" in stuck[0]["todo"]
    assert any("GATEWAY_USER_POOL_SECRET_KEY" in one["what"] for one in doctor if one["level"] == "warning")
    assert any("_conduktor_edge_encryption_keys" in one["what"] for one in doctor)


def test_a_forbidden_namespace_fails_alone_and_the_doctor_names_the_rule(
    control_plane, new_namespace, tmp_path
):
    """Code 1 and its name; the other namespace is kept. The rule is named as YAML."""
    good, closed = new_namespace(), new_namespace()
    control_plane.create(
        f"/api/v1/namespaces/{good}/secrets", {"metadata": {"name": "kept"}, "stringData": {"KEY": "v"}}
    )
    site = Site(tmp_path, control_plane, [good, closed])
    site.json("backup", "secrets")
    for kind in ("rolebindings", "roles"):
        for one in control_plane.get(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{closed}/{kind}")[
            "items"
        ]:
            control_plane.delete(
                f"/apis/rbac.authorization.k8s.io/v1/namespaces/{closed}/{kind}/{one['metadata']['name']}"
            )
    report = site.json("restore", "secrets", code=1)["restored"]
    assert [one["component"] for one in report["failures"]] == [closed]
    assert report["same"] > 0
    failures = site.json("backup", "secrets", code=1)["failures"]
    assert closed in failures[0]["message"]
    assert '- {apiGroups: [""], resources: ["secrets"], verbs: ["list"]}' in failures[0]["hint"]
    snapshot = site.json("snapshots")["snapshots"][-1]
    assert site.json("show", snapshot["id"])["source"]["namespaces"] == [good]
    missing = [
        one for one in site.json("doctor", code=1)["findings"] if one["rule"] and one["area"] == "cluster"
    ]
    assert {one["on"] for one in missing} == {closed}
    assert len({one["rule"] for one in missing}) == 6


def test_a_list_survives_a_restart_of_the_api_server_and_a_throttling_proxy(
    control_plane, namespace, tmp_path
):
    """Killed in the middle and started again at its port; 429 and 503 in front of it: nothing is lost and nothing comes twice."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for number in range(30):
        control_plane.create(path, {"metadata": {"name": f"s{number:02}"}})
    names = [f"s{number:02}" for number in range(30)]
    with Cluster(config.ClusterConfig(kubeconfig=str(control_plane.kubeconfig))) as cluster:
        got = []
        for page in cluster.pages(path, limit=10, accept=METADATA_ONLY, restarted=got.clear):
            got += [one["metadata"]["name"] for one in page]
            if len(got) == 10:
                control_plane.kill_api()
                control_plane.start_api()
        assert got == names
    token = control_plane.make_service_account(
        namespace, "reader", [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    )
    with ApiProxy(control_plane.url, control_plane.ca_file) as proxy:
        proxy.first(2, status(429, "TooManyRequests", headers={"Retry-After": "1"}), part="continue=")
        file = proxy.kubeconfig(tmp_path / "proxied", {"token": token})
        with Cluster(config.ClusterConfig(kubeconfig=str(file))) as cluster:
            assert [
                one["metadata"]["name"] for page in cluster.pages(path, limit=10) for one in page
            ] == names


def test_names_at_their_limits_and_a_token_that_ends_in_the_middle(control_plane, new_namespace, tmp_path):
    """The longest names, keys, labels and values that the API takes, hostile content in them; and 401 while pages are read."""
    namespace, other = new_namespace(), new_namespace()
    path = f"/api/v1/namespaces/{namespace}/secrets"
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    labels = {f"{'p' * 63}.example/{'n' * 63}": "v" * 63}
    control_plane.create(
        path,
        {"metadata": {"name": longest, "labels": labels}, "stringData": {"k" * 253: "{{ .Values }}\x1b[31m"}},
    )
    control_plane.create(
        path, {"metadata": {"name": "large"}, "data": {"k": base64.b64encode(os.urandom(900 << 10)).decode()}}
    )
    site = Site(tmp_path, control_plane, [namespace])
    snapshot = site.json("backup", "secrets")["snapshots"][0]
    shown = site.json("show", snapshot["id"], f"{namespace}/metadata")["content"]["secrets"]
    assert {one["name"]: sum(key["length"] for key in one["keys"].values()) for one in shown} == {
        longest: 18,
        "large": 900 << 10,
    }
    assert next(one for one in shown if one["name"] == longest)["labels"] == labels
    text = site.run("show", snapshot["id"], f"{namespace}/metadata").stdout
    assert "\x1b" not in text

    for number in range(30):
        control_plane.create(path, {"metadata": {"name": f"s{number:02}"}})
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    token = tmp_path / "token"
    token.write_text(control_plane.make_service_account(other, "first"))
    control_plane.grant(other, "first", rules, on=namespace)
    second = control_plane.make_service_account(other, "second")
    control_plane.grant(other, "second", rules, on=namespace)
    with ApiProxy(control_plane.url, control_plane.ca_file) as proxy:
        file = proxy.kubeconfig(tmp_path / "rotated", {"tokenFile": str(token)})
        with Cluster(config.ClusterConfig(kubeconfig=str(file))) as cluster:
            got = []
            for page in cluster.pages(path, limit=10, query={"fieldSelector": "type=Opaque"}):
                got += [one["metadata"]["name"] for one in page]
                if len(got) == 10:
                    control_plane.delete(f"/api/v1/namespaces/{other}/serviceaccounts/first")
                    token.write_text(second)
                    proxy.first(1, status(401, "Unauthorized"), part="continue=")
    assert sorted(got) == sorted([longest, "large", *(f"s{number:02}" for number in range(30))])


def test_releases_in_config_maps_and_only_the_deployed_revision(control_plane, namespace, helm, tmp_path):
    """The other driver, of Helm 3 and of Helm 4; and `revisions: deployed` keeps one revision of each release."""
    console = CHARTS / "console"
    helm.install("main", console, namespace, CONSOLE, driver="configmap")
    helm.upgrade("main", console, namespace, CONSOLE, driver="configmap")
    digest = running(control_plane, namespace, "main-console")
    site = Site(tmp_path, control_plane, [namespace])
    site.config.write_text(site.config.read_text().replace("drivers:", "revisions: deployed, drivers:"))
    snapshot = site.json("backup", "releases")["snapshots"][0]
    entries = [one for one in site.json("show", snapshot["id"])["entries"] if one["kind"] == "release"]
    assert [(one["storage"], one["revision"], one["status"]) for one in entries] == [
        ("configmaps", 2, "deployed")
    ]
    done = site.json("restore", "releases", "--to", str(tmp_path / "out"))["restored"]["releases"]
    assert done[0]["command"].startswith(
        "HELM_DRIVER=configmap helm upgrade --install main console --repo https://helm.conduktor.io"
    )
    kept = yaml.safe_load(Path(done[0]["directory"], "chart.yaml").read_text())
    assert {one["name"] for one in kept["workloads"]} >= {"main-console"}

    state = site.json("show", snapshot["id"], f"{namespace}/workloads", "--reveal")["content"]
    found = next(one for one in state["workloads"] if one["name"] == "main-console")
    assert (found["kind"], found["release"], found["replicas"]) == ("Deployment", "main", 1)
    assert digest in found["images"][0]["running"]
    assert {one["release"] for one in state["config_maps"]} == {"main"}
    objects = {(one["kind"], one["name"]) for one in state["releases"]["main"]["objects"]}
    assert ("Deployment", "main-console") in objects
    assert {"Service", "Secret", "ConfigMap"} <= {kind for kind, _name in objects}

    changed = CONSOLE | {"platform": {"replicas": 3, "image": {"tag": "9.9.9"}}}
    helm.upgrade("main", console, namespace, changed, driver="configmap")
    said = site.run("restore", "releases", "--diff").stdout
    for line in ('+    tag: "9.9.9"', "+  replicas: 3", ":9.9.9"):
        assert line in said, said
    for harmful in ("\x1b", "admin-password-1"):
        assert harmful not in said


def running(control_plane, namespace, deployment):
    """Say of a Deployment's Pod what a kubelet would: its image's digest, which comes back."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    there = control_plane.wait_for(
        pods, "a pod", lambda found: any(deployment in one["metadata"]["name"] for one in found["items"])
    )
    pod = next(one for one in there["items"] if deployment in one["metadata"]["name"])
    container = pod["spec"]["containers"][0]
    digest = f"{container['image'].rpartition(':')[0]}@sha256:{'ab' * 32}"
    said = {"name": container["name"], "image": container["image"], "imageID": digest}
    said |= {"ready": True, "restartCount": 0, "state": {"running": {}}}
    control_plane.request(
        "PATCH", f"{pods}/{pod['metadata']['name']}/status", {"status": {"containerStatuses": [said]}}
    )
    return digest
