"""What the doctor says of a configuration, of clocks, of locks, of rights and of what a platform loses. No server is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from dr_toolkit import config, errors
from dr_toolkit.cluster import platform_facts, quotas, rights
from dr_toolkit.cluster.helm_storage import Facts
from dr_toolkit.cluster.platform_facts import Known
from dr_toolkit.cluster.releases import State
from dr_toolkit.cluster.rights import Need
from dr_toolkit.cluster.secret_facts import Origin
from dr_toolkit.jobs import doctor_cluster, doctor_scratch, findings
from dr_toolkit.reporting import doctor_text

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def read(keys: str, more: str = "", repository: str = "{url: file:///srv/repository}"):
    text = f"version: 1\nrepository: {repository}\nkeys:\n{keys}\ncomponents:\n  releases: {{kind: helm, namespaces: [a, b]}}\n{more}"
    return config.parse(text)


def said(found, level):
    return [one.what for one in found if one.level == level]


def test_a_recipient_without_a_role_and_one_type_alone_are_warned_of():
    """What each costs is said."""
    found = list(findings.of_configuration(read("  k: {type: key-file, path: /k}")))
    warned = said(found, "warning")
    assert any("has no role" in what for what in warned)
    assert any("of type key-file" in what for what in warned)
    assert any("trust is not set" in what for what in warned)
    assert all(one.why and one.todo for one in found if one.level != "ok")
    assert findings.exit_code(found) == 0


def test_two_types_with_roles_and_a_pin_are_fine():
    keys = """\
  w: {type: key-file, role: write, path: /w}
  r: {type: key-file, role: read, path: /r}
  v: {type: vault, role: read, address: "https://v:8200", transit_key: x, auth: {method: token, token: "env:T"}}"""
    found = list(findings.of_configuration(read(keys, repository='{url: "s3://b/p", trust: "ed25519:AAAA"}')))
    assert said(found, "warning") == []
    assert said(found, "failed") == []


def test_a_backup_jobs_configuration_cannot_read_and_that_is_right():
    found = list(findings.of_roles(read("  w: {type: key-file, role: write, path: /w}").keys))
    assert [(one.level, one.what) for one in found] == [("note", "no recipient here can read")]


def test_a_key_inside_the_repository_fails():
    """A copy of the repository would bring its key along."""
    found = list(
        findings.of_configuration(read("  k: {type: key-file, role: read, path: /srv/repository/k}"))
    )
    assert len(said(found, "failed")) == 1
    assert findings.exit_code(found) == 1


@pytest.mark.parametrize(("seconds", "level"), [(-59, "ok"), (61, "warning"), (-3600, "warning")])
def test_clocks_are_compared_both_ways(seconds, level):
    assert findings.of_clock("cluster", "it", NOW + timedelta(seconds=seconds), NOW).level == level
    assert findings.of_clock("cluster", "it", None, NOW).level == "note"


@pytest.mark.parametrize(
    ("versioning", "mode", "days", "level", "words"),
    [
        (True, "COMPLIANCE", 30, "ok", "locks"),
        (True, "GOVERNANCE", 30, "note", "GOVERNANCE"),
        (True, "", 0, "warning", "no default retention"),
        (False, "", 0, "warning", "no versions"),
        (None, "", 0, "warning", "does not say"),
    ],
)
def test_object_lock(versioning, mode, days, level, words):
    found = findings.of_lock("s3://b", versioning=versioning, mode=mode, days=days)
    assert (found.level, words in found.what) == (level, True)


@pytest.mark.parametrize(
    ("rule", "gives"),
    [
        ({"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]}, True),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}, False),
        ({"verbs": ["list"], "apiGroups": ["apps"], "resources": ["secrets"]}, False),
        ({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}, False),
        ({"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]}, False),
        ({"verbs": None}, False),
    ],
)
def test_rules_are_read_as_rbac_reads_them(rule, gives):
    """A rule for one name lets nobody list."""
    assert rights.covers([rule], Need("a", "", "secrets", "list")) is gives


def test_a_subresource_has_a_wildcard_of_its_own():
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}
    assert rights.covers([rule], Need("a", "", "pods/log", "get"))
    assert not rights.covers([rule], Need("a", "", "pods", "get"))


def test_needed_rights_are_those_of_the_components_and_no_more():
    """Each once, for each namespace; nothing of Secrets' driver where ConfigMaps are configured, and no verb but list."""
    found = doctor_cluster.needed(
        read("  k: {type: key-file, path: /k}", "  s: {kind: secrets, namespaces: [b, c]}\n")
    )
    assert {one.verb for one in found} == {"list"}
    assert [one.namespace for one in found if one.resource == "secrets"] == ["a", "b", "c"]
    assert [one.namespace for one in found if one.resource == "pods"] == ["a", "b"]
    assert found[0].rule == '- {apiGroups: [""], resources: ["configmaps"], verbs: ["list"]}'


