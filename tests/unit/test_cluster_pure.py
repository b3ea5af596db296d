"""Releases and Secrets without a cluster: reading Helm's payloads, hiding secrets, files, differences."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess

import pytest
import yaml

from dr_toolkit import config, errors
from dr_toolkit.cli.context import Context
from dr_toolkit.cluster import (
    helm_storage,
    manifest,
    redaction,
    release_diff,
    release_files,
    release_reading,
    secret_facts,
    yaml_text,
)
from dr_toolkit.cluster.helm_storage import Broken, Facts
from dr_toolkit.cluster.redaction import Redactor
from dr_toolkit.cluster.releases import State
from dr_toolkit.jobs import helm_gate
from dr_toolkit.jobs.gate import Question
from dr_toolkit.repository.entries import EntryInfo

MANIFEST = """\
---
# Source: gateway/templates/secret.yaml
apiVersion: v1
kind: Secret
metadata:
  labels:
    name: not-this
  name: gateway-secret
stringData:
  KEY: of-the-secret
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: "gateway"
  namespace: other
spec:
  template:
    spec:
      initContainers: [{name: first, image: "init:1"}]
      containers: [{name: main, image: "gateway:2"}]
"""


def release(**more):
    """A release as Helm keeps it."""
    return {
        "name": "gateway",
        "namespace": "conduktor",
        "version": 2,
        "info": {"status": "deployed", "last_deployed": "2026-11-23T08:00:00Z", "notes": "hello"},
        "chart": {
            "metadata": {"name": "mine", "version": "1.2.3", "appVersion": "4.5"},
            "values": {"replicas": 1, "image": {"tag": "1", "pull": "always"}, "gone": 1},
            "templates": [{"name": "templates/a.yaml", "data": base64.b64encode(b"kind: A").decode()}],
        },
        "config": {"image": {"tag": "2"}, "gone": None},
        "manifest": MANIFEST,
        "hooks": [],
        "a_field_of_tomorrow": {"kept": True},
        **more,
    }


def stored(content: bytes, *, secret: bool = True):
    """A storage object with this payload."""
    text = base64.b64encode(content).decode() if secret else content.decode()
    return {**({"type": helm_storage.SECRET_TYPE} if secret else {}), "data": {"release": text}}


def packed(value) -> bytes:
    return base64.b64encode(gzip.compress(json.dumps(value).encode()))


@pytest.mark.parametrize("secret", [True, False])
def test_a_release_is_read_from_both_drivers_with_unknown_fields(secret):
    """Secret: base64 twice and gzip; ConfigMap: once. What nobody knows yet is kept."""
    text = helm_storage.document(helm_storage.payload(stored(packed(release()), secret=secret)))
    assert helm_storage.parse(text) == release()
    facts, rendered = helm_storage.head(text)
    assert (facts.release, facts.revision, facts.status) == ("gateway", 2, "deployed")
    assert (facts.chart, facts.chart_version, facts.app_version) == ("mine", "1.2.3", "4.5")
    assert rendered == MANIFEST


def test_a_release_of_an_old_helm_is_not_compressed():
    """Helm 3.0 could write plain JSON in base64."""
    plain = base64.b64encode(json.dumps(release()).encode())
    assert helm_storage.head(helm_storage.document(plain))[0].release == "gateway"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"!!not base64!!", "not base64"),
        (base64.b64encode(gzip.compress(b"x" * 1000, mtime=0)[:-20]), "ends in the middle"),
        (base64.b64encode(b"\x1f\x8bxxxxxxxxxx"), "does not decompress"),
        (base64.b64encode(gzip.compress(b"[1, 2]", mtime=0)), "no release"),
        (base64.b64encode(gzip.compress(b"{", mtime=0)), "no release"),
        (base64.b64encode(gzip.compress(bytes(helm_storage.LARGEST + 1), mtime=0)), "more than 64 MiB"),
    ],
)
def test_a_broken_payload_says_why(content, why):
    """Damage of any sort is one error, which repeats nothing of the payload."""
    with pytest.raises(Broken, match=why):
        helm_storage.head(helm_storage.document(content))


def test_a_storage_object_without_a_release_is_broken():
    for data in (None, {}, {"release": ""}, {"release": 5}):
        with pytest.raises(Broken):
            helm_storage.payload({"type": helm_storage.SECRET_TYPE, "data": data})


def test_computed_values_follow_helms_rule():
    """Maps are merged, null removes, and what only the user gave is there."""
    assert helm_storage.computed_values(release()) == {"replicas": 1, "image": {"tag": "2", "pull": "always"}}
    assert helm_storage.coalesce({"a": {"b": 1}}, {"a": 5, "c": None}) == {"a": 5, "c": None}


def test_objects_of_a_manifest_are_found_without_parsing():
    """By name, not by a label that is called name; as the parser finds them."""
    found = manifest.names(MANIFEST)
    assert [(one.kind, one.name, one.namespace) for one in found] == [
        ("Secret", "gateway-secret", ""),
        ("Deployment", "gateway", "other"),
    ]
    assert [manifest.name_of(one) for one in manifest.objects(MANIFEST)] == found
    assert manifest.images(list(manifest.objects(MANIFEST))[1]) == {"first": "init:1", "main": "gateway:2"}


def test_renderings_are_compared_by_content_not_by_form():
    same = MANIFEST.replace('"gateway"', "gateway").replace("# Source", "# Other")
    assert manifest.compare(MANIFEST, same) == ([], [])
    only, differ = manifest.compare(
        MANIFEST, MANIFEST.replace("gateway:2", "gateway:3") + "---\nkind: X\nmetadata: {name: y}\n"
    )
    assert only == ["X y is only in the new manifest"]
    assert differ == ["Deployment gateway differs"]


@pytest.mark.parametrize(
    "name",
    [
        "password", "CDK_DATABASE_PASSWORD", "adminPassword", "GATEWAY_USER_POOL_SECRET_KEY", "GATEWAY_LICENSE_KEY", "licence",
        "clientSecret", "apiKey", "KAFKA_SASL_JAAS_CONFIG", "token", "secretAccessKey", "accessKeyId", "tls.key", "key", "private",
        "sslTruststorePassword", "GATEWAY_ADMIN_API_USERS_PASSWORD", "passphrase", "s3_access_key", "CDK_LICENSE",
    ],
)  # fmt: skip
def test_names_of_secrets_are_recognised(name):
    assert redaction.looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "existingSecret", "imagePullSecrets", "secretName", "secretRef", "tokenTTLSeconds", "replicas", "host", "passwordFile",
        "secretSha256sum", "automountServiceAccountToken", "keyName", "enabled", "CDK_SSL_TRUSTSTORE_PATH", "monkey",
    ],
)  # fmt: skip
def test_names_of_references_are_shown(name):
    assert not redaction.looks_secret(name)


def test_values_are_hidden_by_name_by_equality_and_in_secrets():
    """What hides behind a harmless name is found by its value; the rest is shown."""
    redactor = Redactor({"of-the-secret"}, lambda text: text == "known-by-fingerprint")
    shown = redactor.document(
        {
            "password": "a",
            "plain": "of-the-secret",
            "other": "known-by-fingerprint",
            "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "info"}],
            "url": "jdbc:postgresql://user:pw1@host/db?password=pw2&x=1",
            "file": "db:\n  password: pw3\n  host: h\n",
            "properties": "a=b\nsasl.password=pw4\n",
            "empty": {"password": ""},
            "number": {"token": 12345},
            "replicas": 3,
            "flag": {"secret": True},
        }
    )
    text = json.dumps(shown)
    for secret in ("hunter2", "of-the-secret", "known-by-fingerprint", "pw1", "pw2", "pw3", "pw4", "12345"):
        assert secret not in text
    assert shown["env"][1] == {"name": "LEVEL", "value": "info"}
    assert shown["replicas"] == 3
    assert shown["empty"] == {"password": ""}
    assert "user:" in shown["url"]
    assert "host: h" in shown["file"]
    assert redactor.count == 9


def test_a_changed_secret_is_seen_to_be_changed_and_nothing_more():
    """Equal secrets have equal tags within a run; another run has other tags."""
    redactor = Redactor()
    assert redactor.hidden("a") == redactor.hidden("a") != redactor.hidden("b")
    assert len({Redactor().hidden("a") for _ in range(20)}) > 1


def test_secrets_in_a_manifest_are_hidden_whole():
    shown = Redactor(redaction.values_of_secrets(MANIFEST)).manifest(MANIFEST)
    assert "of-the-secret" not in shown
    assert "gateway:2" in shown
    data = (
        "kind: Secret\nmetadata: {name: x}\ndata: {k: " + base64.b64encode(b"encoded-value").decode() + "}\n"
    )
    assert redaction.values_of_secrets(data) == {"encoded-value"}


@pytest.mark.parametrize(
    "value",
    ["1e3", "012", "0x1F", "on", "Yes", "null", "~", "1_000", "1:30", "=", "- a", "a: b", " x", "x ", "", "*a", "&b", "#c",
     "{{ .Values.x }}", "\x1b[2J\x9b31m", "two\nlines\n", "tab\there", "é", "2026-11-23", ".inf", "true", "a#b", "%x", "@y", "`z"],
)  # fmt: skip
def test_values_come_back_from_yaml_as_they_were(value):
    """Also what YAML's versions do not agree about; and no control character goes out."""
    text = yaml_text.dump({value: {"list": [value, {"k": value}]}})
    assert yaml.safe_load(text) == {value: {"list": [value, {"k": value}]}}
    assert not any(ord(c) < 32 and c != "\n" for c in text)
    assert "\x9b" not in text
    if "\n" not in value and value != "é":
        assert f'"{value}"' in text or "\\" in text


