"""The control plane of the tests does what later tests rest on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devstack import kube_assets
from devstack.kube import ControlPlane
from devstack.kube_api import KubeError
from dr_toolkit.errors import ProgramError

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pod(name: str) -> dict:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/x:1"}]},
    }


def test_version_is_the_one_asked_for(control_plane: ControlPlane) -> None:
    """What runs reports exactly the version of this test run."""
    version = control_plane.get("/version")

    assert version["gitVersion"] == f"v{control_plane.release.kubernetes}"
    assert f"{version['major']}.{version['minor']}" == control_plane.release.minor


def test_service_account_has_only_its_rights(control_plane: ControlPlane, namespace: str) -> None:
    """RBAC is on: a rule that was not given is refused, and so is another namespace."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    token = control_plane.make_service_account(namespace, "reader", rules)

    assert (
        control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods", token=token)["kind"] == "PodList"
    )
    for path in (f"/api/v1/namespaces/{namespace}/secrets", "/api/v1/namespaces/default/pods"):
        with pytest.raises(KubeError) as refused:
            control_plane.request("GET", path, token=token)
        assert refused.value.status == 403


def test_controllers_run(control_plane: ControlPlane, namespace: str) -> None:
    """A Job gets a Pod, and a deleted namespace ends with what is in it."""
    job = {
        "metadata": {"name": "work"},
        "spec": {"template": {"spec": pod("x")["spec"] | {"restartPolicy": "Never"}}},
    }
    control_plane.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)

    pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3Dwork"
    control_plane.wait_for(pods, "made", lambda found: found["items"])
    control_plane.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/work")
    control_plane.delete(f"/api/v1/namespaces/{namespace}")
    control_plane.wait_for(f"/api/v1/namespaces/{namespace}", "gone", lambda found: found is None)


def test_restricted_namespace_refuses_a_root_pod(
    control_plane: ControlPlane, new_namespace: Callable[..., str]
) -> None:
    """Pod Security is enforced where the namespace's label says so."""
    place = new_namespace(labels=RESTRICTED)

    with pytest.raises(KubeError, match='violates PodSecurity "restricted'):
        control_plane.create(f"/api/v1/namespaces/{place}/pods", pod("root"))


def test_missing_programs_are_named(tmp_path, monkeypatch) -> None:
    """Where nothing was built, the answer is what to run, not a skipped test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)

    with pytest.raises(ProgramError) as missing:
        kube_assets.program("etcd")
    assert missing.value.hint == "run make kube-assets"


def test_envtest_assets_come_first(tmp_path, monkeypatch) -> None:
    """Programs in KUBEBUILDER_ASSETS are taken, and others still come from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "envtest"))
    cached = tmp_path / "cache" / "drctl-kube" / kube_assets.PINNED.kubernetes
    for place, names in ((tmp_path / "envtest", ["etcd"]), (cached, ["etcd", "kubectl"])):
        place.mkdir(parents=True)
        for name in names:
            place.joinpath(name).touch()

    assert kube_assets.program("etcd") == tmp_path / "envtest" / "etcd"
    assert kube_assets.program("kubectl") == cached / "kubectl"
