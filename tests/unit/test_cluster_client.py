"""The client of the Kubernetes API against a server that misbehaves on request. The real one is asked in tests/kube."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from kubernetes.config import incluster_config

from dr_toolkit import clock, config, errors, log
from dr_toolkit.cluster import faults, paths
from dr_toolkit.cluster.client import Cluster
from tests.api_proxy import CUT, DROP, ApiProxy, answer, status

SECRETS = "/api/v1/namespaces/conduktor/secrets"


@pytest.fixture
def api():
    with ApiProxy() as proxy:
        yield proxy


@pytest.fixture
def waited(monkeypatch):
    """No test waits; what would have been waited is kept."""
    seconds: list[float] = []
    monkeypatch.setattr(clock, "sleep", seconds.append)
    return seconds


@pytest.fixture
def cluster(api, tmp_path, waited):
    file = api.kubeconfig(tmp_path / "kubeconfig", {"token": "a-token-of-the-test"})
    with Cluster(config.ClusterConfig(kubeconfig=str(file)), retry_seconds=5) as made:
        yield made


def listing(names, more=""):
    items = [{"metadata": {"name": name}} for name in names]
    return answer({"kind": "SecretList", "metadata": {"continue": more}, "items": items})


def test_the_library_is_imported_where_the_cluster_is_touched_and_nowhere_else():
    """Neither the configuration nor the rest of the room costs the second that the library takes."""
    code = (
        "import sys, dr_toolkit.config, dr_toolkit.cluster.paths, dr_toolkit.cluster.faults, dr_toolkit.jobs.kinds;"
        "assert 'kubernetes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_throttled_request_waits_as_long_as_it_is_asked_to(api, cluster, waited):
    """429 with Retry-After: that long, a little more, and the answer comes."""
    left = [
        answer({"kind": "Secret"}),
        status(429, "TooManyRequests", headers={"Retry-After": "3"}),
        status(503, "ServiceUnavailable"),
    ]
    api.plan = lambda *_: left.pop()
    assert cluster.get(f"{SECRETS}/x") == {"kind": "Secret"}
    assert waited[0] < 1
    assert 3 < waited[1] < 5


def test_a_server_that_goes_on_failing_is_unreachable_and_worth_a_retry(api, cluster):
    """After the bounded time the failure is told: exit code 5, and nothing of the answer's text."""
    api.plan = lambda *_: status(500, "InternalError", message="the value hunter2 was refused")
    with pytest.raises(errors.SourceUnreachable) as caught:
        cluster.get(f"{SECRETS}/x")
    assert caught.value.exit_code == 5
    assert "hunter2" not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("damage", [DROP, CUT])
def test_a_broken_answer_is_asked_for_again(api, cluster, damage):
    """A connection that ends early gives no half answer."""
    whole = listing(["a", "b"])
    plans = [whole, damage]
    api._forward = lambda *_: whole
    api.plan = lambda *_: plans.pop()
    assert [len(page) for page in cluster.pages(SECRETS)] == [2]


def test_a_list_begins_again_when_its_state_is_gone(api, cluster):
    """410 in the middle: the caller is told, and gets the whole list from its beginning."""
    plans = [listing(["a", "b", "c"]), status(410, "Expired"), listing(["a"], more="token")]
    api.plan = lambda *_: plans.pop()
    got: list[str] = []
    for page in cluster.pages(SECRETS, restarted=got.clear):
        got += [item["metadata"]["name"] for item in page]
    assert got == ["a", "b", "c"]
    assert "continue=token" in api.seen[1][1]
    assert "continue=token" not in api.seen[2][1]


def test_a_list_whose_state_is_always_gone_is_an_error(api, cluster):
    """It ends complete, or raises: after some tries the list is given up."""
    api.plan = lambda _method, path, _headers: (
        status(410, "Expired") if "continue=token" in path else listing(["a"], more="token")
    )
    with pytest.raises(faults.Gone):
        list(cluster.pages(SECRETS, restarted=lambda: None))
    with pytest.raises(faults.Gone):  # who cannot forget what came is told at once
        list(cluster.pages(SECRETS))


