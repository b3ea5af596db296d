"""``python -m benchmarks.increment``: native increments of PostgreSQL 18 against our own full, on a pgbench-like table. Takes some minutes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from devstack import sql
from devstack.postgres import PostgresServer

DRCTL = Path(sys.executable).with_name("drctl")
ROW_BYTES = 134
"""Of a row of the table, with its header and its place in the index."""
_CONFIG = """
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  base:
    kind: postgres-base
    connection: {{host: {server.host}, port: {server.port}, database: postgres, user: postgres, password: "env:DB"}}
"""


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=2000, metavar="MB", help="of the cluster (2000)")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    root.chmod(0o755)
    settings = {"summarize_wal": "on", "autovacuum": "off", "max_wal_size": "8GB"}
    try:
        with PostgresServer(root / "pg", version=18, settings=settings) as server:
            _measure(root, server, int(asked.size * 1_000_000 / ROW_BYTES))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _measure(root: Path, server: PostgresServer, rows: int) -> None:
    dsn = server.dsn()
    sql.execute(
        dsn,
        "CREATE TABLE accounts (aid int, bid int, abalance int, filler char(84)) WITH (fillfactor = 100)",
        f"INSERT INTO accounts SELECT g, g % 20, 0, md5(g::text) FROM generate_series(1, {rows}) g",
        "ALTER TABLE accounts ADD PRIMARY KEY (aid)",
        "VACUUM (FREEZE, ANALYZE) accounts",
        "CHECKPOINT",
    )
    environment = os.environ | {"DB": server.password}
    config = root / "drctl.yaml"
    config.write_text(_CONFIG.format(root=root, server=server))
    for role in ("write", "read"):
        _drctl(config, environment, "keys", "generate-file", str(root / f"{role}.key"))
    _drctl(config, environment, "init")
    changes = {
        "nothing changed": "SELECT 1",
        "1% of rows in one place": f"UPDATE accounts SET abalance = 1 WHERE aid BETWEEN 1000 AND {1000 + rows // 100}",
        "0.1% of rows at random": "UPDATE accounts SET abalance = abalance + 1 WHERE hashint4(aid) % 1000 = 7",
        "0.1% of rows at random, again": "UPDATE accounts SET abalance = abalance + 1 WHERE hashint4(aid) % 1000 = 8",
    }
    full = _backup(config, environment, "full")
    for what, statement in changes.items():
        sql.execute(dsn, statement, "CHECKPOINT")
        taken = _backup(config, environment, what)
        print(f"  of the full: {taken / full:.2f} of its time", flush=True)


def _backup(config: Path, environment: dict[str, str], what: str) -> float:
    began = time.perf_counter()
    done = _drctl(config, environment, "backup", "--output", "json")
    seconds = time.perf_counter() - began
    [taken] = json.loads(done)["snapshots"]
    print(
        f"{what}: {taken['method']}, {seconds:.2f} s (load {os.getloadavg()[0]:.1f}), read {taken['bytes_source'] >> 20} MiB, "
        f"new {taken['bytes_new'] / 2**20:.1f} MiB, stored {taken['bytes_stored'] / 2**20:.2f} MiB",
        flush=True,
    )
    return seconds


def _drctl(config: Path, environment: dict[str, str], *arguments: str) -> str:
    result: subprocess.CompletedProcess[Any] = subprocess.run(
        [DRCTL, "-c", config, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return str(result.stdout)


if __name__ == "__main__":
    main()
