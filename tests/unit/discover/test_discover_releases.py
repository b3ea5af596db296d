"""``drctl discover`` where the workloads do not run or may not be read: Helm's releases know the platform as well."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import yaml

from dr_toolkit.cluster import faults
from dr_toolkit.config import parse
from dr_toolkit.jobs import discover
from dr_toolkit.jobs.proposal import Discovery
from dr_toolkit.reporting import discovered
from tests.unit.discover.stack import FakeApi, config_map, deployment

CONSOLE = deployment(
    "conduktor",
    "console",
    {
        "name": "conduktor-platform",
        "image": "conduktor/conduktor-console:1",
        "envFrom": [{"secretRef": {"name": "console-platform"}}],
        "volumeMounts": [{"name": "c", "mountPath": "/conduktor/config"}],
    },
    labels={"app.kubernetes.io/instance": "main"},
    volumes=[{"name": "c", "configMap": {"name": "console-config"}}],
)
DATABASE = {"host": "db.example", "port": 5433, "name": "conduktor", "username": "u", "password": "canary-1"}


def release(
    values: dict[str, Any],
    *objects: dict[str, Any],
    chart: dict[str, Any] | None = None,
    status: str = "deployed",
    revision: int = 1,
    name: str = "main",
    defaults: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A storage Secret as Helm writes it."""
    whole = {
        "name": name,
        "namespace": "conduktor",
        "version": revision,
        "info": {"status": status},
        "chart": {"metadata": chart or {"name": "console", "version": "1"}, "values": defaults or {}},
        "config": values,
        "manifest": "---\n".join(yaml.safe_dump(one) for one in objects),
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(whole).encode()))).decode()
    labels = {"owner": "helm", "name": name, "status": status, "version": str(revision)}
    return {
        "metadata": {"namespace": "conduktor", "name": f"sh.helm.release.v1.{name}.v{revision}", "labels": labels},
        "type": "helm.sh/release.v1",
        "data": {"release": packed},
    }  # fmt: skip


