"""``verify --restore --in namespace`` and ``scratch gc`` on the real API server, with just the rights that k8s-cronjobs/ gives."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from devstack import programs
from devstack.kube import ControlPlane
from devstack.kubelet import EVICT, Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from tests.kube.platform_site import DRCTL, PlatformSite, add_drctl

ROOT = Path(__file__).parents[2]
IMAGE = f"registry.example.com/drctl@sha256:{'1' * 64}"
DATABASE = f"postgres@sha256:{'2' * 64}"
SELECTOR = "/api/v1/namespaces?labelSelector=drctl%2Fscratch"


class ScratchSite:
    """A site whose repository is in a bucket, and an operator who has only the rights for scratch namespaces."""

    def __init__(
        self, site: PlatformSite, api: ControlPlane, kubeconfig: Path, s3: S3Server, bucket: str
    ) -> None:
        self.site, self.api, self.kubeconfig, self.s3, self.bucket = site, api, kubeconfig, s3, bucket
        self.namespace: dict = {
            "image": IMAGE,
            "postgres": {"18": DATABASE},
            "memory": "512Mi",
            "start_timeout": "30s",
            "timeout": "2m",
        }

    def configure(self, **changes: object) -> Path:
        wanted = {key: value for key, value in (self.namespace | changes).items() if value is not None}
        sections = {"cluster": {"kubeconfig": str(self.kubeconfig)}, "verify": {"namespace": wanted}}
        self.site.more = yaml.safe_dump(sections)
        self.site.config.write_text(self.site.configuration())
        return self.site.config

    def start(self, config: Path | None = None) -> subprocess.Popen[str]:
        arguments = ["verify", "console-db", "--restore", "--in", "namespace", "--output", "json", "-v"]
        return subprocess.Popen(
            [DRCTL, "-c", config or self.site.config, *arguments],
            env=os.environ | self.site.secret, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str], code: int) -> dict:
        out, said = process.communicate(timeout=120)
        assert process.returncode == code, out + said
        return json.loads(out)

    def scratch(self) -> list[dict]:
        return [one for one in self.api.get(SELECTOR)["items"] if "deletionTimestamp" not in one["metadata"]]

    def one_scratch(self) -> dict:
        self.api.wait_for(SELECTOR, "holding a scratch namespace", lambda _: self.scratch())
        return self.scratch()[0]

    def pod(self, namespace: str, done: Callable[[dict], object]) -> dict:
        path = f"/api/v1/namespaces/{namespace}/pods"
        return self.api.wait_for(
            path, "holding the Pod", lambda found: found["items"] and done(found["items"][0])
        )["items"][0]

    def evidence(self) -> list[dict]:
        return [one for snapshot in self.site.snapshots() for one in snapshot["evidence"]]


@pytest.fixture(scope="module")
def whole(
    control_plane: ControlPlane,
    kubelet: Kubelet,
    postgres: PostgresServer,
    s3_server: S3Server,
    servers_root: Path,
) -> Iterator[ScratchSite]:
    name = f"scratch-{secrets.token_hex(4)}"
    database, bucket = name.replace("-", "_"), name
    postgres.create_database(database)
    s3_server.create_bucket(bucket)
    rules = next(yaml.safe_load_all((ROOT / "k8s-cronjobs/scratch-rights.yaml").read_text()))["rules"]
    place = control_plane.make_namespace()
    token = control_plane.make_service_account(place, "operator", rules, cluster_wide=True)
    root = servers_root / name
    keys = 'access_key_id: "env:S3_KEY", secret_access_key: "env:S3_SECRET"'
    section = f'{{url: "s3://{bucket}/repository", s3: {{endpoint: "{s3_server.endpoint}", {keys}}}}}'
    site = PlatformSite(root, postgres, database, repository=section)
    site.secret |= {"S3_KEY": s3_server.access_key, "S3_SECRET": s3_server.secret_key}
    site.run("init")
    site.run("backup")
    kubeconfig = control_plane.write_kubeconfig(root / "kubeconfig", token)
    add_drctl(kubelet, IMAGE)
    path = f"{postgres._server_programs}:/usr/bin:/bin"
    isready = [str(postgres._server_programs / "pg_isready")]
    kubelet.add_image(
        DATABASE, named={"pg_isready": isready}, environment={"PATH": path}, user=programs.unprivileged_user()
    )
    found = ScratchSite(site, control_plane, kubeconfig, s3_server, bucket)
    found.configure()
    yield found
    postgres.drop_database(database)


@pytest.fixture
def scratch_site(whole: ScratchSite) -> Iterator[ScratchSite]:
    """As configured at first; nothing is left over after the test."""
    whole.configure()
    yield whole
    for one in whole.scratch():
        whole.api.delete(f"/api/v1/namespaces/{one['metadata']['name']}")


def test_proved_there_and_deleted(scratch_site: ScratchSite) -> None:
    """The namespace is closed, bounded and marked; the Job proves the snapshot and signs; then all of it is gone."""
    process = scratch_site.start()
    made = scratch_site.one_scratch()
    name, labels = made["metadata"]["name"], made["metadata"]["labels"]
    pod = scratch_site.pod(name, lambda found: found["status"].get("containerStatuses"))
    api, base = scratch_site.api, f"/api/v1/namespaces/{name}"
    quota = api.get(f"{base}/resourcequotas")["items"][0]["spec"]["hard"]
    limits = api.get(f"{base}/limitranges")["items"]
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in api.get(f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies")["items"]
    }
    answer = scratch_site.finish(process, 0)
    api.wait_for(base, "gone", lambda found: found is None)

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert int(labels["drctl/expires"]) > 0
    assert labels["drctl/owner"]
    assert (quota["pods"], quota["limits.memory"]) == ("1", "1Gi")
    assert limits
    assert policies["default-deny"]["podSelector"] == {}
    assert policies["default-deny"]["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["port"] for rule in policies["drctl"]["egress"] for port in rule["ports"]}
    assert ports == {53, scratch_site.s3.port}
    secret = scratch_site.site.secret["CONSOLE_DB_PASSWORD"]
    assert secret not in json.dumps(pod)
    [result] = answer["results"]
    assert result["result"] == "passed"
    assert result["checks"]["scratch"] == labels["drctl/scratch"]
    assert [one["level"] for one in scratch_site.evidence()] == ["restore"]


def test_two_at_once_do_not_meet(scratch_site: ScratchSite) -> None:
    """Each has a namespace of its own, here on claims of a storage class, and both prove it."""
    scratch_site.configure(storage_class="standard", size="2Gi")
    both = [scratch_site.start(), scratch_site.start()]
    marks = {scratch_site.finish(process, 0)["results"][0]["checks"]["scratch"] for process in both}

    assert len(marks) == 2
    assert scratch_site.scratch() == []


NOS = {
    "cannot be pulled: ": {"image": f"registry.example.com/none@sha256:{'3' * 64}", "start_timeout": "15s"},
    f'"registry.example.com/none@sha256:{"4" * 64}" cannot be pulled': {
        "postgres": {"18": f"registry.example.com/none@sha256:{'4' * 64}"}
    },
    "exceeded quota": {"quota": {"limits.memory": "600Mi"}},
    'the volume of storage class "no-such-class" is pending': {"storage_class": "no-such-class"},
    "Insufficient memory": {"memory": "9000Gi"},
}


def test_what_cannot_run_is_a_clear_no(scratch_site: ScratchSite, tmp_path: Path) -> None:
    """Images, a quota, a claim, memory: within its timeout, with the reason and what to do, and no word about the snapshot."""
    before = len(scratch_site.evidence())
    started = {}
    for number, (reason, changes) in enumerate(NOS.items()):
        config = tmp_path / f"{number}.yaml"
        config.write_text(scratch_site.configure(**{"start_timeout": "3s"} | changes).read_text())
        started[reason] = scratch_site.start(config)
    for reason, process in started.items():
        error = scratch_site.finish(process, 1)["error"]
        assert reason in error["message"]
        assert "verify.namespace" in error["hint"]
        assert "not judged" in error["unaffected"]
    assert scratch_site.scratch() == []
    assert len(scratch_site.evidence()) == before


def test_evicted_pod_is_a_clear_no(scratch_site: ScratchSite) -> None:
    """At once, with what the node said."""
    process = scratch_site.start()
    name = scratch_site.one_scratch()["metadata"]["name"]
    pod = scratch_site.pod(name, lambda found: found["spec"].get("nodeName"))
    path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}"
    scratch_site.api.request(
        "PATCH", path, {"metadata": {"annotations": {EVICT: "The node was low on memory"}}}
    )
    error = scratch_site.finish(process, 1)["error"]

    assert "evicted: The node was low on memory" in error["message"]
    assert scratch_site.scratch() == []


def test_damaged_snapshot_is_a_no_of_the_data(scratch_site: ScratchSite) -> None:
    """Code 3, with the object's name, from the evidence that was signed there."""
    client = scratch_site.s3.client()
    packs = client.list_objects_v2(Bucket=scratch_site.bucket, Prefix="repository/packs/")["Contents"]
    kept = {}
    for pack in packs:
        content = client.get_object(Bucket=scratch_site.bucket, Key=pack["Key"])["Body"].read()
        kept[pack["Key"]] = content
        client.put_object(
            Bucket=scratch_site.bucket, Key=pack["Key"], Body=content[:1300] + b"\x00\x01" + content[1302:]
        )
    try:
        [result] = scratch_site.finish(scratch_site.start(), 3)["results"]
    finally:
        for key, content in kept.items():
            client.put_object(Bucket=scratch_site.bucket, Key=key, Body=content)

    assert result["result"] == "failed"
    assert any("packs/" in failure for failure in result["failures"])
    assert scratch_site.scratch() == []