def test_scratch_rights_are_those_of_the_manifest():
    """What the doctor asks for is what `kubectl apply` gives."""
    manifest = Path(__file__).parents[2] / "k8s-cronjobs/scratch-rights.yaml"
    role = next(
        one for one in yaml.safe_load_all(manifest.read_text("utf-8")) if one["kind"] == "ClusterRole"
    )
    given = {
        (g, r, v)
        for rule in role["rules"]
        for g in rule["apiGroups"]
        for r in rule["resources"]
        for v in rule["verbs"]
    }
    assert {row[:3] for row in rights.SCRATCH} == given


@pytest.mark.parametrize(
    ("minor", "level"),
    [("36", "ok"), ("34+", "ok"), ("37", "ok"), ("33", "warning"), ("38", "warning"), ("", "warning")],
)
def test_versions_of_the_api_server(minor, level):
    assert (
        doctor_cluster.of_version("it", {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}"}).level
        == level
    )


def test_a_stuck_release_fails_with_the_way_out():
    found = doctor_cluster.of_release("n", State(Facts("r", "n", 5, "pending-upgrade"), 4))
    assert found.level == "failed"
    assert "helm rollback r 4 --namespace n" in found.todo
    assert doctor_cluster.of_release("n", State(Facts("r", "n", 5, "failed"), 4)).level == "warning"


def test_values_without_which_a_platform_is_lost_are_asked_for():
    """The signing key that a chart made, the truststore that a script made, the root; not what an operator makes again."""
    secrets = [
        Known("c", "gw-secret", ("GATEWAY_USER_POOL_SECRET_KEY", "X"), Origin("helm", "gw")),
        Known("c", "es", ("GATEWAY_USER_POOL_SECRET_KEY",), Origin("external-secrets", "x")),
        Known("c", "bundle-truststore", ("truststore.jks",), Origin("by hand")),
        Known("c", "gateway-tls-secret", ("truststore.jks", "tls.key"), Origin("cert-manager", "x")),
        Known("cert-manager", "root-ca-secret", ("tls.key", "tls.crt"), Origin("cert-manager", "root")),
        Known("c", "other", ("password",), Origin("by hand")),
    ]
    found = platform_facts.irreplaceable(secrets, lambda *_: False)
    assert [one.reference for one in found] == [
        "{name: gw-secret, namespace: c, keys: [GATEWAY_USER_POOL_SECRET_KEY]}",
        "{name: bundle-truststore, namespace: c, keys: [truststore.jks]}",
        "{name: root-ca-secret, namespace: cert-manager}",
    ]
    assert platform_facts.irreplaceable(secrets, lambda *_: True) == []
    for one in found:  # what it asks for is what the configuration takes
        read(
            "  k: {type: key-file, path: /k}",
            f"  s: {{kind: secrets, namespaces: [c], include_values: [{one.reference}]}}\n",
        )


def test_gateways_topics_are_named_as_its_environment_names_them():
    topics = platform_facts.gateway_topics()
    assert len(topics) == 12
    assert "_conduktor_gateway_encryption_keys" in topics
    own = platform_facts.gateway_topics({"GATEWAY_CLUSTER_ID": "edge", "GATEWAY_ACLS_TOPIC": "my-acls"})
    assert "_conduktor_edge_license" in own
    assert "my-acls" in own
    assert "_conduktor_edge_acls" not in own
    finding = doctor_cluster.topics({}, known=False)
    assert "nothing here protects them" in finding.what
    said = doctor_text.text([finding])
    assert max(len(line) for line in said.split("why:")[0].splitlines()) <= 120
    assert all(topic in said for topic in topics)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1500m", "1.5"), ("2", "2"), ("1Gi", str(2**30)), ("1G", str(10**9)), ("1.5Ki", "1536"), ("1e3", "1000"),
     ("12E", str(12 * 10**18)), ("100u", "0.0001"), ("-1", "-1"), ("", None), ("much", None), ("1.2.3", None), ("1Gb", None)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_writes_them(text, number):
    assert quotas.amount(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        ({}, ""),
        ({"limits.memory": "2Gi", "requests.cpu": "2", "pods": "1"}, ""),
        ({"services": "0", "count/configmaps": "1"}, ""),
        ({"limits.memory": "1Gi"}, "limits.memory 1Gi, and 2Gi is needed"),
        ({"cpu": "1999m"}, "cpu 1999m, and 2 is needed"),
        ({"count/pods": "0"}, "count/pods 0, and 1 is needed"),
        ({"limits.cpu": "8"}, "limits.cpu, which its containers do not say"),
        ({"requests.storage": "1Gi"}, "requests.storage 1Gi, and 20Gi is needed"),
    ],
)
def test_a_scratch_quota_that_refuses_its_own_pod_is_named(quota, words):
    """Two containers of 1 CPU and 1 GiB, and a volume of 20 GiB."""
    wanted = config.ScratchNamespaceConfig(
        image=f"r/d@sha256:{'1' * 64}", storage_class="fast", size="20Gi", quota=quota
    )
    found = doctor_scratch.of_quota(wanted, containers=2)
    assert (found.level, words in found.what) == ("failed" if words else "ok", True)


