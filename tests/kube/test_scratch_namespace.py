"""``verify --restore --in namespace`` and ``scratch gc`` on the real API server, with just the rights that k8s-cronjobs/ gives."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.kube import ControlPlane
from devstack.kubelet import EVICT, Kubelet
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from tests.kube import scratch_site as sites
from tests.kube.scratch_site import ScratchSite


@pytest.fixture(scope="module")
def whole(
    control_plane: ControlPlane,
    kubelet: Kubelet,
    postgres: PostgresServer,
    s3_server: S3Server,
    servers_root: Path,
) -> Iterator[ScratchSite]:
    name = f"scratch-{secrets.token_hex(4)}"
    site = sites.in_bucket(servers_root, postgres, s3_server, name)
    site.run("init")
    site.run("backup")
    sites.add_images(kubelet, postgres)
    found = ScratchSite(site, control_plane, sites.operator(control_plane, site.root), s3_server, name)
    found.configure()
    yield found
    postgres.drop_database(site.database)


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
