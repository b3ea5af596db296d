"""Workloads to zero and back on the real API server, the lease that guards it, and ``drctl resume`` after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from dr_toolkit.cluster import lease
from dr_toolkit.cluster import replicas as workloads
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.config import ClusterConfig
from dr_toolkit.errors import TargetError
from tests.integration.test_gate import DRCTL

KILLED = """
    import os, signal, sys
    from dr_toolkit.cluster.client import Cluster
    from dr_toolkit.config import ApplicationConfig, ClusterConfig
    from dr_toolkit.jobs import quiet
    from dr_toolkit.log import NoProgress

    kubeconfig, namespace, step = sys.argv[1:]
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    with Cluster(ClusterConfig(kubeconfig=kubeconfig)) as cluster:
        rest = quiet.plan(cluster, {"console": ApplicationConfig(kind="console", namespace=namespace)})
        with quiet.session(cluster, rest, "test", wait_seconds=60) as session:
            if step == "half":
                patch, seen = cluster.patch, []
                def counted(path, *more, **named):
                    answer = patch(path, *more, **named)
                    if "deployments" in path:
                        die()
                    return answer
                cluster.patch = counted
            session.down(NoProgress())
            die()
"""


@pytest.fixture
def platform(control_plane, namespace):
    """Two workloads of one release, with 2 and 3 replicas."""
    labels = {"app.kubernetes.io/instance": "console"}
    for name, count in (("one", 2), ("two", 3)):
        pod = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "x.invalid/c:1.46.0"}]},
        }
        control_plane.create(
            f"/apis/apps/v1/namespaces/{namespace}/deployments",
            {
                "metadata": {"name": name, "labels": labels},
                "spec": {"replicas": count, "selector": {"matchLabels": {"app": name}}, "template": pod},
            },
        )
    return namespace


@pytest.fixture
def cluster(control_plane):
    with Cluster(ClusterConfig(kubeconfig=str(control_plane.kubeconfig))) as found:
        yield found


def replicas(cluster: Cluster, namespace: str) -> dict[str, tuple[int, int | None]]:
    found = workloads.find(cluster, namespace, release="console", named=None)
    return {one.name: (one.replicas, one.intended) for one in found}


@pytest.mark.parametrize("step", ["half", "all"])
def test_a_killed_run_leaves_what_is_meant_and_resume_gives_it_back(
    control_plane, cluster, platform, tmp_path, step
):
    """Killed between two workloads, or at zero: the number is on the workload and in the lease; resume needs --take-over while the lease lives."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(control_plane.kubeconfig), platform, step]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    left = replicas(cluster, platform)
    assert left == {"one": (0, 2), "two": (3, None) if step == "half" else (0, 3)}
    held = lease.read(cluster, platform)
    assert held is not None
    assert workloads.read_record(held.scaled) == {"deployment/one": 2, "deployment/two": 3}
    control_plane.request(  # a tool that knows nothing of our marks took one away
        "PATCH",
        f"/apis/apps/v1/namespaces/{platform}/deployments/one",
        {"metadata": {"annotations": {workloads.INTENDED: None}}},
    )
    config = tmp_path / "drctl.yaml"
    config.write_text(
        f"""version: 1
repository: {{url: "file://{tmp_path}/none"}}
keys: {{k: {{type: key-file, path: {tmp_path}/k}}}}
components: {{cortex: {{kind: bucket, url: "s3://none"}}}}
cluster: {{kubeconfig: {control_plane.kubeconfig}}}
platform: {{console: {{kind: console, namespace: {platform}}}}}
"""
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}

    def doctor() -> dict[str, tuple[str, str]]:
        done = subprocess.run(
            [DRCTL, "-c", config, "doctor", "--output", "json"],
            capture_output=True, text=True, env=environment, timeout=120, check=False,
        )  # fmt: skip
        found = [f for f in json.loads(done.stdout)["findings"] if "drctl resume" in (f["todo"] or "")]
        return {f["what"].split()[0]: (f["level"], f["todo"]) for f in found}

    alive = ("warning", "if it is surely dead: drctl resume --take-over")
    assert doctor() == {
        f"deployment/{name}": alive for name in (("one",) if step == "half" else ("one", "two"))
    }
    lease_path = f"/apis/coordination.k8s.io/v1/namespaces/{platform}/leases/{lease.NAME}"
    cluster.patch(lease_path, {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
    assert {level for level, _todo in doctor().values()} == {"failed"}
    cluster.patch(lease_path, {"spec": {"renewTime": held.renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}})

    def resume(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DRCTL, "-c", config, "resume", "--output", "json", *options],
            capture_output=True, text=True, env=environment, timeout=120, check=False,
        )  # fmt: skip

    refused = resume()
    assert (refused.returncode, "--take-over" in refused.stdout) == (1, True)
    done = resume("--take-over")
    assert done.returncode == 0, done.stdout + done.stderr
    scaled = json.loads(done.stdout)["resumed"]["scaled"]
    assert scaled[f"{platform}/deployment/one"] == 2
    assert replicas(cluster, platform) == {"one": (2, None), "two": (3, None)}
    assert json.loads(resume().stdout)["resumed"]["scaled"] == {}


def test_a_person_who_scaled_it_meanwhile_is_right(cluster, platform):
    """What was at zero before stays there; what somebody scaled up keeps their number, and only our marks go."""
    [one, two] = workloads.find(cluster, platform, release="console", named=None)
    cluster.patch(two.path, {"spec": {"replicas": 0}})
    two = workloads.scale_down(cluster, workloads.again(cluster, two))
    assert not workloads.scale_up(cluster, two)
    one = workloads.scale_down(cluster, one)
    cluster.patch(one.path, {"spec": {"replicas": 7}})
    assert workloads.scale_up(cluster, one)
    assert replicas(cluster, platform) == {"one": (7, None), "two": (0, None)}


def test_two_people_at_once_do_not_meet(cluster, namespace):
    """The second is told who, what and since when; who is taken over stops at the next step; a lease that was given back is free."""
    with lease.held(cluster, namespace, "restore of a") as first:
        with (
            pytest.raises(TargetError, match=r"pid \d+.* since .*: restore of a"),
            lease.held(cluster, namespace, "b"),
        ):
            pass
        first.check()
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease.NAME}"
        cluster.patch(path, {"spec": {"holderIdentity": "ann@other (pid 1)"}})
        with pytest.raises(TargetError):  # the next write finds out
            _written(first)
        with pytest.raises(TargetError, match="ann@other"):
            first.check()
    cluster.patch(path, {"spec": {"holderIdentity": None}})
    with lease.held(cluster, namespace, "c") as again:
        again.check()


def _written(held: lease.Lease) -> None:
    try:
        held.remember("{}")
    except Exception as error:
        raise TargetError(str(error)) from error
