"""A cluster that pgbench filled, repositories of drctl, and what pgBackRest, Barman and PostgreSQL's own programs need to do the same work."""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Self

from benchmarks.measure import Run, Servers, drctl, pipeline
from benchmarks.site import Store
from devstack import programs, sql, versions
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.keys import key_file

COMPONENT = "base"
MB_AT_SCALE_ONE = 15.0
"""What a cluster grows by for each unit of pgbench's scale."""
CORES = 2
CHANGES = {
    "1% of rows in one place": "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid BETWEEN {first} AND {last}",
    "0.1% of rows at random": "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE hashint4(aid) % 1000 = {number}",
}

YAML = """\
version: 1
repository:
  url: {url}
{s3}keys:
  key: {{type: key-file, role: read, path: {key}}}
components:
  base:
    kind: postgres-base
    connection:
      {{host: {server.socket_dir}, port: {server.port}, database: postgres, user: postgres, password: "env:PGPASSWORD", programs: {programs}}}
verify: {{programs: {programs}}}
"""
YAML_S3 = """\
  s3: {{endpoint: "{endpoint}", access_key_id: env:BENCH_S3_KEY, secret_access_key: env:BENCH_S3_SECRET, ca_file: "{ca}"}}
"""
PGBACKREST = """\
[global]
{repository}
repo1-bundle=y
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={password}
repo1-retention-full=100
compress-type=zst
compress-level=1
process-max={cores}
start-fast=y
log-level-console=warn
log-level-file=off
lock-path={place}/lock
spool-path={place}/spool
[bench]
pg1-path={server.data}
pg1-port={server.port}
pg1-socket-path={server.socket_dir}
pg1-user=postgres
"""
PGBACKREST_S3 = """\
repo1-type=s3
repo1-path=/repository
repo1-s3-bucket={bucket}
repo1-s3-endpoint={host}
repo1-s3-region={region}
repo1-s3-uri-style=path
repo1-s3-key={key}
repo1-s3-key-secret={secret}
repo1-storage-host={host}
repo1-storage-port={port}
repo1-storage-ca-file={ca}"""
BARMAN = """\
[barman]
barman_user = {user}
configuration_files_directory = {place}/more
barman_home = {place}/home
log_file = {place}/barman.log
[bench]
description = bench
conninfo = host={server.socket_dir} port={server.port} user=postgres dbname=postgres
streaming_conninfo = host={server.socket_dir} port={server.port} user=postgres
backup_method = postgres
backup_compression = zstd
backup_compression_level = 1
backup_compression_location = client
immediate_checkpoint = true
archiver = on
path_prefix = {server.bin_dir}
minimum_redundancy = 0
"""


