"""The ways to the API server and who we are there, each against the real one: proxies, contexts, exec plugins, rotated tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.config import incluster_config

from devstack.connect_proxy import ConnectProxy
from devstack.tls import Authority
from dr_toolkit import config, errors, log
from dr_toolkit.cluster.client import Cluster

DRCTL = Path(sys.executable).with_name("drctl")
PROXIES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")  # fmt: skip
LIST_SECRETS = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
MISSING_PLUGIN = "there-is-no-such-plugin"


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch):
    """Each test says itself which proxies there are."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def reached(**chosen):
    """Open the API server, and ask it something that not everybody may ask."""
    with Cluster(config.ClusterConfig(**chosen), retry_seconds=5) as cluster:
        return cluster.get("/api/v1/namespaces/default")["metadata"]["name"]


def kubeconfig(control_plane, path, user, **cluster):
    """A kubeconfig with two contexts: the first leads nowhere and is the current one."""
    real = {"server": control_plane.url, "certificate-authority": str(control_plane.ca_file), **cluster}
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
        "clusters": [
            {"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}},
            {"name": "real", "cluster": real},
        ],
        "users": [{"name": "somebody", "user": user}],
        "contexts": [
            {"name": "nowhere", "context": {"cluster": "nowhere", "user": "somebody"}},
            {"name": "real", "context": {"cluster": "real", "user": "somebody", "namespace": "of-the-context"}},
        ],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_the_chosen_context_is_used_and_no_other(control_plane, tmp_path, monkeypatch):
    """By the configuration, by the option of discover, and from the second of two files in KUBECONFIG."""
    file = kubeconfig(control_plane, tmp_path / "two", {"token": control_plane.admin_token})
    assert reached(kubeconfig=file, context="real") == "default"
    with Cluster(config.ClusterConfig(kubeconfig=file, context="real")) as cluster:
        assert cluster.namespace == "of-the-context"
    with pytest.raises(errors.SourceUnreachable, match="connection refused"):
        reached(kubeconfig=file)
    with pytest.raises(errors.ConfigError, match="no-such-context"):
        reached(kubeconfig=file, context="no-such-context")
    done = subprocess.run(
        [DRCTL, "discover", "--kubeconfig", file, "--context", "real", "-n", "default"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "was found in default" in done.stderr) == (1, True)
    empty = tmp_path / "first"
    empty.write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setenv("KUBECONFIG", f"{empty}{os.pathsep}{file}")
    assert reached(context="real") == "default"


def test_proxies_of_the_environment_and_of_the_kubeconfig(control_plane, tmp_path, monkeypatch):
    """Through HTTPS_PROXY unless NO_PROXY names the server; `proxy-url` wins over both; a password goes with it."""
    target = urlsplit(control_plane.url).netloc
    user = {"token": control_plane.admin_token}
    file = kubeconfig(control_plane, tmp_path / "plain", user)
    with ConnectProxy() as proxy, ConnectProxy("drctl", "p:w/1") as closed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        assert reached(kubeconfig=file, context="real") == "default"
        assert proxy.seen == [target]
        monkeypatch.setenv("NO_PROXY", "example.invalid,127.0.0.1")
        assert reached(kubeconfig=file, context="real") == "default"
        assert proxy.seen == [target]
        monkeypatch.delenv("NO_PROXY")
        own = {"proxy-url": f"http://drctl:p%3Aw%2F1@{closed.address}"}
        file = kubeconfig(control_plane, tmp_path / "own", user, **own)
        assert reached(kubeconfig=file, context="real") == "default"
        assert (closed.seen, closed.refused, proxy.seen) == ([target], 0, [target])
        assert log.masked("p:w/1 p%3Aw%2F1") == "*** ***"
        wrong = {"proxy-url": f"http://{closed.address}"}
        file = kubeconfig(control_plane, tmp_path / "wrong", user, **wrong)
        with pytest.raises(errors.SourceUnreachable, match="the proxy answered 407"):
            reached(kubeconfig=file, context="real")
        assert closed.refused == 1  # the proxy will not change its mind
    with pytest.raises(errors.SourceUnreachable, match="the proxy cannot be reached"):
        reached(kubeconfig=file, context="real")


def test_a_proxy_that_cannot_be_used_is_an_error_of_the_configuration(control_plane, tmp_path):
    """No traceback of a library."""
    for url, words in (("socks5://127.0.0.1:1", "PySocks"), ("gopher://127.0.0.1:1", "gopher")):
        file = kubeconfig(control_plane, tmp_path / "odd", {"token": "x"}, **{"proxy-url": url})
        with pytest.raises(errors.ConfigError, match=words):
            reached(kubeconfig=file, context="real")


def test_an_exec_plugin_gives_client_certificates_and_new_ones_when_they_are_refused(control_plane, tmp_path):
    """As cloud providers' plugins do. A certificate that the server does not accept any more is asked for again."""
    certificate, key = control_plane.authority.issue_client("plugin", group="system:masters")
    stale, stale_key = Authority(tmp_path / "other").issue_client("plugin", group="system:masters")
    answers = tmp_path / "answers"
    answers.mkdir()
    for number, (one, secret) in enumerate([(stale, stale_key), (certificate, key)]):
        status = {"clientCertificateData": one.read_text(), "clientKeyData": secret.read_text()}
        document = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": status,
        }
        (answers / str(number)).write_text(json.dumps(document))
    script = tmp_path / "plugin"
    script.write_text(f'#!/bin/sh\ntest "$WHO" = drctl || exit 3\nf=$(ls {answers} | head -1)\ncat {answers}/$f\n[ $f = 1 ] || rm {answers}/$f\n')  # fmt: skip
    script.chmod(0o700)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "env": [{"name": "WHO", "value": "drctl"}],
        "interactiveMode": "Never",
    }
    file = kubeconfig(control_plane, tmp_path / "exec", {"exec": plugin})
    assert reached(kubeconfig=file, context="real") == "default"
    assert [one.name for one in answers.iterdir()] == ["1"]
    file = kubeconfig(control_plane, tmp_path / "exec", {"exec": {**plugin, "command": MISSING_PLUGIN}})
    with pytest.raises(errors.ConfigError, match=MISSING_PLUGIN):
        reached(kubeconfig=file, context="real")


def test_a_service_accounts_token_is_rotated_on_disk_in_the_middle_of_a_list(
    control_plane, namespace, tmp_path, monkeypatch
):
    """As the kubelet does it: the file has a new token, and the old one ends. The list goes on where it was."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for number in range(20):
        control_plane.create(path, {"metadata": {"name": f"s{number:02}"}})
    token = tmp_path / "token"
    token.write_text(control_plane.make_service_account(namespace, "first", LIST_SECRETS))
    second = control_plane.make_service_account(namespace, "second", LIST_SECRETS)
    (tmp_path / "namespace").write_text(namespace)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(control_plane.ca_file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", control_plane.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(control_plane.port))
    with Cluster(config.ClusterConfig()) as cluster:
        assert (cluster.server, cluster.namespace) == (control_plane.url, namespace)
        got = []
        for page in cluster.pages(path, limit=5, query={"fieldSelector": "type=Opaque"}):
            got += [one["metadata"]["name"] for one in page]
            if len(got) == 5:
                control_plane.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/first")
                token.write_text(second)
    assert got == [f"s{number:02}" for number in range(20)]
