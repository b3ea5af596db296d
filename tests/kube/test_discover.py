"""``drctl discover`` on a real API server, with releases that the real Helm installed, and just the rights that it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devstack.helm import Helm
from devstack.kube import ControlPlane
from dr_toolkit.config import parse
from tests.kube.conftest import CHARTS

DRCTL = Path(sys.executable).with_name("drctl")
CANARIES = ["canary-main", "canary-sql", "canary-s3", "canary-sso"]
RULES = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
    {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list"]},
]
"""What docs/permissions.md says that discover needs."""


def console_values(databases: str) -> dict[str, Any]:
    """The shape of the reference architecture's values: Secrets of one's own, databases in another namespace."""
    return {
        "config": {
            "existingSecret": "console-secrets",
            "database": {
                "host": f"main-postgresql.{databases}.svc.cluster.local",
                "port": 5432,
                "name": "conduktor",
            },
            "kafkasql": {
                "database": {
                    "host": f"sql-postgresql.{databases}.svc.cluster.local",
                    "port": 5432,
                    "name": "conduktor",
                }
            },
        },
        "monitoringConfig": {
            "existingSecret": "console-cortex-secrets",
            "storage": {
                "s3": {
                    "endpoint": f"s3-minio.{databases}.svc.cluster.local:9000",
                    "bucket": "metrics",
                    "insecure": True,
                }
            },
        },
    }


@pytest.fixture
def platform(control_plane: ControlPlane, new_namespace: Callable[..., str], helm3: Helm) -> tuple[str, str]:
    """A platform's namespace, and that of its databases."""
    namespace, databases = new_namespace(), new_namespace()
    secrets = {
        "console-secrets": {
            "CDK_DATABASE_USERNAME": "postgres",
            "CDK_DATABASE_PASSWORD": "canary-main",
            "CDK_KAFKASQL_DATABASE_USERNAME": "postgres",
            "CDK_KAFKASQL_DATABASE_PASSWORD": "canary-sql",
            "SSO_CLIENT_SECRET": "canary-sso",
        },
        "console-cortex-secrets": {
            "CDK_MONITORING_STORAGE_S3_ACCESSKEYID": "admin",
            "CDK_MONITORING_STORAGE_S3_SECRETACCESSKEY": "canary-s3",
        },
    }
    for name, values in secrets.items():
        control_plane.create(
            f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": name}, "stringData": values}
        )
    control_plane.create(f"/apis/apps/v1/namespaces/{databases}/statefulsets", database("main-postgresql"))
    helm3.install("conduktor-console", CHARTS / "console", namespace, console_values(databases))
    helm3.install("conduktor-gateway", CHARTS / "conduktor-gateway", namespace)
    return namespace, databases


def database(name: str) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "postgresql", "image": "example.invalid/postgresql:17"}],
                    "volumes": [{"name": "raw-certificates", "secret": {"secretName": "pg-main-crt-secret"}}],
                },
            },
        },
    }


def discover(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DRCTL), "discover", "--kubeconfig", str(kubeconfig), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def identity(control_plane: ControlPlane, tmp_path: Path, namespaces: tuple[str, ...]) -> Path:
    """A kubeconfig with the rights of docs/permissions.md in these namespaces, and no others."""
    token = control_plane.make_service_account(namespaces[0], "discoverer", RULES)
    for other in namespaces[1:]:
        control_plane.grant(namespaces[0], "discoverer", RULES, on=other)
    return control_plane.write_kubeconfig(tmp_path / "kubeconfig", token)


def test_a_platform_is_found_with_just_these_rights(
    control_plane: ControlPlane, platform: tuple[str, str], tmp_path: Path
) -> None:
    """A configuration that `config check` accepts, with databases, TLS, bucket, releases and the generated key; and no secret in it.

    The same from Helm's releases alone, after the workloads were deleted.
    """
    namespace, databases = platform
    done = discover(identity(control_plane, tmp_path, platform), "-n", namespace, "--output", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [m["role"] for m in found["platform"]] == ["console", "cortex", "gateway"]
    connection = found["components"]["console-db"]["connection"]
    assert connection["host"] == f"main-postgresql.{databases}.svc.cluster.local"
    assert (connection["user"], connection["sslmode"]) == ("postgres", "verify-full")
    assert found["components"]["cortex"]["url"] == "s3://metrics"
    assert any(
        "GATEWAY_USER_POOL_SECRET_KEY" in str(item)
        for item in found["components"]["secrets"]["include_values"]
    )
    assert len(found["gateway_topics"]) == 12
    assert not [canary for canary in CANARIES if canary in done.stdout + done.stderr]
    assert {"console-db", "sql-db", "cortex", "releases", "secrets"} == set(parse(found["config"]).components)
    checked = subprocess.run(
        [str(DRCTL), "-c", "/dev/stdin", "config", "check"],
        input=found["config"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the configuration is valid" in checked.stdout
    assert any(line.startswith("sql-db: whether the server has TLS") for line in found["missing"])
    for name in ("conduktor-console", "conduktor-console-cortex", "conduktor-gateway"):
        control_plane.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    control_plane.delete(f"/api/v1/namespaces/{namespace}/configmaps/conduktor-console-platform")
    again = discover(tmp_path / "kubeconfig", "-n", namespace, "--output", "json")
    assert again.returncode == 0, again.stderr
    lost = json.loads(again.stdout)
    assert [(m["role"], m["live"]) for m in lost["platform"]] == [
        ("console", False),
        ("cortex", False),
        ("gateway", False),
    ]
    assert lost["components"] == found["components"]
    assert lost["gateway_topics"] == found["gateway_topics"]
    assert not [canary for canary in CANARIES if canary in again.stdout + again.stderr]


def test_what_may_not_be_read_is_named(
    control_plane: ControlPlane, platform: tuple[str, str], tmp_path: Path
) -> None:
    """Without a right to Secrets it says which rule is missing, and still prints a configuration."""
    namespace, _ = platform
    rules = [RULES[0], {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    token = control_plane.make_service_account(namespace, "poor", rules)
    done = discover(control_plane.write_kubeconfig(tmp_path / "poor", token), "-n", namespace)
    assert done.returncode == 0, done.stderr
    assert f"Secret {namespace}/console-secrets: we may not read it" in " ".join(
        done.stdout.replace("#", " ").split()
    )
    parse(done.stdout)


def test_an_empty_namespace_is_no_success(control_plane: ControlPlane, namespace: str) -> None:
    """Nothing found is exit code 1, with what to do."""
    done = discover(control_plane.kubeconfig, "-n", namespace)
    assert done.returncode == 1
    assert "no Conduktor Console and no Gateway was found" in done.stderr


def test_without_a_way_to_the_cluster_it_is_wrong_usage(tmp_path: Path) -> None:
    """No traceback, and exit code 2."""
    done = discover(tmp_path / "missing")
    assert done.returncode == 2
    assert "no way to the Kubernetes API" in done.stderr
    assert "Traceback" not in done.stderr
