"""The lines of all runbooks that only a cluster can carry out, in the order of their pages, on the real API server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.integration.test_runbooks import ELSEWHERE, commands
from tests.kube.test_cluster_kinds import CHARTS, Site

RUNBOOKS = Path(__file__).parents[2] / "runbooks"


def test_every_cluster_line_of_every_runbook_is_carried_out(control_plane, namespace, helm3, tmp_path):
    """Workloads are scaled as the pages say; of a namespace that was lost the Secrets are named and the releases come back as files that the real Helm installs."""
    labels = {"app": "x"}
    container = {"name": "c", "image": "example.invalid/x:1"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    for name in ("conduktor-console", "conduktor-console-cortex"):
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
        control_plane.create(deployments, {"metadata": {"name": name}, "spec": spec})
    helm3.install("main", CHARTS / "console", namespace, {"platform": {"replicas": 0}})
    secret = f"/api/v1/namespaces/{namespace}/secrets"
    control_plane.create(secret, {"metadata": {"name": "kept"}, "stringData": {"KEY": "kept-value-1"}})
    site = Site(tmp_path, control_plane, [namespace])
    assert site.run("backup").returncode == 0
    helm3.run("uninstall", "main", "--namespace", namespace)
    control_plane.delete(f"{secret}/kept")

    kubectl = [control_plane.kubectl, "--kubeconfig", control_plane.kubeconfig]
    done: dict[str, str] = {}
    scaled: list[tuple[str, int, int]] = []
    for page in sorted(RUNBOOKS.glob("*.md")):
        for line in commands(page.name):
            if not line.startswith(ELSEWHERE) or line in done:
                continue
            words = (
                line.replace("-n conduktor ", f"-n {namespace} ").replace("/var/tmp/", f"{tmp_path}/").split()
            )
            if words[0] == "kubectl":
                ran = subprocess.run(
                    [*kubectl, *words[1:]], capture_output=True, text=True, check=False, timeout=60
                )
            else:
                ran = site.run(*words[1:])
            assert ran.returncode == 0, f"{page.name}: {line}: {ran.stdout}{ran.stderr}"
            done[line] = ran.stdout
            for name, replicas in re.findall(r"scale deployment (\S+) --replicas=(\d+)", line):
                scaled.append(
                    (name, int(replicas), control_plane.get(f"{deployments}/{name}")["spec"]["replicas"])
                )
    assert len(done) >= 4
    assert [there for _, _, there in scaled] == [wanted for _, wanted, _ in scaled]
    for name in ("conduktor-console", "conduktor-console-cortex"):
        assert [wanted for which, wanted, _ in scaled if which == name] == [0, 1], (
            "what is scaled down comes up again"
        )
    assert "kept" in done["drctl restore secrets"]
    made = tmp_path / "releases" / namespace / "main"
    values = ["--values", str(made / "values.yaml"), "--namespace", namespace]
    helm3.run("install", "main", str(made / "chart"), *values)
    assert [revision["status"] for revision in helm3.history("main", namespace)] == ["deployed"]