def test_terminated_run_deletes_its_namespace(scratch_site: ScratchSite) -> None:
    """SIGTERM in the middle: code 143, and the namespace is told to end."""
    process = scratch_site.start()
    name = scratch_site.one_scratch()["metadata"]["name"]
    process.send_signal(signal.SIGTERM)
    scratch_site.finish(process, 143)

    scratch_site.api.wait_for(f"/api/v1/namespaces/{name}", "gone", lambda found: found is None)


def test_killed_run_is_collected_after_its_expiry(scratch_site: ScratchSite) -> None:
    """SIGKILL leaves the namespace. ``scratch gc`` says whose it is, and removes it when its time is over, not before."""
    process = scratch_site.start()
    name = scratch_site.one_scratch()["metadata"]["name"]
    process.kill()
    process.communicate()

    def states(*arguments: str) -> dict[str, str]:
        found = scratch_site.site.json("scratch", "gc", *arguments)["scratch"]["namespaces"]
        return {one["namespace"]: one["state"] for one in found}

    in_use = states()
    path = f"/api/v1/namespaces/{name}"
    scratch_site.api.request("PATCH", path, {"metadata": {"labels": {"drctl/expires": "1700000000"}}})
    planned, removed = states("--dry-run"), states()

    assert (in_use[name], planned[name], removed[name]) == ("in_use", "expired", "removed")
    scratch_site.api.wait_for(path, "gone", lambda found: found is None)
