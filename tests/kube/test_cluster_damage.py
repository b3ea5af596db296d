"""Lists that are disturbed in their middle, a lot of data, names at their limits: whole runs against the real API server come out as they should, in bounded memory."""

from __future__ import annotations

import base64
import gzip
import json
import random
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dr_toolkit import config
from dr_toolkit.cluster import releases, secrets_snapshot
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.releases import Wanted
from dr_toolkit.log import NoProgress
from tests.api_proxy import CUT, DROP, ApiProxy, status
from tests.fakes import MemorySink
from tests.kube.test_cluster_kinds import DRCTL, HOSTILE, Site
from tests.memory import peak

MEMORY = 200 * 10**6
"""What a backup of releases or Secrets may take, whatever they weigh."""


def storage_secret(number: int, padding: str) -> dict:
    """A release as Helm keeps it, as large as the padding makes it."""
    name = f"r{number:04}"
    whole = {
        "name": name, "version": 1, "info": {"status": "deployed"},
        "chart": {"metadata": {"name": "c", "version": "1"}, "templates": [{"name": "t", "data": padding}]},
        "manifest": f"---\nkind: ConfigMap\nmetadata:\n  name: c{number}\n", "config": {"password": "p"},
    }  # fmt: skip
    packed = base64.b64encode(gzip.compress(json.dumps(whole).encode(), 1))
    labels = {"owner": "helm", "name": name, "version": "1", "status": "deployed"}
    return {
        "metadata": {"name": f"sh.helm.release.v1.{name}.v1", "labels": labels},
        "type": "helm.sh/release.v1",
        "data": {"release": base64.b64encode(packed).decode()},
    }


def fill(control_plane, namespace, secrets, count, *, weight=10):
    """Secrets and releases, each with random content of this many bytes."""
    chance = random.Random(7)
    path = f"/api/v1/namespaces/{namespace}/secrets"

    def one(number):
        if number < secrets:
            data = {"v": base64.b64encode(chance.randbytes(weight)).decode()}
            control_plane.create(path, {"metadata": {"name": f"s{number:04}"}, "data": data})
        else:
            text = base64.b64encode(chance.randbytes(weight * 5 // 8)).decode()
            control_plane.create(path, storage_secret(number, text))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(secrets + count)))


class Once(NoProgress):
    """Does something after the first page, once."""

    def __init__(self, action) -> None:
        self.action = action

    def advance(self, bytes, objects=0):  # noqa: A002 - the name of the interface
        action, self.action = self.action, lambda: None
        action()


@pytest.fixture(scope="module")
def filled(control_plane):
    """A namespace with 30 Secrets and 30 releases."""
    namespace = control_plane.make_namespace()
    fill(control_plane, namespace, 30, 30)
    yield namespace
    control_plane.delete(f"/api/v1/namespaces/{namespace}")


def names(site):
    """The Secrets' names and the releases of a site's newest snapshots, by its own words."""
    taken = {one["component"]: one["id"] for one in site.json("snapshots")["snapshots"]}
    releases_there = [
        one["release"] for one in site.json("show", taken["releases"])["entries"] if one["kind"] == "release"
    ]
    secrets_there = []
    for entry in site.json("show", taken["secrets"])["entries"]:
        if entry["kind"] == "secrets-metadata":
            content = site.json("show", taken["secrets"], entry["path"])["content"]
            secrets_there += [one["name"] for one in content["secrets"]]
    return secrets_there, releases_there  # fmt: skip


@pytest.mark.parametrize("kind", ["releases", "secrets"])
def test_a_list_whose_state_the_server_has_really_forgotten_comes_whole(control_plane, filled, kind):
    """410 of the real server in the middle: nothing is lost, nothing comes twice, and what changed meanwhile is as it is now."""
    sink = MemorySink()

    def forget():
        control_plane.create(f"/api/v1/namespaces/{filled}/secrets", {"metadata": {"name": f"a-{kind}"}})
        control_plane.forget_history()

    with Cluster(config.ClusterConfig(kubeconfig=str(control_plane.kubeconfig))) as cluster:
        progress = Once(forget)
        if kind == "releases":
            wanted = Wanted((filled,), workloads=False)
            taken = releases.take(cluster, wanted, sink, progress)
            assert taken.revisions == len(sink.entries) == 30
        else:
            taken = secrets_snapshot.take(cluster, (filled,), lambda *_: (False, ()), sink, progress)
            (lines,) = (one.content.splitlines() for one in sink.entries.values())
            found = [json.loads(line)["name"] for line in lines[1:]]
            assert sorted(found) == sorted({*(f"s{n:04}" for n in range(30)), "a-releases", "a-secrets"})
            assert taken.secrets == len(found)