def test_the_line_that_installs_is_exact():
    """A known repository; else the chart that the release itself has; else a question."""
    known = release_files.way_back(release(), "secrets", {"mine": "https://charts.example.com"})
    assert known.line == (
        "helm upgrade --install gateway mine --repo https://charts.example.com --version 1.2.3 "
        "--namespace conduktor --create-namespace --values values.yaml"
    )
    own = release_files.way_back(release(), "configmaps", {})
    assert own.line.startswith("HELM_DRIVER=configmap helm upgrade --install gateway ./chart --namespace")
    chart = {"metadata": {"name": "mine", "version": "1.2.3", "dependencies": [{"name": "common"}]}}
    asked = release_files.way_back(release(chart=chart), "secrets", {})
    assert (asked.source, '"$CHART" --version 1.2.3' in asked.line) == ("unknown", True)


def test_names_cannot_break_out_of_the_script(tmp_path):
    """What a release says of itself is data for the shell, and a comment cannot be ended."""
    evil = release(
        namespace="$(touch pwned)'; touch pwned; '",
        chart={"metadata": {"name": "a\ntouch pwned", "version": "`x`"}},
    )
    made = release_files.files(evil, driver="secrets", repositories={}, origin="a\ntouch pwned")
    script = tmp_path / "restore.sh"
    script.write_bytes(made["restore.sh"])
    helm = tmp_path / "helm"
    helm.write_text('#!/bin/sh\nfor a in "$@"; do echo "[$a]"; done\n')
    helm.chmod(0o700)
    told = subprocess.run(
        ["sh", script, "--wait"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[$(touch pwned)'; touch pwned; ']" in told.stdout
    assert "[--wait]" in told.stdout
    assert not (tmp_path / "pwned").exists()


def test_a_chart_is_rebuilt_only_when_it_is_whole():
    """Subcharts are not kept by Helm; and no file of a chart leaves its directory."""
    made = release_files.files(release(), driver="secrets", repositories={}, origin="test")
    assert made["chart/templates/a.yaml"] == b"kind: A"
    assert yaml.safe_load(made["chart/Chart.yaml"]) == release()["chart"]["metadata"]
    assert json.loads(made["release.json"]) == release()
    for name in ("../x", "/etc/x", "a/../../x"):
        chart = {**release()["chart"], "templates": [{"name": name, "data": ""}]}
        assert release_files.rebuilt(release(chart=chart)) == {}


def test_files_are_for_their_owner_and_replace_nothing(tmp_path):
    release_files.write(tmp_path / "r", {"values.yaml": b"x", "restore.sh": b"y"})
    assert (tmp_path / "r/values.yaml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "r/restore.sh").stat().st_mode & 0o777 == 0o700
    with pytest.raises(errors.TargetError):
        release_files.write(tmp_path / "r", {"values.yaml": b"z"})
    assert (tmp_path / "r/values.yaml").read_bytes() == b"x"


def test_the_difference_to_the_live_release_is_readable():
    """Chart, images, objects and values, the values without secrets; a changed secret is a change."""
    live = release(
        config={"image": {"tag": "3"}, "password": "new"},
        manifest=MANIFEST + "---\nkind: Job\nmetadata: {name: j}\n",
    )
    live["manifest"] += "---\nkind: Job\nmetadata:\n  name: k\n"
    live["chart"] = {**live["chart"], "metadata": {"name": "mine", "version": "2.0.0"}}
    kept = release(config={"image": {"tag": "2"}, "password": "old"})
    found = release_diff.compare(kept, live, {"Deployment/g/c": "g:1"}, {"Deployment/g/c": "g:2"}, Redactor())
    assert found.chart == ("mine 1.2.3 (app 4.5)", "mine 2.0.0 (app unknown)")
    assert found.images == (("Deployment/g/c", "g:1", "g:2"),)
    assert found.objects == ("+ Job k",)
    text = "\n".join(found.values)
    assert '-  tag: "2"' in text
    assert '+  tag: "3"' in text
    assert "old" not in text
    assert text.count("password") == 2
    assert release_diff.compare(kept, kept, {}, {}, Redactor()).same


def test_the_deployed_revision_counts_and_a_newer_one_is_told():
    def entry(revision, status, kind="release"):
        path = f"a/releases/secrets/sh.helm.release.v1.r.v{revision}"
        return EntryInfo(
            path, kind, 1, {"release": "r", "storage": "secrets", "revision": revision, "status": status}
        )

    found = release_reading.chosen(
        iter(
            [
                entry(1, "superseded"),
                entry(10, "failed"),
                entry(9, "deployed"),
                entry(11, "deployed", "broken-release"),
            ]
        )
    )
    assert [(one.revision, one.newest) for one in found] == [(9, (10, "failed"))]
    found = release_reading.chosen(iter([entry(1, "failed"), entry(2, "pending-install")]))
    assert [(one.revision, one.status, one.newest) for one in found] == [(2, "pending-install", None)]


@pytest.mark.parametrize(
    ("metadata", "by", "name"),
    [
        ({"ownerReferences": [{"kind": "ExternalSecret", "name": "db"}]}, "external-secrets", "db"),
        ({"labels": {"reconcile.external-secrets.io/managed": "true"}}, "external-secrets", ""),
        ({"ownerReferences": [{"kind": "SealedSecret", "name": "s"}]}, "sealed-secrets", "s"),
        ({"annotations": {"cert-manager.io/certificate-name": "gateway-tls"}}, "cert-manager", "gateway-tls"),
        ({"annotations": {"meta.helm.sh/release-name": "gateway"}}, "helm", "gateway"),
        (
            {"labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "x"}},
            "helm",
            "x",
        ),
        ({"ownerReferences": [{"kind": "Kafka", "name": "k"}]}, "owner", "Kafka/k"),
        ({}, "by hand", ""),
    ],
)
def test_where_a_secret_comes_from(metadata, by, name):
    found = secret_facts.origin(metadata)
    assert (found.by, found.name) == (by, name)
    assert found.way_back


def test_no_value_of_a_secret_is_in_its_facts():
    """Not even in the annotation in which kubectl keeps all of them."""
    value = base64.b64encode(b"hunter2-hunter2").decode()
    secret = {
        "metadata": {
            "name": "s",
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": f'{{"data":{{"k":"{value}"}}}}'
            },
        },
        "type": "Opaque",
        "data": {"k": value},
    }
    key = bytes(32)
    found = secret_facts.facts(secret, key)
    assert value not in json.dumps(found)
    assert "hunter2" not in json.dumps(found)
    assert found["keys"]["k"] == {
        "length": 15,
        "fingerprint": secret_facts.fingerprint(b"hunter2-hunter2", key),
    }
    assert secret_facts.facts(secret, b"\1" * 32)["keys"] != found["keys"]


def test_differences_of_secrets():
    """Missing, extra, changed keys, and a changed type."""

    def facts(kind="Opaque", **data):
        return secret_facts.facts({"metadata": {"name": "s"}, "type": kind, "data": data}, bytes(32))

    assert secret_facts.difference("n", facts(a="QQ=="), facts(a="QQ==")) is None
    assert secret_facts.difference("n", facts(), None).change == "missing"
    assert secret_facts.difference("n", None, facts()).change == "extra"
    found = secret_facts.difference("n", facts(a="QQ==", b="QQ=="), facts(b="Qg==", c="QQ=="))
    assert (found.change, found.missing, found.extra, found.changed) == ("changed", ("a",), ("c",), ("b",))
    assert secret_facts.difference("n", facts(), facts("kubernetes.io/tls")).change == "type"


@pytest.mark.parametrize(
    ("status", "deployed", "words"),
    [
        ("pending-upgrade", 4, "helm rollback r 4 --namespace n"),
        ("pending-install", None, "helm uninstall r --namespace n"),
        ("failed", 4, "helm rollback r 4 --namespace n"),
        ("superseded", None, "helm history r --namespace n"),
    ],
)
def test_the_way_out_of_a_release_that_is_not_deployed(status, deployed, words):
    state = State(Facts("r", "n", 5, status), deployed)
    check = helm_gate.judge("releases", "r", [("n", state)])
    assert check.state == "failed"
    assert words in check.hint


def test_the_gate_wants_a_release_that_is_there_and_deployed():
    assert helm_gate.judge("releases", "r", []).state == "failed"
    read = config.parse(
        "version: 1\nrepository: {url: file:///r}\nkeys: {k: {type: key-file, path: /k}}\n"
        "components: {releases: {kind: helm, namespaces: [n]}}\n"
    )
    # In Helm's hook a revision is always pending: who names no release asks nothing of it.
    assert helm_gate.facts(read, "releases", read.components["releases"], Question()) == []
    deployed, pending = (
        State(Facts("r", "n", 5, "deployed"), 5),
        State(Facts("r", "n", 6, "pending-upgrade"), 5),
    )
    assert helm_gate.judge("releases", "r", [("n", deployed)]).state == "ok"
    # With --hook the pending one is the upgrade that waits for the answer.
    assert helm_gate.judge("releases", "r", [("n", pending)], hook=True).state == "ok"
    assert helm_gate.judge("releases", "r", [("n", deployed)], hook=True).state == "failed"


def test_values_to_include_are_named_in_three_forms():
    read = config.SecretsConfig(
        kind="secrets",
        namespaces=["a"],
        include_values=["x", "y/k.1", {"name": "z", "namespace": "b", "keys": ["k"]}],
    )
    assert [(one.name, one.namespace, one.keys) for one in read.include_values] == [
        ("x", None, None),
        ("y", None, ["k.1"]),
        ("z", "b", ["k"]),
    ]
    for wrong in (
        {"namespaces": []},
        {"namespaces": ["A"]},
        {"namespaces": ["a", "a"]},
        {"namespaces": ["a"], "include_values": ["*"]},
    ):
        with pytest.raises(ValueError, match="validation error"):
            config.SecretsConfig(kind="secrets", **wrong)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_answer_moves_a_terminals_cursor(form, capsys):
    """Values come from elsewhere: what a terminal would obey is shown as an escape; JSON says the same value with it."""
    value = "red \x1b[31m, eight bits \x9b2J, turned \u202e, bell \x07"
    Context(output=form).emit({"value": value}, f"{value}\nsecond line\n")
    out = capsys.readouterr().out
    assert not any(harmful in out for harmful in "\x1b\x9b\u202e\x07")
    assert "\\u001b[31m" in out
    if form == "json":
        assert json.loads(out)["value"] == value
    else:
        assert out.endswith("second line\n")
