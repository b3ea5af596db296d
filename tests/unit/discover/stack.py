"""The shape of the reference architecture's local stack, as the API server would give it, and an API that serves it.

The API is a fake of four kinds of object; the same command runs against a real API server in tests/kube/test_discover.py.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

from dr_toolkit.cluster import faults, paths

CONSOLE_YAML = """
organization: {name: demo}
database:
  host: main-postgresql.cdk-deps.svc.cluster.local
  port: 5432
  name: conduktor
kafkasql:
  database:
    host: sql-postgresql.cdk-deps.svc.cluster.local
    port: 5432
    name: conduktor
    username: ignored
clusters: []
sso:
  oauth2:
    - {name: keycloak, client-id: "${SSO_CLIENT_ID}", client-secret: "${SSO_CLIENT_SECRET}"}
"""

SECRET_VALUES = {
    "CDK_DATABASE_PASSWORD": "canary-main-password",
    "CDK_KAFKASQL_DATABASE_PASSWORD": "canary-sql-password",
    "CDK_MONITORING_STORAGE_S3_SECRETACCESSKEY": "canary-s3-secret",
    "GATEWAY_USER_POOL_SECRET_KEY": "canary-pool-key",
}


def secret(namespace: str, name: str, data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"namespace": namespace, "name": name, **metadata}, "data": encoded}


def config_map(namespace: str, name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def deployment(
    namespace: str,
    name: str,
    container: dict[str, Any],
    *,
    labels: dict[str, str] | None = None,
    volumes: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels or {}},
        "spec": {"template": {"spec": {"containers": [container], "volumes": volumes or []}}},
    }


def stack() -> dict[str, list[dict[str, Any]]]:
    """Fresh objects by kind."""
    console = {
        "name": "conduktor-platform",
        "image": "docker.io/conduktor/conduktor-console:1.36.1",
        "env": [{"name": "CDK_IN_CONF_FILE", "value": "/conduktor/config/platform-config.yaml"}],
        "envFrom": [{"secretRef": {"name": "console-secrets"}}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/conduktor/config"},
            {"name": "truststore", "mountPath": "/opt/conduktor/ssl"},
        ],
    }
    cortex = {
        "name": "conduktor-platform-cortex",
        "image": "docker.io/conduktor/conduktor-console-cortex:1.36.1",
        "envFrom": [
            {"configMapRef": {"name": "conduktor-console-cortex"}},
            {"secretRef": {"name": "console-cortex-secrets"}},
        ],
    }
    gateway = {
        "name": "gateway",
        "image": "docker.io/conduktor/conduktor-gateway:3.11.0",
        "env": [{"name": "GATEWAY_ACLS_TOPIC", "value": "our_acls"}],
        "envFrom": [{"secretRef": {"name": "gateway-secrets"}}],
    }
    objects: dict[str, list[dict[str, Any]]] = {
        "deployments": [
            deployment(
                "conduktor",
                "conduktor-console",
                console,
                labels={
                    "app.kubernetes.io/component": "conduktor-platform",
                    "app.kubernetes.io/instance": "conduktor-console",
                },
                volumes=[
                    {"name": "config", "configMap": {"name": "conduktor-console-platform"}},
                    {"name": "truststore", "secret": {"secretName": "bundle-truststore"}},
                ],
            ),
            deployment("conduktor", "conduktor-console-cortex", cortex),
            deployment(
                "conduktor",
                "conduktor-gateway",
                gateway,
                labels={"app.kubernetes.io/name": "conduktor-gateway", "app.kubernetes.io/instance": "gw"},
            ),
            deployment("conduktor", "something-else", {"name": "app", "image": "nginx:1"}),
        ],
        "statefulsets": [
            {
                "metadata": {"namespace": "cdk-deps", "name": "main-postgresql"},
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [{"name": "postgresql"}],
                            "volumes": [
                                {"name": "raw-certificates", "secret": {"secretName": "pg-main-crt-secret"}}
                            ],
                        }
                    }
                },
            }
        ],
        "configmaps": [
            config_map("conduktor", "conduktor-console-platform", {"platform-config.yaml": CONSOLE_YAML}),
            config_map(
                "conduktor",
                "conduktor-console-cortex",
                {
                    "CDK_MONITORING_STORAGE_S3_ENDPOINT": "s3-minio.cdk-deps.svc.cluster.local:9000",
                    "CDK_MONITORING_STORAGE_S3_BUCKET": "conduktor-monitoring",
                    "CDK_MONITORING_STORAGE_S3_INSECURE": "true",
                },
            ),
        ],
        "secrets": [
            secret(
                "conduktor",
                "console-secrets",
                {
                    "CDK_DATABASE_USERNAME": "postgres",
                    "CDK_DATABASE_PASSWORD": SECRET_VALUES["CDK_DATABASE_PASSWORD"],
                    "CDK_KAFKASQL_DATABASE_USERNAME": "postgres",
                    "CDK_KAFKASQL_DATABASE_PASSWORD": SECRET_VALUES["CDK_KAFKASQL_DATABASE_PASSWORD"],
                    "SSO_CLIENT_ID": "id",
                    "SSO_CLIENT_SECRET": "canary-sso",
                },
            ),
            secret(
                "conduktor",
                "console-cortex-secrets",
                {
                    "CDK_MONITORING_STORAGE_S3_ACCESSKEYID": "admin",
                    "CDK_MONITORING_STORAGE_S3_SECRETACCESSKEY": SECRET_VALUES[
                        "CDK_MONITORING_STORAGE_S3_SECRETACCESSKEY"
                    ],
                },
            ),
            secret(
                "conduktor",
                "gateway-secrets",
                {"GATEWAY_USER_POOL_SECRET_KEY": SECRET_VALUES["GATEWAY_USER_POOL_SECRET_KEY"]},
            ),
            secret("conduktor", "bundle-truststore", {"truststore.jks": "binary"}),
        ],
    }
    return objects


class FakeApi:
    """Serves objects; ``forbidden`` names those that may not be read (``secrets/console-secrets``)."""

    def __init__(
        self, objects: dict[str, list[dict[str, Any]]], forbidden: frozenset[str] = frozenset()
    ) -> None:
        self._objects = copy.deepcopy(objects)
        self._forbidden = forbidden

    def get(self, path: str) -> dict[str, Any]:
        place = paths.place_of(path)
        assert place is not None
        if f"{place.resource}/{place.name}" in self._forbidden:
            rule = paths.rule("get", place.group, place.resource)
            raise faults.Forbidden("not allowed", rule=rule, on=str(place), hint="")
        for found in self._objects.get(place.resource, []):
            if (found["metadata"]["namespace"], found["metadata"]["name"]) == (place.namespace, place.name):
                return found
        raise faults.NotFound("not found", on=str(place))

    def pages(
        self, path: str, *, query: dict[str, str] | None = None, **_more: Any
    ) -> Iterator[list[dict[str, Any]]]:
        place = paths.place_of(path)
        assert place is not None
        if f"{place.resource}/*" in self._forbidden:
            rule = paths.rule("list", place.group, place.resource)
            raise faults.Forbidden("not allowed", rule=rule, on=str(place), hint="")
        owned = "owner=helm" in (query or {}).get("labelSelector", "")
        for found in self._objects.get(place.resource, []):
            if owned != ((found["metadata"].get("labels") or {}).get("owner") == "helm"):
                continue
            if place.namespace in {"", found["metadata"]["namespace"]}:
                yield [found]
