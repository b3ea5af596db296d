"""The states of releases that other tests read are made by the real Helm 3 and Helm 4."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.helm import Helm
from devstack.kube import ControlPlane
from dr_toolkit.errors import ProgramError

CHARTS = Path(__file__).parent / "charts"
CONSOLE = {
    "config": {
        "organization": {"name": "acme"},
        "admin": {"email": "admin@example.invalid", "password": "helm-admin-password"},
        "database": {"url": "postgresql://conduktor:helm-db-password@main-postgresql:5432/conduktor"},
        "license": "helm-license",
    }
}


def test_release_passes_through_every_state(control_plane: ControlPlane, namespace: str, helm: Helm) -> None:
    """Installed, upgraded, failed, rolled back, and left pending by a kill in the middle."""
    chart = CHARTS / "console"
    helm.install("main", chart, namespace, CONSOLE)
    helm.upgrade("main", chart, namespace, CONSOLE | {"platform": {"replicas": 2}})
    with pytest.raises(ProgramError):
        helm.upgrade("main", chart, namespace, CONSOLE, "--wait", "--timeout", "1s")
    helm.rollback("main", 1, namespace)
    helm.upgrade_killed("main", chart, namespace, CONSOLE)

    states = [revision["status"] for revision in helm.history("main", namespace)]
    assert states == ["superseded", "superseded", "failed", "deployed", "pending-upgrade"]
    secrets = control_plane.get(f"/api/v1/namespaces/{namespace}/secrets?labelSelector=owner%3Dhelm")["items"]
    assert {secret["type"] for secret in secrets} == {"helm.sh/release.v1"}
    assert len(secrets) == 5


def test_signing_key_is_kept_over_an_upgrade(control_plane: ControlPlane, namespace: str, helm: Helm) -> None:
    """Gateway's chart keeps its generated key only because it finds the Secret again, as the real one."""
    chart = CHARTS / "conduktor-gateway"
    path = f"/api/v1/namespaces/{namespace}/secrets/edge-conduktor-gateway-secret"
    helm.install("edge", chart, namespace, {"gateway": {"env": {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}}})
    first = control_plane.get(path)["data"]["GATEWAY_USER_POOL_SECRET_KEY"]
    helm.upgrade("edge", chart, namespace)
    kept = control_plane.get(path)["data"]["GATEWAY_USER_POOL_SECRET_KEY"]
    control_plane.delete(path)
    helm.upgrade("edge", chart, namespace)

    assert kept == first
    assert control_plane.get(path)["data"]["GATEWAY_USER_POOL_SECRET_KEY"] != first


def test_configmap_driver(control_plane: ControlPlane, namespace: str, helm: Helm) -> None:
    """Releases can lie in ConfigMaps instead of Secrets."""
    helm.install("main", CHARTS / "console", namespace, CONSOLE, driver="configmap")

    found = control_plane.get(f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=owner%3Dhelm")[
        "items"
    ]
    assert [item["metadata"]["name"] for item in found] == ["sh.helm.release.v1.main.v1"]