def test_a_backup_through_every_disturbance_is_an_undisturbed_one(control_plane, filled, tmp_path):
    """429 and 5xx with Retry-After, lost and cut answers, forgotten state, and a server that is killed and comes back: code 0, all is there."""
    site = Site(tmp_path, control_plane, [filled])
    with ApiProxy(control_plane.url, control_plane.ca_file) as proxy:
        proxy.kubeconfig(site.kubeconfig, {"token": site.token})
        left = [
            status(429, "TooManyRequests", headers={"Retry-After": "1"}),
            status(503, "ServiceUnavailable", headers={"Retry-After": "1"}),
            DROP,
            status(410, "Expired"),
            CUT,
            status(500, "InternalError"),
            "kill",
            status(504, "Timeout", headers={"Retry-After": "0"}),
        ]
        lock, wanted, back = threading.Lock(), threading.Event(), threading.Event()

        def plan(_method, path, _headers):
            with lock:
                if "/secrets?" not in path or not left:
                    return None
                action = left.pop(0)
            if action == "kill":
                wanted.set()
                back.wait(60)
                return DROP
            return action

        proxy.plan = plan
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(site.json, "backup")
            # Not in the proxy's thread: what a thread starts here dies with it.
            assert wanted.wait(60)
            control_plane.kill_api()
            control_plane.start_api()
            back.set()
            done = run.result()
        assert [one["component"] for one in done["snapshots"]] == ["releases", "secrets"]
        assert left == []
        proxy.plan = lambda *_: None
        secrets_there, releases_there = names(site)
    expected = control_plane.get(f"/api/v1/namespaces/{filled}/secrets?fieldSelector=type%3DOpaque")["items"]
    assert sorted(secrets_there) == sorted(one["metadata"]["name"] for one in expected)
    assert releases_there == [f"r{number:04}" for number in range(30, 60)]


def test_a_token_that_ends_for_good_in_the_middle_is_said_and_nothing_is_committed(
    control_plane, namespace, tmp_path
):
    """401 from some page on, and no other token: code 1, what to renew, no snapshot; the next run with a good one is whole."""
    fill(control_plane, namespace, 15, 0)
    site = Site(tmp_path, control_plane, [namespace])
    with ApiProxy(control_plane.url, control_plane.ca_file) as proxy:
        good = site.kubeconfig.read_text()
        proxy.kubeconfig(site.kubeconfig, {"token": site.token})
        proxy.first(1000, status(401, "Unauthorized"), part="continue=")
        done = site.run("backup", "secrets")
    assert done.returncode == 1
    assert "does not accept the credentials" in done.stderr
    assert "renew the token" in done.stderr
    assert site.json("snapshots")["snapshots"] == []
    site.kubeconfig.write_text(good)
    assert len(site.json("backup", "secrets")["snapshots"]) == 1


def test_memory_stays_bounded_whatever_the_secrets_weigh(control_plane, new_namespace, tmp_path):
    """200 MB of JSON in Secrets of nearly 1 MiB each, releases as large as Helm can keep, and all values of some: under 200 MB each."""
    namespace = new_namespace()
    fill(control_plane, namespace, 150, 20, weight=1_000_000)
    site = Site(tmp_path, control_plane, [namespace])
    text = site.config.read_text().replace("include_values: [kept/KEY]", "include_values: [s0001, s0002]")
    site.config.write_text(text)

    def used(*arguments: str) -> int:
        return peak([DRCTL, "-c", site.config, *arguments], site.environment, tmp_path / "said")

    took = {one: used("backup", one) for one in ("secrets", "releases")}
    took["compared"] = used("restore", "secrets", "--yes")
    print("peak memory", took)
    assert max(took.values()) < MEMORY, took
    there = site.json("snapshots")["snapshots"]
    facts = {one["component"]: site.json("show", one["id"])["source"] for one in there}
    assert (facts["secrets"]["secrets"], facts["secrets"]["with_values"]) == (150, 2)
    assert facts["releases"]["revisions"] == 20


def test_releases_at_their_limits_and_hostile_ones(control_plane, tmp_path):
    """The longest namespace, release name, labels and annotation that Helm and the API take; a name that is a path becomes no directory."""
    namespace = f"{'n' * 56}-{secrets.token_hex(3)}"
    longest, odd = "r" * 53, "\x1b[31m\u202ename"
    control_plane.make_namespace(namespace)
    base = f"/api/v1/namespaces/{namespace}/secrets"
    for name, said, labels in (
        (longest, longest, {f"{'p' * 63}.example/{'n' * 63}": "v" * 63}),
        ("evil", "../../evil", {}),
    ):
        whole = {
            "name": said, "namespace": namespace, "version": 1, "info": {"status": "deployed"}, "manifest": "",
            "chart": {"metadata": {"name": odd, "version": "1", "appVersion": "9" * 100_000}},
            "config": {"k" * 1000: HOSTILE, "password": "canary-1", "said": "the password is canary-2"},
        }  # fmt: skip
        packed = base64.b64encode(gzip.compress(json.dumps(whole).encode()))
        control_plane.create(base, {
            "metadata": {
                "name": f"sh.helm.release.v1.{name}.v1", "annotations": {"a": "x" * (250 << 10)},
                "labels": {"owner": "helm", "name": name, "version": "1", "status": "deployed", **labels},
            },
            "type": "helm.sh/release.v1", "data": {"release": base64.b64encode(packed).decode()},
        })  # fmt: skip
    control_plane.create(base, {"metadata": {"name": "s"}, "stringData": {"K": "canary-2"}})
    site = Site(tmp_path, control_plane, [namespace])
    taken = {one["component"]: one for one in site.json("backup")["snapshots"]}["releases"]
    assert ["none that a release can have" in warning for warning in taken["warnings"]] == [True]
    shown = site.run("show", taken["id"], f"{namespace}/{longest}")
    assert (shown.returncode, "canary-1" in shown.stdout) == (0, False)
    done = site.run("restore", "releases", "--to", str(tmp_path / "out" / "deep"))
    assert (done.returncode, "\x1b" in done.stdout + done.stderr) == (0, False)
    assert [one.name for one in tmp_path.glob("out/deep/*/*")] == [longest]
    assert not list(tmp_path.glob("**/evil"))
    compared = site.run("restore", "releases", "--diff")
    assert (compared.returncode, f"{namespace}/{longest}: the same" in compared.stdout) == (0, True)
    control_plane.delete(f"/api/v1/namespaces/{namespace}")
