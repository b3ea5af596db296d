"""The gate and the way back on a small platform: two databases, a bucket of 1,000 objects, two Helm releases. ``python -m benchmarks.gate``.

The repository is a bucket, the releases are those of the real Helm on the real API server of the tests (``make kube-assets``). What whose time is: `shares`.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dr_toolkit
from benchmarks import shares
from devstack import kube_assets, sql
from devstack.helm import Helm
from devstack.kube import ControlPlane
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server

ROUNDS = 3
OBJECTS = 1000
ROWS = 200_000
_DRCTL = Path(sys.executable).with_name("drctl")


_CHARTS = Path(__file__).parents[1] / "tests/kube/charts"


def main() -> None:
    """Measure, and print one document."""
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    root.chmod(0o755)
    try:
        with (
            PostgresServer(root / "pg") as postgres,
            S3Server(root / "s3") as store,
            ControlPlane(root / "kube") as plane,
        ):
            found = _rounds(root, postgres, store, plane)
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _rounds(root: Path, postgres: PostgresServer, store: S3Server, plane: ControlPlane) -> dict[str, Any]:
    environment = os.environ | {
        "DB": postgres.password,
        "KEY": store.access_key,
        "SECRET": store.secret_key,
        "XDG_STATE_HOME": str(root / "state"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(str(Path(dr_toolkit.__file__).parent), quiet=2)  # as pip does when it installs
    config = _platform(root, postgres, store, plane)
    servers: dict[str, Callable[[], int | None]] = {
        shares.PROGRAMS: lambda: postgres.pid,
        "S3": lambda: store.pid,
    }

    def run(*arguments: str) -> shares.Divided:
        command = [str(_DRCTL), "-c", str(config), *arguments]
        return shares.run(command, env=environment, servers=servers)

    for role in ("write", "read"):
        run("keys", "generate-file", str(root / f"{role}.key"))
    trust = run("init").document["trust"]
    config.write_text(
        config.read_text().replace("repository: {url:", f'repository: {{trust: "{trust}", url:', 1)
    )
    gates, restores = [], []
    load = [round(os.getloadavg()[0], 1)]
    for number in range(ROUNDS):
        gates.append(run("pre-upgrade", "--point", f"p{number}"))
        restores.append(run("restore", "--point", f"p{number}", "--yes"))
        run("restore", "--cleanup", "--yes")
        load.append(round(os.getloadavg()[0], 1))
    unavailable = [
        part["unavailable_seconds"]
        for one in restores
        for part in one.document["restored"]["components"].values()
        if part.get("unavailable_seconds") is not None
    ]
    stages = [one.document["gate"]["seconds"] for one in gates]
    return {
        "load": load,
        "pre_upgrade": _summary(gates),
        "stages_median": {key: statistics.median(s[key] for s in stages) for key in stages[0]},
        "restore_of_everything": _summary(restores),
        "name_unavailable_seconds": {"median": statistics.median(unavailable), "longest": max(unavailable)},
    }


def _summary(runs: list[shares.Divided]) -> dict[str, Any]:
    return {
        "seconds": [round(one.seconds, 2) for one in runs],
        "alone": [round(one.alone, 3) for one in runs],
        "shares": [{name: round(value, 3) for name, value in one.shares.items()} for one in runs],
        "cpu_seconds": [{name: round(value, 2) for name, value in one.cpu.items()} for one in runs],
    }


def _platform(root: Path, postgres: PostgresServer, store: S3Server, plane: ControlPlane) -> Path:
    for bucket in ("metrics", "backups"):
        store.create_bucket(bucket)
    client = store.client()
    for number in range(OBJECTS):
        client.put_object(Bucket="metrics", Key=f"blocks/{number:04}", Body=os.urandom(4096))
    parts = []
    for name in ("console", "sql"):
        noise = f"SELECT n AS id, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, {ROWS}) n"
        sql.execute(postgres.create_database(name), f"CREATE TABLE t AS {noise}", "CREATE INDEX ON t (id)")
        where = f"host: {postgres.host}, port: {postgres.port}, database: {name}, user: postgres"
        parts.append(f'  {name}-db: {{kind: postgres-dump, connection: {{{where}, password: "env:DB"}}}}\n')
    namespace = plane.make_namespace()
    helm = Helm(kube_assets.helm(3), plane.kubeconfig, root / "helm")
    helm.install("console", _CHARTS / "console", namespace, {"platform": {"replicas": 0}})
    helm.install("gateway", _CHARTS / "conduktor-gateway", namespace, {"gateway": {"replicas": 0}})
    s3 = f'{{endpoint: "{store.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}'
    config = root / "drctl.yaml"
    config.write_text(f"""
version: 1
repository: {{url: "s3://backups/platform", s3: {s3}}}
cluster: {{kubeconfig: {plane.kubeconfig}}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
{"".join(parts)}  cortex: {{kind: bucket, url: "s3://metrics", s3: {s3}}}
  releases: {{kind: helm, namespaces: [{namespace}]}}
  secrets: {{kind: secrets, namespaces: [{namespace}]}}
""")
    return config


if __name__ == "__main__":
    main()
