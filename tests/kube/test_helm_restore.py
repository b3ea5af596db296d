"""What ``drctl restore releases --to DIR`` writes is run: the real Helm brings the releases back on the real API server."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.kube.test_cluster_kinds import CHARTS, CONSOLE, Site


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def chart_repository(tmp_path):
    """A directory that is served as Helm's chart repositories are, and its URL."""
    place = tmp_path / "charts"
    place.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(place)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield place, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def own_chart(root: Path) -> Path:
    """A chart that no repository has."""
    chart = root / "acme"
    shutil.copytree(CHARTS / "console", chart)
    facts = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(facts | {"name": "acme"}))
    return chart


def test_the_script_of_each_release_brings_it_back(
    control_plane, namespace, helm, tmp_path, chart_repository
):
    """From a repository and from the chart that Helm kept; from Secrets and from ConfigMaps; then nothing differs from the snapshot."""
    place, url = chart_repository
    helm.run("package", str(CHARTS / "console"), "--destination", str(place))
    helm.run("repo", "index", str(place), "--url", url)
    odd = CONSOLE | {"commonAnnotations": {"note": "on: 'é' 012 {{ x }}"}}
    helm.install("main", CHARTS / "console", namespace, odd)
    helm.install("other", own_chart(tmp_path), namespace, CONSOLE, driver="configmap")
    site = Site(tmp_path, control_plane, [namespace])
    text = site.config.read_text().replace("drivers:", f'repositories: {{console: "{url}"}}, drivers:')
    site.config.write_text(text)
    site.json("backup", "releases")
    helm.run("uninstall", "main", "--namespace", namespace)
    helm.run("uninstall", "other", "--namespace", namespace, driver="configmap")
    gone = site.json("restore", "releases", "--diff")["restored"]["differences"]
    assert {(one["release"], one["absent"]) for one in gone} == {
        ("main", "no deployed revision is live"),
        ("other", "no deployed revision is live"),
    }
    written = site.json("restore", "releases", "--to", str(tmp_path / "out"))["restored"]["releases"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").symlink_to(helm.program)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(helm.home), "KUBECONFIG": str(control_plane.kubeconfig)}  # fmt: skip
    for one in written:
        script = Path(one["directory"], "restore.sh")
        assert os.access(script, os.X_OK)
        done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert {one["release"]: one["chart_from"] for one in written} == {
        "main": "repository",
        "other": "rebuilt",
    }
    assert helm.status("main", namespace) == "deployed"
    kept = yaml.safe_load(helm.run("get", "values", "main", "--namespace", namespace, "--output", "yaml"))
    assert kept == odd
    same = site.json("restore", "releases", "--diff")["restored"]["differences"]
    assert [one["release"] for one in same if one["same"]] == ["main", "other"], same
