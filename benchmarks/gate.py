"""The gate and the way back on a small platform: two databases and a bucket of 1,000 objects. ``python -m benchmarks.gate``."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from devstack import sql
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server

ROUNDS = 3
OBJECTS = 1000
ROWS = 200_000
_DRCTL = Path(sys.executable).with_name("drctl")


def main() -> None:
    """Measure, and print one document."""
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    root.chmod(0o755)
    try:
        with PostgresServer(root / "pg") as postgres, S3Server(root / "s3") as store:
            sys.stdout.write(json.dumps(_rounds(root, postgres, store), indent=2) + "\n")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _rounds(root: Path, postgres: PostgresServer, store: S3Server) -> dict[str, Any]:
    environment = os.environ | {
        "DB": postgres.password,
        "KEY": store.access_key,
        "SECRET": store.secret_key,
        "XDG_STATE_HOME": str(root / "state"),
    }
    config = _platform(root, postgres, store)

    def run(*arguments: str) -> dict[str, Any]:
        command = [_DRCTL, "-c", config, *arguments, "--output", "json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return answer

    for role in ("write", "read"):
        run("keys", "generate-file", str(root / f"{role}.key"))
    run("init")
    gates, stages, unavailable, restores = [], [], [], []
    for number in range(ROUNDS):
        began = time.monotonic()
        gate = run("pre-upgrade", "--point", f"p{number}")["gate"]
        gates.append(time.monotonic() - began)
        stages.append(gate["seconds"])
        began = time.monotonic()
        done = run("restore", "--point", f"p{number}", "--yes")["restored"]["components"]
        restores.append(time.monotonic() - began)
        unavailable += [
            part["unavailable_seconds"] for part in done.values() if part.get("unavailable_seconds")
        ]
        run("restore", "--cleanup", "--yes")
    return {
        "pre_upgrade_seconds": [round(s, 2) for s in gates],
        "stages_median": {key: statistics.median(s[key] for s in stages) for key in stages[0]},
        "restore_of_everything_seconds": [round(s, 2) for s in restores],
        "name_unavailable_seconds": {"median": statistics.median(unavailable), "longest": max(unavailable)},
    }


def _platform(root: Path, postgres: PostgresServer, store: S3Server) -> Path:
    store.create_bucket("metrics")
    client = store.client()
    for number in range(OBJECTS):
        client.put_object(Bucket="metrics", Key=f"blocks/{number:04}", Body=os.urandom(4096))
    parts = []
    for name in ("console", "sql"):
        noise = f"SELECT n AS id, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, {ROWS}) n"
        sql.execute(postgres.create_database(name), f"CREATE TABLE t AS {noise}", "CREATE INDEX ON t (id)")
        where = f"host: {postgres.host}, port: {postgres.port}, database: {name}, user: postgres"
        parts.append(f'  {name}-db: {{kind: postgres-dump, connection: {{{where}, password: "env:DB"}}}}\n')
    config = root / "drctl.yaml"
    config.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
{"".join(parts)}  cortex:
    kind: bucket
    url: s3://metrics
    s3: {{endpoint: "{store.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}
""")
    return config


if __name__ == "__main__":
    main()
