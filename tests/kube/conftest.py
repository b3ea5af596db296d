"""A real control plane for every test here, started when the first asks for it.

Where its programs are missing the tests fail with "run make kube-assets": they are never skipped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from devstack import kube_assets
from devstack.helm import Helm
from devstack.kube import ControlPlane
from devstack.kubelet import Kubelet

CHARTS = Path(__file__).parent / "charts"


@pytest.fixture(scope="session")
def control_plane(servers_root: Path) -> Iterator[ControlPlane]:
    """One control plane for the whole run; tests keep apart by namespaces of their own."""
    with ControlPlane(servers_root / "kube") as server:
        yield server


@pytest.fixture(scope="session")
def kubelet(control_plane: ControlPlane) -> Iterator[Kubelet]:
    """The one node: Pods run as processes. Tests add the images that they need."""
    with Kubelet(control_plane, control_plane.authority) as node:
        yield node


@pytest.fixture
def new_namespace(control_plane: ControlPlane) -> Iterator[Callable[..., str]]:
    """Makes fresh namespaces with a service account; all are deleted after the test, which nobody waits for."""
    made: list[str] = []

    def make(*, labels: Mapping[str, str] | None = None) -> str:
        made.append(control_plane.make_namespace(labels=labels))
        return made[-1]

    yield make
    for name in made:
        control_plane.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(new_namespace: Callable[..., str]) -> str:
    """A fresh namespace."""
    return new_namespace()


@pytest.fixture(scope="session")
def helm3(control_plane: ControlPlane) -> Helm:
    """The real Helm 3, as the administrator."""
    return Helm(kube_assets.helm(3), control_plane.kubeconfig, control_plane.root / "helm3")


@pytest.fixture(scope="session")
def helm4(control_plane: ControlPlane) -> Helm:
    """The real Helm 4, as the administrator."""
    return Helm(kube_assets.helm(4), control_plane.kubeconfig, control_plane.root / "helm4")


@pytest.fixture(scope="session", params=[3, 4], ids=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Helm:
    """Each of the two in turn."""
    found: Helm = request.getfixturevalue(f"helm{request.param}")
    return found