def test_pages_of_objects_of_unknown_size_stay_small(api, cluster):
    """With a wish for a page's bytes the limit follows what the objects weigh."""
    big = {"kind": "SecretList", "metadata": {"continue": "x"}, "items": [{"data": "x" * 1000}] * 10}
    plans = [listing(["a"]), answer(big), answer(big)]
    api.plan = lambda *_: plans.pop()
    list(cluster.pages(SECRETS, page_bytes=4000))
    assert [path.partition("limit=")[2].partition("&")[0] for _, path in api.seen] == ["4", "3", "3"]


def test_a_write_is_repeated_only_where_nothing_was_done(api, cluster):
    """A lost answer of a create is told, because the object may exist; a throttled create goes out again."""
    api.plan = lambda *_: DROP
    with pytest.raises(errors.SourceUnreachable):
        cluster.create(SECRETS, {"metadata": {"name": "x"}})
    assert len(api.seen) == 1
    plans = [answer({"made": True}), status(429, "TooManyRequests")]
    api.plan = lambda *_: plans.pop()
    assert cluster.create(SECRETS, {}) == {"made": True}


def test_a_delete_whose_answer_was_lost_is_done(api, cluster):
    """The second try finds nothing, and that is what was wanted. A first try that finds nothing says so."""
    plans = [status(404, "NotFound"), DROP]
    api.plan = lambda *_: plans.pop()
    cluster.delete(f"{SECRETS}/x")
    api.plan = lambda *_: status(404, "NotFound")
    with pytest.raises(faults.NotFound):
        cluster.delete(f"{SECRETS}/x")


def test_credentials_that_expire_are_read_again(api, tmp_path, waited):
    """401 in the middle: the token is read from where it came from, once."""
    token = tmp_path / "token"
    token.write_text("old-token")
    file = api.kubeconfig(tmp_path / "kubeconfig", {"tokenFile": str(token)})
    good = ["old-token"]
    api.plan = lambda _method, _path, headers: (
        answer({}) if headers["Authorization"] == f"Bearer {good[0]}" else status(401, "Unauthorized")
    )
    with Cluster(config.ClusterConfig(kubeconfig=str(file))) as cluster:
        cluster.get("/version")
        token.write_text("new-token")
        good[0] = "new-token"
        cluster.get("/version")
        good[0] = "third-token"
        with pytest.raises(faults.Unauthorized) as caught:
            cluster.get("/version")
    assert len(api.seen) == 4
    assert "new-token" not in caught.value.message
    assert log.masked("says new-token here") == "says *** here"


def test_an_exec_plugin_proves_who_we_are(api, tmp_path):
    """The kubeconfig's program gives the token; one that fails is an error of the configuration, without a retry."""
    given = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "of-the-plugin"},
    }
    plugin = {"apiVersion": given["apiVersion"], "command": "echo", "args": [json.dumps(given)]}
    api.plan = lambda _method, _path, headers: answer({"who": headers["Authorization"]})
    file = api.kubeconfig(tmp_path / "kubeconfig", {"exec": plugin})
    with Cluster(config.ClusterConfig(kubeconfig=str(file))) as cluster:
        assert cluster.get("/version") == {"who": "Bearer of-the-plugin"}
    api.kubeconfig(file, {"exec": {**plugin, "command": "false"}})
    with pytest.raises(errors.ConfigError, match="exec: process returned 1"):
        Cluster(config.ClusterConfig(kubeconfig=str(file)))