def test_a_quota_that_is_used_up_is_named_with_what_fills_it():
    """Only what a Pod takes: a full count of Services keeps no Job from running."""
    full = {
        "metadata": {"name": "q"},
        "status": {"hard": {"pods": "2", "services": "1"}, "used": {"pods": "2", "services": "1"}},
    }
    free = {
        "metadata": {"name": "f"},
        "status": {"hard": {"requests.memory": "2Gi"}, "used": {"requests.memory": "1024Mi"}},
    }
    found = list(doctor_scratch.of_quotas("n", [full, free, {"metadata": {"name": "new"}}]))
    assert [(one.level, one.what) for one in found] == [
        ("warning", 'quota "q" of namespace "n" is used up: pods 2 of 2'),
        ("ok", '2 quotas of namespace "n" leave room for another Pod'),
    ]  # fmt: skip


def test_labels_that_a_webhook_changes_and_classes_that_make_no_volume():
    asked = {"drctl/scratch": "true", "pod-security.kubernetes.io/enforce": "restricted"}
    assert doctor_scratch.of_labels(asked, asked | {"kubernetes.io/metadata.name": "x"}).level == "ok"
    changed = doctor_scratch.of_labels(asked, asked | {"pod-security.kubernetes.io/enforce": "privileged"})
    assert (changed.level, "enforce=privileged" in changed.what) == ("failed", True)
    assert doctor_scratch.of_storage_class("x", None).level == "failed"
    assert (
        doctor_scratch.of_storage_class("x", {"provisioner": "kubernetes.io/no-provisioner"}).level
        == "warning"
    )
    assert doctor_scratch.of_storage_class("x", {"provisioner": "ebs.csi.aws.com"}).level == "ok"


def test_a_scratch_section_is_looked_at_also_where_it_is_not_the_usual_way():
    """`--in namespace` needs its rights, whatever verify.scratch says."""
    image = f"r/d@sha256:{'1' * 64}"
    found = read("  k: {type: key-file, path: /k}", f"verify: {{namespace: {{image: '{image}'}}}}\n")
    assert any(one.resource == "jobs" for one in doctor_cluster.needed(found))


def test_a_repository_that_takes_no_write_fails_where_backups_are_taken():
    """On a machine that only restores, a read-only copy is as good as any."""
    error = errors.StoreUnreachable("cannot use file:///r: permission denied", hint="look at its owner")
    assert findings.of_no_write(error, backs_up=True).level == "failed"
    found = findings.of_no_write(error, backs_up=False)
    assert (found.level, found.todo) == ("warning", "look at its owner")


def test_a_directory_is_known_by_its_url_whatever_its_name(tmp_path):
    """A space or a percent sign in it is written as URLs have it, and the key file inside is found all the same."""
    place = tmp_path / "my 100% copy"
    found = read(
        f'  k: {{type: key-file, path: "{place}/k.key"}}',
        repository=f'{{url: "file://{tmp_path}/my%20100%25%20copy"}}',
    )
    assert found.repository.directory == place
    assert any("lies in the repository" in what for what in said(findings.of_configuration(found), "failed"))
    assert read("  k: {type: key-file, path: k}", repository="{url: s3://b/p}").repository.directory is None
