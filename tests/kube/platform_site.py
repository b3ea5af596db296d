"""A small site for Pods: a database with some rows, a repository in a directory, and what a Pod's ConfigMap and Secret hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from devstack import sql
from devstack.kube import ControlPlane
from devstack.kubelet import Kubelet
from devstack.postgres import PostgresServer

DRCTL = Path(sys.executable).with_name("drctl")
FLYWAY = """
    CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version text, description text, installed_on timestamp DEFAULT now(), success boolean);
    INSERT INTO flyway_schema_history VALUES (1, '47', 'alerts', now(), true)
"""


class PlatformSite:
    """One database and one repository.

    Args:
        root: a directory that other users can enter.
        postgres: where the database is.
        database: its name.
        repository: the section; by default a directory below ``root``.
        more: further sections of the configuration.
    """

    def __init__(
        self, root: Path, postgres: PostgresServer, database: str, *, repository: str = "", more: str = ""
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.postgres, self.database = root, postgres, database
        self.dsn = postgres.dsn(database)
        sql.execute(
            self.dsn,
            "CREATE TABLE users (id int PRIMARY KEY, name text)",
            "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) n",
            FLYWAY,
        )
        self.secret = {"CONSOLE_DB_PASSWORD": postgres.password}
        self.repository = repository or f'{{url: "file://{root}/repository"}}'
        self.more = more
        self.config = root / "drctl.yaml"
        self.config.write_text(self.configuration())
        for role in ("write", "read"):
            self.run("keys", "generate-file", str(root / f"{role}.key"))

    def configuration(self) -> str:
        """The text of ``drctl.yaml``."""
        where = f"host: {self.postgres.host}, port: {self.postgres.port}, database: {self.database}, user: postgres"
        return f"""
version: 1
repository: {self.repository}
keys:
  write: {{type: key-file, role: write, path: {self.root}/write.key}}
  read: {{type: key-file, role: read, path: {self.root}/read.key}}
components:
  console-db:
    kind: postgres-dump
    connection: {{{where}, password: "env:CONSOLE_DB_PASSWORD"}}
{self.more}"""

    def run(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run drctl here, as an operator."""
        done = subprocess.run(
            [DRCTL, "-c", self.config, *arguments],
            env=os.environ | self.secret | environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, code: int = 0, **environment: str) -> dict:
        """Run drctl here and read its answer."""
        return json.loads(self.run(*arguments, "--output", "json", code=code, **environment).stdout)

    def snapshots(self) -> list[dict]:
        """Ask the repository."""
        return self.json("snapshots")["snapshots"]

    def configure(self, api: ControlPlane, namespace: str, account: str) -> None:
        """Put ConfigMap and Secret of an account into a namespace, or replace what is there."""
        kind = account.removeprefix("drctl-")
        texts = {"drctl.yaml": self.configuration()}
        for plural, name, key, data in (
            ("configmaps", f"drctl-config-{kind}", "data", texts),
            ("secrets", account, "stringData", self.secret),
        ):
            path = f"/api/v1/namespaces/{namespace}/{plural}"
            api.delete(f"{path}/{name}")
            api.create(path, {"metadata": {"name": name}, key: data})


def add_drctl(kubelet: Kubelet, image: str) -> None:
    """Let an image be this drctl."""
    environment = {"DRCTL_CONFIG": "/etc/drctl/drctl.yaml"}
    kubelet.add_image(image, [str(DRCTL)], named={"drctl": [str(DRCTL)]}, environment=environment)