def made(kind: str, one: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object as a chart's manifest has it: without a namespace."""
    metadata = {key: value for key, value in one["metadata"].items() if key != "namespace"}
    return {"apiVersion": "v1", "kind": kind, **one, "metadata": metadata, **more}


def run(*secrets: dict[str, Any], forbidden: frozenset[str] = frozenset(), **objects: Any) -> Discovery:
    return discover.run(FakeApi({"secrets": list(secrets), **objects}, forbidden), ["conduktor"])


def connection(found: Discovery, name: str = "console-db") -> dict[str, Any]:
    printed = discovered.text(found)
    assert "canary" not in printed + json.dumps(discovered.document(found))
    parse(printed)
    plain: dict[str, Any] = next(c.plain() for c in found.components if c.name == name)["connection"]
    return plain


def test_a_release_without_workloads_is_read_from_its_manifest() -> None:
    """Deployment, ConfigMap and Secret were deleted: Helm's storage has all three, and what does not run is said so."""
    file = "database: {host: in-the-file, name: d}"
    found = run(
        release(
            {},
            made("Deployment", CONSOLE),
            made("ConfigMap", config_map("conduktor", "console-config", {"platform-config.yaml": file})),
            {
                "kind": "Secret",
                "metadata": {"name": "console-platform"},
                "stringData": {"CDK_DATABASE_USERNAME": "u", "CDK_DATABASE_PASSWORD": "canary-1"},
            },
        )
    )
    assert connection(found)["host"] == "in-the-file"
    assert connection(found)["user"] == "u"
    assert [(one.role, one.release, one.live) for one in found.members] == [("console", "main", False)]
    assert any("conduktor/console does not run" in line for line in found.all_missing)
    assert any("read from its Helm release" in line for line in found.all_missing)
    assert "(does not run)" in discovered.text(found)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"database": DATABASE}, {"host": "db.example", "port": 5433, "database": "conduktor", "user": "u"}),
        ({"database": {"url": "postgresql://u@h:1/d"}}, {"host": "h", "port": 1, "database": "d", "user": "u"}),
        ({"database": {"url": "jdbc:postgresql://h:1/d?user=u&password=canary-2"}}, {"url": "env:DR_CONSOLE_DB_URL"}),
        ({"database": {"hosts": [{"host": "a", "port": 1}, {"host": "b"}], "name": "d", "username": "u"}},
         {"hosts": ["a:1", "b:5432"], "database": "d", "user": "u"}),
        ({"database": {"host": "h", "name": "d", "username": "${WHO}"}}, {"host": "h", "port": 5432, "database": "d", "user": "not-found"}),
    ],
    ids=["fields", "url", "jdbc", "hosts", "expanded-in-the-pod"],
)  # fmt: skip
def test_every_form_of_the_databases_setting_in_values(
    values: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The values alone say where the database is, when neither ConfigMap nor Secret can be read."""
    forbidden = frozenset({"configmaps/console-config", "secrets/console-platform"})
    found = run(release({"config": values}), forbidden=forbidden, deployments=[CONSOLE])
    got = connection(found)
    assert {key: got.get(key) for key in expected} == expected
    assert ("password" in got) is ("password" in values["database"])
    if "password" in got:
        assert any("values of Helm release conduktor/main" in one.source for one in found.credentials)


def test_what_the_pod_sees_wins_over_values_and_the_users_over_the_charts() -> None:
    """Values fill gaps; and of the values the user's win over the chart's own."""
    container = {
        "name": "conduktor-platform",
        "image": "x",
        "env": [{"name": "CDK_DATABASE_HOST", "value": "seen"}],
    }
    live = deployment("conduktor", "console", container, labels={"app.kubernetes.io/instance": "main"})
    values = {"config": {"database": {"host": "values", "name": "of-the-user", "username": "u"}}}
    defaults = {"config": {"database": {"name": "of-the-chart", "port": 6000}}}
    got = connection(run(release(values, defaults=defaults), deployments=[live]))
    assert (got["host"], got["database"], got["port"]) == ("seen", "of-the-user", 6000)  # fmt: skip


def test_a_secret_of_ones_own_is_named_and_the_values_user_is_not_believed() -> None:
    """With ``existingSecret`` the chart takes user and password from there alone."""
    values = {
        "config": {"existingSecret": "mine", "database": {"host": "h", "name": "d", "username": "not-this"}},
        "monitoringConfig": {"existingSecret": "s3", "storage": {"s3": {"bucket": "b", "endpoint": "m:9000", "insecure": True}}},
    }  # fmt: skip
    cortex = deployment("conduktor", "cortex", {"name": "conduktor-platform-cortex", "image": "x"}, labels={"app.kubernetes.io/instance": "main"})  # fmt: skip
    found = run(release(values, made("Deployment", CONSOLE), made("Deployment", cortex)))
    assert connection(found)["user"] == "not-found"
    assert {one.source for one in found.credentials} == {
        "Secret conduktor/mine, key CDK_DATABASE_PASSWORD",
        "Secret conduktor/s3, key CDK_MONITORING_STORAGE_S3_ACCESSKEYID",
        "Secret conduktor/s3, key CDK_MONITORING_STORAGE_S3_SECRETACCESSKEY",
    }
    bucket = next(c.plain() for c in found.components if c.name == "cortex")
    assert (bucket["url"], bucket["s3"]["endpoint"]) == ("s3://b", "http://m:9000")


def test_the_deployed_revision_counts_else_the_newest_and_never_an_uninstalled_one() -> None:
    """As Helm itself would take them; what was uninstalled with its history kept is no platform."""
    one = [made("Deployment", CONSOLE)]
    revisions = [
        release({"config": {"database": {"host": f"h{number}"}}}, *one, status=status, revision=number)
        for number, status in ((1, "superseded"), (2, "deployed"), (3, "failed"))
    ]
    assert connection(run(*revisions))["host"] == "h2"
    assert connection(run(revisions[0], revisions[2]))["host"] == "h3"
    with pytest.raises(discover.NothingToDo):
        run(release({}, *one, status="uninstalled"))


def test_a_platform_inside_another_chart_is_found_under_its_alias() -> None:
    """An umbrella chart has the platform's values below the dependency's name or alias."""
    chart = {"name": "ours", "version": "1", "dependencies": [{"name": "console", "alias": "ui"}]}
    values = {"ui": {"config": {"database": {"host": "inside", "name": "d", "username": "u"}}}}
    assert connection(run(release(values, made("Deployment", CONSOLE), chart=chart)))["host"] == "inside"


def test_gateways_topics_are_named_by_its_releases_values() -> None:
    """Also where its ConfigMap cannot be read."""
    container = {
        "name": "gateway",
        "image": "conduktor/conduktor-gateway:3",
        "env": [{"name": "GATEWAY_CLUSTER_ID", "valueFrom": {"configMapKeyRef": {"name": "gw", "key": "x"}}}],
    }
    one = deployment("conduktor", "gw", container, labels={"app.kubernetes.io/instance": "gw"})
    values = {"gateway": {"env": {"GATEWAY_CLUSTER_ID": "edge"}}}
    chart = {"name": "conduktor-gateway", "version": "3"}
    found = run(release(values, made("Deployment", one), chart=chart, name="gw"))
    assert "_conduktor_edge_acls" in found.topics


def test_what_may_not_be_listed_is_named_and_the_rest_goes_on() -> None:
    """Without Deployments there are the releases, without releases the Deployments; without both it is an error with the rule."""
    values = {"config": {"database": {"host": "h"}}}
    found = run(release(values, made("Deployment", CONSOLE)), forbidden=frozenset({"deployments/*"}))
    assert connection(found)["host"] == "h"
    assert any(line.startswith("Deployments of conduktor: we may not list") for line in found.all_missing)
    found = run(forbidden=frozenset({"secrets/*"}), deployments=[CONSOLE])
    assert any(
        "Helm's releases in secrets of conduktor: we may not list" in line for line in found.all_missing
    )
    with pytest.raises(faults.Forbidden):
        run(forbidden=frozenset({"secrets/*", "deployments/*", "configmaps/*"}))


def test_a_broken_release_hides_no_other() -> None:
    """Its payload is damaged; the next one is read."""
    broken = release({})
    broken["data"]["release"] = base64.b64encode(b"H4sI-broken").decode()
    good = release({"config": {"database": {"host": "h"}}}, made("Deployment", CONSOLE), revision=2)
    assert connection(run(broken, good))["host"] == "h"
