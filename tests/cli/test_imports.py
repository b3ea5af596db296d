"""Which commands pay for the Kubernetes library: those that touch the cluster, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

RUN = """
import json, sys
from dr_toolkit.cli.main import run
guilty = []
for arguments in json.loads(sys.argv[1]):
    run(arguments)
    if "kubernetes" in sys.modules:
        guilty.append(arguments)
        break
sys.stderr.write("\\n" + json.dumps(guilty))
"""
ELSEWHERE = [
    ["--help"],
    ["config", "check"],
    ["config", "example"],
    ["keys", "list"],
    ["snapshots"],
    ["status"],
    ["verify"],
    ["verify", "--restore", "kept"],
    ["backup", "kept"],
    ["restore", "kept", "--dry-run"],
    ["restore"],
    ["show", "20261123T084549Z-00000000000000000000000000000000"],
]


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A repository and a platform in a cluster that nobody can reach."""
    root = tmp_path_factory.mktemp("imports")
    file = root / "drctl.yaml"
    file.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys: {{k: {{type: key-file, path: {root}/k.key}}}}
cluster: {{kubeconfig: {root}/none}}
components:
  releases: {{kind: helm, namespaces: [a]}}
  secrets: {{kind: secrets, namespaces: [a]}}
  kept: {{kind: bucket, url: "s3://nowhere", s3: {{endpoint: "http://127.0.0.1:1", access_key_id: "env:A", secret_access_key: "env:B"}}}}
""")
    assert imported(file, [["keys", "generate-file", str(root / "k.key")], ["init"]]) == []
    return file


def imported(file, commands):
    """The first of some commands, run one after the other in one process, after which the library was there."""
    # Without its credentials the bucket fails before anything is waited for.
    environment = {key: value for key, value in os.environ.items() if key not in {"A", "B"}}
    listed = json.dumps([["-c", str(file), *one] for one in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUN, listed],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return [one[2:] for one in json.loads(done.stderr.rpartition("\n")[2])]


def test_the_library_is_imported_by_commands_that_touch_the_cluster_and_by_no_other(configured):
    """Also where releases and Secrets are configured: looking at what is stored, or at other kinds, costs nothing of it."""
    assert imported(configured, ELSEWHERE) == []
    for arguments in (["backup", "releases"], ["discover"], ["doctor"]):
        assert imported(configured, [arguments]) == [arguments]


def test_jobs_of_the_cluster_load_nothing_of_a_database():
    """Backups and restores of releases and Secrets cost neither the time nor the 26 MB of PostgreSQL's libraries."""
    code = (
        "import sys; from dr_toolkit.jobs import helm_backup, helm_restore, secrets_backup, secrets_restore;"
        "print([name for name in ('numpy', 'psycopg', 'kubernetes') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