def test_a_pods_service_account_is_used_where_there_is_one(api, tmp_path, monkeypatch):
    """Without a section `cluster` the pod's files decide; `in_cluster: true` in any other place is an error that says so."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.ConfigError, match="Service host/port is not set"):
        Cluster(config.ClusterConfig(in_cluster=True))
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("mounted")
    authority.write_text("x")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(
        "dr_toolkit.cluster.connection.RESTClientObject", lambda _: type("R", (), {"pool_manager": None})
    )
    assert Cluster(config.ClusterConfig()).server == "https://10.0.0.1:443"


def test_a_missing_kubeconfig_is_an_error_of_the_configuration(tmp_path):
    """What is missing, and what to set; not a traceback of a library."""
    with pytest.raises(errors.ConfigError) as caught:
        Cluster(config.ClusterConfig(kubeconfig=str(tmp_path / "none")))
    assert "KUBECONFIG" in caught.value.hint


def test_a_missing_right_names_the_rule_as_yaml(api, cluster):
    """403 of the authorizer: the rule to add; of an admission plugin: what it said, and no rule."""
    api.plan = lambda *_: status(403, "Forbidden", message='User "x" cannot list resource "secrets"')
    with pytest.raises(faults.Forbidden) as caught:
        list(cluster.pages(SECRETS))
    assert caught.value.rule == '- {apiGroups: [""], resources: ["secrets"], verbs: ["list"]}'
    assert caught.value.rule in caught.value.hint
    assert 'namespace "conduktor"' in caught.value.message
    api.plan = lambda *_: status(403, "Forbidden", message="exceeded quota: scratch, requested: pods=1")
    with pytest.raises(faults.Forbidden, match="exceeded quota") as caught:
        cluster.create("/api/v1/namespaces/conduktor/pods", {})
    assert caught.value.rule == ""


def test_a_refused_object_is_told_without_its_content(api, cluster):
    """A validation error quotes the value that it refuses; its field is enough."""
    causes = [{"field": "data[password]", "message": 'Invalid value: "hunter2"'}]
    api.plan = lambda *_: status(422, "Invalid", message='Invalid value: "hunter2"', causes=causes)
    with pytest.raises(errors.SourceError) as caught:
        cluster.create(SECRETS, {})
    assert "hunter2" not in caught.value.message
    assert "data[password]" in caught.value.message


def test_an_answer_that_is_no_json_is_an_error_of_ours(api, cluster):
    """A proxy's page in the place of an answer."""
    api.plan = lambda *_: (200, {}, b"<html>log in here</html>")
    with pytest.raises(errors.SourceError, match="not JSON"):
        cluster.get("/version")


@pytest.mark.parametrize(
    ("path", "place", "method", "verb"),
    [
        ("/api/v1/namespaces/a/secrets", paths.Place("", "secrets", "a"), "GET", "list"),
        ("/api/v1/namespaces/a/pods/p/log?x=y", paths.Place("", "pods/log", "a", "p"), "GET", "get"),
        ("/apis/apps/v1/deployments", paths.Place("apps", "deployments"), "GET", "list"),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", paths.Place("apps", "deployments/scale", "a", "d"), "PATCH", "patch"),
        ("/api/v1/namespaces/a", paths.Place("", "namespaces", "", "a"), "DELETE", "delete"),
        ("/api/v1/namespaces", paths.Place("", "namespaces"), "POST", "create"),
    ],
)  # fmt: skip
def test_paths_are_read_as_rbac_reads_them(path, place, method, verb):
    """Group, resource with its subresource, namespace, name and verb."""
    assert paths.place_of(path) == place
    assert paths.verb_of(method, place) == verb


def test_paths_are_made_of_parts():
    """The other direction."""
    assert paths.of("api/v1/pods/log", "a", "p") == "/api/v1/namespaces/a/pods/p/log"
    assert paths.of("apis/apps/v1/deployments", "a") == "/apis/apps/v1/namespaces/a/deployments"
    assert paths.of("api/v1/namespaces", name="a") == "/api/v1/namespaces/a"
    assert paths.place_of("/version") is None


def test_the_section_cluster_is_one_way_or_the_other():
    """The service account and a kubeconfig together are a contradiction."""
    with pytest.raises(ValueError, match="in_cluster means"):
        config.ClusterConfig(kubeconfig="x", in_cluster=True)