class BaseSite:
    """A server with a filled cluster, in one temporary directory.

    Args:
        megabytes: of the cluster.
        version: of PostgreSQL.
        root: where; everything in it is removed at the end.
    """

    def __init__(self, megabytes: float, version: int, root: Path | None = None) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="drctl-bench-"))
        self.root.chmod(0o755)
        self.scale = max(1, round(megabytes / MB_AT_SCALE_ONE))
        settings = {
            "archive_mode": "on",
            "archive_command": "true",
            "autovacuum": "off",
            "max_wal_size": "8GB",
        }
        if version >= 17:
            settings |= {"summarize_wal": "on"}
        self.postgres = PostgresServer(self.root / "postgres", version=version, settings=settings)
        self.s3 = S3Server(self.root / "s3", tls=True)
        self.servers = Servers(lambda: self.postgres.pid, lambda: self.s3.pid)
        self.user = programs.unprivileged_user()
        self._password = secrets.token_hex(16)
        self._numbers = itertools.count(1)
        self._changes = itertools.count(1)
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.root), "LC_ALL": "C.UTF-8"}

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.s3.start()
            key_file.generate(str(self.root / "key"))
            self.env |= {
                "PGPASSWORD": self.postgres.password,
                "BENCH_S3_KEY": self.s3.access_key,
                "BENCH_S3_SECRET": self.s3.secret_key,
            }
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
        self.run("pgbench", "--initialize", "--quiet", "--scale", str(self.scale), "postgres", *self.where)
        self.settle()

    @property
    def where(self) -> tuple[str, ...]:
        """How PostgreSQL's programs come to the server: by its socket, as pgBackRest does, which can only be on the same machine."""
        return ("-h", str(self.postgres.socket_dir), "-p", str(self.postgres.port), "-U", "postgres")

    @property
    def bytes(self) -> int:
        """Of the cluster's files, WAL left out."""
        return sum(
            path.stat().st_size
            for path in self.postgres.data.rglob("*")
            if path.is_file() and "pg_wal" not in path.parts
        )

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(versions.client_programs(self.postgres.version) / name)

    def run(self, name: str, *arguments: str, as_user: bool = False) -> Run:
        """Run one of PostgreSQL's programs."""
        argv = [self.program(name), *arguments]
        run, _out = pipeline([argv], self.servers, env=self.env, user=self.user if as_user else None)
        return run

    def settle(self) -> None:
        """Nobody pays for what a change before has left to do."""
        sql.execute(self.postgres.dsn(), "CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT")

    def change(self, what: str) -> None:
        """Change rows; each call takes other ones.

        Args:
            what: a name in ``CHANGES``.
        """
        number, rows = next(self._changes), self.scale * 100_000
        first = rows // 100 * (number % 97) + 1
        statement = CHANGES[what].format(first=first, last=first + rows // 100 - 1, number=number)
        sql.execute(self.postgres.dsn(), statement)
        self.settle()

    def folder(self, name: str) -> Path:
        """Make a new directory that the server's user owns."""
        place = self.root / f"{name}-{next(self._numbers)}"
        place.mkdir(mode=0o750)
        if self.user:
            shutil.chown(place, self.user)
        return place

    def archive_with(self, command: str) -> None:
        """Have the server archive its WAL so."""
        sql.execute(
            self.postgres.dsn(), f"ALTER SYSTEM SET archive_command = '{command}'", "SELECT pg_reload_conf()"
        )
        self.settle()

    # -- drctl ---------------------------------------------------------------------------------------------------------

    def new_repository(self, store: Store) -> Path:
        """Make an empty repository; gives its configuration."""
        number = next(self._numbers)
        url = f"file://{self.root}/repository-{number}"
        if store == "s3":
            url = f"s3://bench-{number}/repository"
            self.s3.create_bucket(f"bench-{number}")
        config = self.root / f"{number}.yaml"
        config.write_text(
            YAML.format(
                url=url,
                s3=YAML_S3.format(endpoint=self.s3.endpoint, ca=self.s3.ca_file) if store == "s3" else "",
                key=self.root / "key",
                server=self.postgres,
                programs=versions.client_programs(self.postgres.version),
            )
        )
        made = self.drctl(config, "init")
        trusted = f"repository:\n  trust: {made.document['trust']}\n"
        config.write_text(config.read_text().replace("repository:\n", trusted))
        return config

    def remove_repository(self, config: Path) -> None:
        """Give back the space of a repository on disk."""
        shutil.rmtree(self.root / f"repository-{config.stem}", ignore_errors=True)

    def drctl(self, config: Path, *arguments: str) -> Run:
        """Run drctl with a configuration."""
        program = programs.installed_script("drctl")
        if program is None:
            raise SystemExit("drctl is not installed beside this Python: pip install -e .")
        return drctl([program, *arguments, "--config", str(config)], self.servers, env=self.env)

    # -- the peers -----------------------------------------------------------------------------------------------------

    def new_pgbackrest(self, store: Store) -> Path:
        """Make an empty repository of pgBackRest, to which the server archives; gives its configuration."""
        place = self.folder("pgbackrest")
        repository = f"repo1-path={place}/repository"
        if store == "s3":
            bucket = place.name
            self.s3.create_bucket(bucket)
            repository = PGBACKREST_S3.format(
                bucket=bucket,
                host="localhost",  # it looks for no address in a certificate
                port=self.s3.port,
                region=self.s3.region,
                key=self.s3.access_key,
                secret=self.s3.secret_key,
                ca=self.s3.ca_file,
            )
        config = place / "pgbackrest.conf"
        config.write_text(
            PGBACKREST.format(
                repository=repository,
                password=self._password,
                place=place,
                server=self.postgres,
                cores=CORES,
            )
        )
        config.chmod(0o600)
        if self.user:
            shutil.chown(config, self.user)
        self.pgbackrest(config, "stanza-create")
        self.archive_with(f"{shutil.which('pgbackrest')} --config={config} --stanza=bench archive-push %p")
        return config

    def pgbackrest(self, config: Path, *arguments: str) -> Run:
        """Run pgBackRest, and say by how much its backups grew."""
        argv = ["pgbackrest", f"--config={config}", "--stanza=bench", *arguments]
        before = tree_size(config.parent / "repository" / "backup")
        run, _out = pipeline([argv], self.servers, env=self.env, user=self.user)
        run.stored = tree_size(config.parent / "repository" / "backup") - before
        return run

    def new_barman(self) -> Path:
        """Make an empty catalogue of Barman, to which the server archives; gives its configuration."""
        place = self.folder("barman")
        place.chmod(0o755)
        config = place / "barman.conf"
        config.write_text(
            BARMAN.format(place=place, server=self.postgres, user=pwd.getpwuid(os.geteuid()).pw_name)
        )
        for name in ("more", "home", "home/bench", "home/bench/incoming"):
            (place / name).mkdir()
            (place / name).chmod(0o777)  # the server's user writes its WAL here; Barman itself runs as we do
        self.archive_with(f"cp %p {place}/home/bench/incoming/%f")
        self.barman(config, "cron")
        return config

    def barman(self, config: Path, *arguments: str) -> Run:
        """Run Barman."""
        argv = [programs.installed_script("barman") or "barman", "-q", "-c", str(config), *arguments]
        before = tree_size(config.parent / "home" / "bench" / "base")
        run, _out = pipeline([argv], self.servers, env=self.env)
        run.stored = tree_size(config.parent / "home" / "bench" / "base") - before
        return run

    def start_and_stop(self, directory: Path) -> Run:
        """Start a restored cluster on a socket of its own, ask it something, and stop it."""
        options = f"-c listen_addresses= -c unix_socket_directories={directory} -c archive_mode=off"
        run = self.run(
            "pg_ctl",
            "start",
            "-w",
            "-t",
            "600",
            "-D",
            str(directory),
            "-o",
            options,
            "-l",
            f"{directory}/start.log",
            as_user=True,
        )
        stop = self.run("pg_ctl", "stop", "-w", "-D", str(directory), as_user=True)
        return Run(run.seconds + stop.seconds, run.cpu + stop.cpu, run.servers_cpu)


def tree_size(place: Path) -> int:
    """Bytes of all files below a directory; 0 where there is none."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def missing_peers() -> list[str]:
    """What this machine lacks for the work, each with how to get it."""
    missing = []
    if shutil.which("pgbackrest") is None:
        missing.append("the program pgbackrest (apt-get install pgbackrest)")
    if not versions.installed(15):
        missing.append("PostgreSQL 15 (apt-get install postgresql-15)")
    return missing


def has_barman() -> bool:
    """Whether Barman is here (``pip install barman``, which builds psycopg2: so it is in no extra)."""
    return programs.installed_script("barman") is not None
